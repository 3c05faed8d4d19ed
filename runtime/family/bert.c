/*
 * bert: layer norms behind the residuals and above the embeddings, biases everywhere, learned
 * positions, token types, attention over the whole sequence, GELU by erf. What a file has above the
 * last layer counts only where it is a classifier of tokens or of texts, the pooler below the
 * latter, or, of the classes that have it, the head of masked tokens: the next sentence and answers
 * do not. GGUF files have places for the pooler and, above it, for labels of texts. Sources: Devlin
 * et al., arXiv:1810.04805; transformers' BertConfig and modeling_bert; llama.cpp's
 * src/models/bert.cpp.
 */
#include "runtime/family/family.h"

#include "runtime/family/values.h"

static int read_sizes(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    return values_sizes(config, path,
        (const struct values_size[]){
            {"vocab_size", 30522, &c->vocab},
            {"hidden_size", 768, &c->dim},
            {"num_hidden_layers", 12, &c->layers},
            {"num_attention_heads", 12, &c->heads},
            {"intermediate_size", 3072, &c->ffn_dim},
            {"max_position_embeddings", 512, &c->context},
            {"type_vocab_size", 2, &c->types},
        },
        7, e);
}

/* As transformers counts them: by id2label, else num_labels, else two. A pooler may be missing
   where no labels of texts stand on it, and so may the head of masked tokens. */
static int read_labels(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *names = json_get(config, "id2label");
    const char *class = json_string_value(json_first(json_get(config, "architectures")));
    bool words = class && !strcmp(class, family_bert.model_class);
    bool texts = class && !strcmp(class, family_bert.text_class);
    c->pooled = !words;
    c->masked =
        class && (!strcmp(class, family_bert.masked_class) || !strcmp(class, "BertForPreTraining"));
    if (!words && !texts)
        return c->masked ? values_require(config, path, "tie_word_embeddings", true, e) : 0;
    c->several =
        texts && !strcmp(json_str(config, "problem_type", ""), "multi_label_classification");
    if (!json_is_object(names))
        return values_sizes(
            config, path, (const struct values_size[]){{"num_labels", 2, &c->labels}}, 1, e);
    c->labels = json_count(names);
    return c->labels ? 0 : err_set(e, ERR_DATA, "%s: id2label names no label", path);
}

static int require_word(
    const struct json *config, const char *path, const char *key, const char *word, struct err *e)
{
    const char *found = json_str(config, key, word);
    if (!strcmp(found, word))
        return 0;
    return err_set(e, ERR_DATA, "%s: %s \"%.32s\" is not supported", path, key, found);
}

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc;
    if ((rc = require_word(config, path, "hidden_act", "gelu", e)) ||
        (rc = require_word(config, path, "position_embedding_type", "absolute", e)) ||
        (rc = values_require(config, path, "is_decoder", false, e)) ||
        (rc = values_require(config, path, "add_cross_attention", false, e)) ||
        (rc = read_sizes(config, path, c, e)) || (rc = read_labels(config, path, c, e)))
        return rc;
    c->kv_heads = c->heads;
    c->head_dim = c->dim / c->heads;
    c->norm_eps = (float)json_num(config, "layer_norm_eps", 1e-12);
    float hidden = values_share(config, "hidden_dropout_prob", 0.1);
    c->dropout = (struct model_dropout){.embed = hidden,
        .residual = hidden,
        .attention = values_share(config, "attention_probs_dropout_prob", 0.1),
        .classifier = values_share(config, "classifier_dropout", (double)hidden)};
    return 0;
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    jsonw_int(w, "hidden_size", c->dim);
    jsonw_int(w, "intermediate_size", c->ffn_dim);
    jsonw_int(w, "num_hidden_layers", c->layers);
    jsonw_int(w, "num_attention_heads", c->heads);
    jsonw_int(w, "max_position_embeddings", c->context);
    jsonw_int(w, "type_vocab_size", c->types);
    jsonw_str(w, "hidden_act", "gelu");
    jsonw_str(w, "position_embedding_type", "absolute");
    jsonw_num(w, "layer_norm_eps", values_short(c->norm_eps));
    jsonw_num(w, "attention_probs_dropout_prob", values_short(c->dropout.attention));
    jsonw_num(w, "hidden_dropout_prob", values_short(c->dropout.residual));
    if (c->dropout.classifier != c->dropout.residual)
        jsonw_num(w, "classifier_dropout", values_short(c->dropout.classifier));
}

/* A table of types that is missing is told as such. */
static int gguf_read(const struct gguf *g, struct model_config *c, struct err *e)
{
    const struct gguf_tensor *types = values_gguf_tensor(g, "token_types.weight");
    const struct gguf_tensor *labels = values_gguf_tensor(g, "cls.output.weight");
    c->types = types ? types->shape[0] : 1;
    c->pooled = values_gguf_tensor(g, "cls.weight");
    if (!labels)
        return 0;
    c->labels = labels->shape[0];
    if (c->pooled)
        return 0;
    return err_set(e, ERR_DATA,
        "%s: cls.output.weight without cls.weight: labels of a bert model are told above a pooler, "
        "which the file lacks",
        gguf_path(g));
}

/* Of pre-training's two heads, of answers, a pooler below labels of words; a file's older parts are
   named by ends. */
static const char *const heads[] = {"pooler.dense.weight", "pooler.dense.bias",
    "embeddings.position_ids", "cls.predictions.bias", "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias", "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias", "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias", "cls.seq_relationship.weight",
    "cls.seq_relationship.bias", "qa_outputs.weight", "qa_outputs.bias", NULL};

const struct family family_bert = {
    .architecture = "bert",
    .model_class = "BertForTokenClassification",
    .text_class = "BertForSequenceClassification",
    .body_class = "BertModel",
    .masked_class = "BertForMaskedLM",
    .fixed = {.architecture = "bert",
        .norm = NORM_LAYER,
        .activation = ACTIVATION_GELU_ERF,
        .positions = POSITIONS_LEARNED,
        .qkv_bias = true,
        .o_bias = true,
        .ffn_bias = true,
        .tied_embeddings = true,
        .post_norm = true,
        .bidirectional = true,
        .embed_norm = true},
    .free_types = true,
    .json_read = json_read,
    .json_write = json_write,
    .gguf_read = gguf_read,
    .names =
        {
            [FAMILY_HF] =
                {
                    [TENSOR_EMBED] = "bert.embeddings.word_embeddings",
                    [TENSOR_POSITIONS] = "bert.embeddings.position_embeddings",
                    [TENSOR_TYPES] = "bert.embeddings.token_type_embeddings",
                    [TENSOR_NORM_EMBED] = "bert.embeddings.LayerNorm",
                    [TENSOR_NORM_ATTENTION] = "attention.output.LayerNorm",
                    [TENSOR_Q] = "attention.self.query",
                    [TENSOR_K] = "attention.self.key",
                    [TENSOR_V] = "attention.self.value",
                    [TENSOR_O] = "attention.output.dense",
                    [TENSOR_NORM_FFN] = "output.LayerNorm",
                    [TENSOR_UP] = "intermediate.dense",
                    [TENSOR_DOWN] = "output.dense",
                    [TENSOR_TRANSFORM] = "cls.predictions.transform.dense",
                    [TENSOR_NORM_TRANSFORM] = "cls.predictions.transform.LayerNorm",
                    [TENSOR_HEAD] = "cls.predictions",
                    [TENSOR_POOLER] = "bert.pooler.dense",
                },
            [FAMILY_GGUF] =
                {
                    [TENSOR_TYPES] = "token_types",
                    [TENSOR_NORM_EMBED] = "token_embd_norm",
                    [TENSOR_NORM_ATTENTION] = "attn_output_norm",
                    [TENSOR_NORM_FFN] = "layer_output_norm",
                    [TENSOR_POOLER] = "cls",
                    [TENSOR_CLASSIFIER] = "cls.output",
                },
        },
    .hf_layers = "bert.encoder.layer",
    .hf_optional = "bert.",
    .hf_adapters = {"attention.output", "output"},
    .superfluous = heads,
};
