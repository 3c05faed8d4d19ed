/*
 * Goal: a BERT is read by all the names that its files have, with the head that its class has and
 * its files hold, and is written with its labels' names. Method: the tiny golden BERTs, which label
 * words or texts or tell masked tokens, their files renamed, and their heads taken away.
 */
#include "runtime/family/weights.h"

#include "base/io.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/model_files.h"
#include "tests/unit.h"

/* Names as files have them that others than transformers' BertForTokenClassification wrote. */
enum dialect {
    BARE,
    OLD,
    NO_CLASSIFIER,
    HALF_CLASSIFIER,
    WHOLE_NUMBERS,
    NO_POOLER,
    NO_HEADS,
    BODY,
    MASKED,
    NO_MASKED,
    HALF_MASKED
};

static bool rename_bert(enum dialect d, const char *from, char to[SAFETENSORS_NAME_BYTES])
{
    const char *end = strstr(from, ".LayerNorm.");
    if ((d == NO_CLASSIFIER || d == NO_HEADS) && !strncmp(from, "classifier.", 11))
        return false;
    if ((d == NO_POOLER || d == NO_HEADS) && strstr(from, "pooler."))
        return false;
    if (d == HALF_CLASSIFIER && !strcmp(from, "classifier.bias"))
        return false;
    if (d == NO_MASKED && !strncmp(from, "cls.", 4))
        return false;
    if (d == HALF_MASKED && !strcmp(from, "cls.predictions.bias"))
        return false;
    if (d == BARE && !strncmp(from, "bert.", 5))
        from += 5;
    snprintf(to, SAFETENSORS_NAME_BYTES, "%s", from);
    if (d == OLD && end)
        snprintf(to + (end - from), 32, ".LayerNorm.%s", strstr(end, "bias") ? "beta" : "gamma");
    return true;
}

/* A BERT's file into the folder; and some of what the model does not need, of a pooler only where
   there is none. */
static void write_file(const char *from, enum dialect d)
{
    static const char *const more[] = {"bert.embeddings.position_ids", "pooler.dense.weight",
        "bert.pooler.dense.bias", "cls.predictions.bias", "cls.seq_relationship.weight",
        "cls.predictions.transform.LayerNorm.gamma", "cls.predictions.decoder.weight"};
    static const char nothing[40], *const none[] = {NULL};
    struct safetensors_entry entries[64];
    struct safetensors *s = NULL;
    struct err e = {0};
    char path[128];
    buf_auto struct buf file, data;
    int n = 0;
    buf_init(&file, 1 << 20);
    buf_init(&data, 1 << 20);
    ck_assert(!safetensors_open(from, &s, &e));
    for (int i = 0; i < safetensors_count(s); i++) {
        const struct safetensors_tensor *t = safetensors_at(s, i);
        struct safetensors_entry *x = &entries[n];
        *x = (struct safetensors_entry){.dims = t->dims};
        memcpy(x->shape, t->shape, sizeof x->shape);
        if (!rename_bert(d, t->name, x->name))
            continue;
        bool whole = d == WHOLE_NUMBERS && !strcmp(t->name, "classifier.bias");
        x->type = whole ? SAFETENSORS_UNREAD : t->type;
        x->bytes = whole ? (int64_t)sizeof nothing : t->bytes;
        buf_add(&data, whole ? (const void *)nothing : t->data, (size_t)x->bytes);
        n++;
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        if (d >= NO_POOLER && strstr(more[i], "pooler."))
            continue;
        if (d >= MASKED && strstr(more[i], "cls.predictions") && !strstr(more[i], "decoder"))
            continue;
        struct safetensors_entry *x = &entries[n++];
        *x = (struct safetensors_entry){.type = DTYPE_F32, .dims = 1, .shape = {2}, .bytes = 8};
        x->type = i ? DTYPE_F32 : SAFETENSORS_UNREAD; /* as positions are */
        x->bytes = i ? 8 : 16;
        snprintf(x->name, sizeof x->name, "%s", more[i]);
        buf_add(&data, nothing, (size_t)x->bytes);
    }
    ck_assert_int_eq(safetensors_header(entries, n, none, 0, &file, &e), 0);
    buf_add(&file, data.data, data.len);
    model_files_path(path, "model.safetensors");
    golden_write(path, file.data, file.len);
    safetensors_close(s);
}

static void write_dialect(enum dialect d)
{
    write_file(GOLDEN "tiny-bert/model.safetensors", d);
}

START_TEST(berts_are_read_by_all_their_names)
{
    struct weights *want = model_files_open(GOLDEN "tiny-bert"), *w;
    struct err e = {0};
    golden_folder(model_files_folder);
    model_files_copy(GOLDEN "tiny-bert/config.json", "config.json");
    ck_assert_int_eq(weights_config(want)->labels, 5);
    for (enum dialect d = BARE; d <= OLD; d++) {
        write_dialect(d);
        w = model_files_open(model_files_folder);
        model_files_compare(want, w, 0);
        weights_close(w);
    }
    /* announced, and not there: training begins with a fresh one */
    write_dialect(NO_CLASSIFIER);
    w = model_files_open(model_files_folder);
    ck_assert_int_eq(weights_config(w)->labels, 0);
    ck_assert_int_eq(weights_count(w), weights_count(want) - 2);
    ck_assert_ptr_null(weights_find(w, "classifier.weight"));
    float bias[5];
    ck_assert(weights_read(w, "classifier.bias", 5, 1, 0, 5, DTYPE_F32, bias, &e) == -ERR_DATA);
    weights_close(w);
    write_dialect(HALF_CLASSIFIER);
    ck_assert_int_eq(weights_open(model_files_folder, NULL, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "classifier.bias is missing"));
    write_dialect(WHOLE_NUMBERS);
    ck_assert_int_eq(weights_open(model_files_folder, NULL, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "classifier.bias of 64-bit whole numbers"));
    weights_close(want);
    golden_remove(model_files_folder);
}
END_TEST

static void write_body_config(void)
{
    char path[128];
    model_files_path(path, "config.json");
    model_files_write(path,
        "{\"model_type\":\"bert\",\"architectures\":[\"BertForMultipleChoice\"],"
        "\"vocab_size\":96,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":4,\"intermediate_size\":64,\"max_position_embeddings\":48,"
        "\"layer_norm_eps\":1e-12}");
}

/* What is announced to be neither of tokens nor of texts is no classifier. */
START_TEST(other_classifiers_are_superfluous)
{
    golden_folder(model_files_folder);
    write_dialect(BODY);
    write_body_config();
    struct weights *w = model_files_open(model_files_folder);
    ck_assert_int_eq(weights_config(w)->labels, 0);
    ck_assert_ptr_null(weights_find(w, "classifier.weight"));
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

/* A pooler below labels of texts must be there; without labels it is read where it is. */
START_TEST(poolers_are_read_where_they_are)
{
    struct weights *want = model_files_open(GOLDEN "tiny-bert-texts"), *w;
    struct err e = {0};
    ck_assert(weights_config(want)->labels == 3 && weights_config(want)->pooled);
    ck_assert_str_eq(weights_labels(want)[0], "negative");
    ck_assert_str_eq(weights_labels(want)[2], "positive");
    ck_assert_ptr_nonnull(weights_find(want, "model.pooler.bias"));
    golden_folder(model_files_folder);
    model_files_copy(GOLDEN "tiny-bert-texts/config.json", "config.json");
    write_file(GOLDEN "tiny-bert-texts/model.safetensors", NO_POOLER);
    ck_assert_int_eq(weights_open(model_files_folder, NULL, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "tensor model.pooler.weight is missing"));
    write_file(GOLDEN "tiny-bert-texts/model.safetensors", NO_HEADS);
    w = model_files_open(model_files_folder);
    ck_assert(!weights_config(w)->labels && !weights_config(w)->pooled);
    ck_assert_ptr_null(weights_labels(w));
    ck_assert_ptr_null(weights_find(w, "model.pooler.weight"));
    ck_assert_int_eq(weights_count(w), weights_count(want) - 4);
    weights_close(w);
    write_file(GOLDEN "tiny-bert-texts/model.safetensors", BODY);
    write_body_config();
    w = model_files_open(model_files_folder);
    ck_assert(!weights_config(w)->labels && weights_config(w)->pooled);
    ck_assert_int_eq(weights_count(w), weights_count(want) - 2);
    ck_assert_ptr_nonnull(weights_find(w, "model.pooler.weight"));
    weights_close(w);
    weights_close(want);
    golden_remove(model_files_folder);
}
END_TEST

/* Where the class announces it; whether there is a pooler does not matter. */
START_TEST(heads_of_masked_tokens_are_read_where_they_are)
{
    struct weights *want = model_files_open(GOLDEN "tiny-bert-masked"), *w;
    struct err e = {0};
    char path[128];
    ck_assert(weights_config(want)->masked && !weights_config(want)->pooled);
    ck_assert_ptr_nonnull(weights_find(want, "lm_head.bias"));
    ck_assert_ptr_null(weights_find(want, "lm_head.weight"));
    golden_folder(model_files_folder);
    model_files_copy(GOLDEN "tiny-bert-masked/config.json", "config.json");
    write_file(GOLDEN "tiny-bert-masked/model.safetensors", MASKED);
    w = model_files_open(model_files_folder);
    model_files_compare(want, w, 0);
    weights_close(w);
    write_file(GOLDEN "tiny-bert-masked/model.safetensors", NO_MASKED);
    w = model_files_open(model_files_folder);
    ck_assert(!weights_config(w)->masked);
    ck_assert_int_eq(weights_count(w), weights_count(want) - 5);
    ck_assert_ptr_null(weights_find(w, "model.transform.weight"));
    weights_close(w);
    write_file(GOLDEN "tiny-bert-masked/model.safetensors", HALF_MASKED);
    ck_assert_int_eq(weights_open(model_files_folder, NULL, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "tensor lm_head.bias is missing"));
    model_files_path(path, "config.json");
    model_files_write(path,
        "{\"model_type\":\"bert\",\"architectures\":[\"BertForPreTraining\"],"
        "\"vocab_size\":96,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":4,\"intermediate_size\":64,\"max_position_embeddings\":48}");
    write_file(GOLDEN "tiny-bert-texts/model.safetensors", NO_MASKED);
    w = model_files_open(model_files_folder); /* the pooler stands behind the missing head */
    ck_assert(!weights_config(w)->masked && weights_config(w)->pooled);
    float x[32];
    ck_assert(!weights_read(w, "model.pooler.bias", 32, 1, 0, 32, DTYPE_F32, x, &e));
    weights_close(w);
    write_file(GOLDEN "tiny-bert-masked/model.safetensors", MASKED);
    model_files_write(path,
        "{\"model_type\":\"bert\",\"architectures\":[\"BertForMaskedLM\"],"
        "\"tie_word_embeddings\":false,"
        "\"vocab_size\":96,\"hidden_size\":32,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":4,\"intermediate_size\":64,\"max_position_embeddings\":48}");
    ck_assert_int_eq(weights_open(model_files_folder, NULL, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "tie_word_embeddings = false is not supported"));
    weights_close(want);
    golden_remove(model_files_folder);
}
END_TEST

/* By the names that transformers gives them. */
START_TEST(heads_of_masked_tokens_are_written)
{
    char out[128];
    struct err e = {0};
    struct hf_writer *h = NULL;
    golden_folder(model_files_folder);
    model_files_path(out, "out");
    struct weights *w = model_files_open(GOLDEN "tiny-bert-masked");
    ck_assert_msg(!hf_writer_create(out, weights_config(w), NULL, &h, &e), "%s", e.text);
    for (int i = 0; i < weights_count(w); i++) {
        const struct weights_tensor *t = weights_at(w, i);
        int64_t n;
        mem_autofree float *x = model_files_read(w, t->name, &n);
        ck_assert(!hf_writer_tensor(h, t->name, t->dims, t->shape, x, DTYPE_F32, &e));
    }
    ck_assert_msg(!hf_writer_finish(h, &e), "%s", e.text);
    hf_writer_destroy(h);
    struct weights *back = model_files_open(out);
    ck_assert(weights_config(back)->masked);
    model_files_compare(w, back, 0);
    struct safetensors *theirs, *ours;
    char path[192];
    snprintf(path, sizeof path, "%s/model.safetensors", out);
    ck_assert(!safetensors_open(path, &ours, &e));
    ck_assert(!safetensors_open(GOLDEN "tiny-bert-masked/model.safetensors", &theirs, &e));
    ck_assert_int_eq(safetensors_count(ours), safetensors_count(theirs));
    for (int i = 0; i < safetensors_count(theirs); i++)
        ck_assert_msg(safetensors_find(ours, safetensors_at(theirs, i)->name), "%s",
            safetensors_at(theirs, i)->name);
    snprintf(path, sizeof path, "%s/config.json", out);
    json_auto struct json *config = golden_json(path);
    ck_assert_str_eq(
        json_string_value(json_first(json_get(config, "architectures"))), "BertForMaskedLM");
    safetensors_close(ours);
    safetensors_close(theirs);
    weights_close(back);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

/* Nothing that generates: no generation_config.json. */
START_TEST(labels_are_written_beside_the_weights)
{
    static const char *const labels[] = {"B-A", "B-B", "I-A", "I-B", "O"};
    char out[128], path[192];
    struct err e = {0};
    struct hf_writer *h = NULL;
    golden_folder(model_files_folder);
    model_files_path(out, "out");
    struct weights *w = model_files_open(GOLDEN "tiny-bert");
    ck_assert_msg(!hf_writer_create(out, weights_config(w), labels, &h, &e), "%s", e.text);
    for (int i = 0; i < weights_count(w); i++) {
        const struct weights_tensor *t = weights_at(w, i);
        int64_t n;
        mem_autofree float *x = model_files_read(w, t->name, &n);
        ck_assert(!hf_writer_tensor(h, t->name, t->dims, t->shape, x, DTYPE_F32, &e));
    }
    ck_assert_msg(!hf_writer_finish(h, &e), "%s", e.text);
    hf_writer_destroy(h);
    struct weights *back = model_files_open(out);
    ck_assert_int_eq(weights_config(back)->labels, 5);
    model_files_compare(w, back, 0);
    snprintf(path, sizeof path, "%s/config.json", out);
    json_auto struct json *config = golden_json(path);
    ck_assert_str_eq(json_str(json_get(config, "id2label"), "3", ""), "I-B");
    ck_assert_int_eq(json_int(json_get(config, "label2id"), "O", 0), 4);
    snprintf(path, sizeof path, "%s/generation_config.json", out);
    ck_assert(!io_exists(path));
    weights_close(back);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

UNIT_MAIN("bert", berts_are_read_by_all_their_names, other_classifiers_are_superfluous,
    poolers_are_read_where_they_are, heads_of_masked_tokens_are_read_where_they_are,
    heads_of_masked_tokens_are_written, labels_are_written_beside_the_weights)
