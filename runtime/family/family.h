/*
 * family: what the published formats call things. A family of models is one file (llama.c, qwen2.c,
 * qwen3.c, mistral.c, gpt2.c, bert.c, qwen3_moe.c, mixtral.c) with one struct family: its
 * config.json, the names that files give to the tensors of tensors.h, and how they keep them.
 * Nobody else asks which family a model is of. What is not known (another architecture, scaling of
 * rotary positions, activation) is refused, never ignored.
 */
#ifndef RUNTIME_FAMILY_FAMILY_H
#define RUNTIME_FAMILY_FAMILY_H

#include "base/json.h"
#include "kernels/dev.h"
#include "runtime/family/tensors.h"
#include "runtime/files/gguf.h"
#include "runtime/files/gguf_write.h"

enum family_format { FAMILY_HF, FAMILY_GGUF, FAMILY_FORMATS };

struct family {
    const char *architecture;      /* config.json's model_type, GGUF's general.architecture */
    const char *gguf_architecture; /* where that is another one; or NULL */
    const char *model_class;       /* "LlamaForCausalLM" */
    const char *text_class;        /* of a model with labels of whole texts; or NULL */
    const char *body_class; /* of a model without labels, where model_class has them; or NULL: then
                               labels are told at the last token */
    const char *masked_class; /* of a model that tells masked tokens; or NULL */
    struct model_config
        fixed; /* what the name alone says; norm_topk: experts are of ffn_dim, too */

    /* What config.json can say beyond that. */
    bool free_biases; /* whether attention has biases, and whether the feed-forward has */
    bool free_heads;  /* key/value heads, and the size of a head */
    bool free_types;  /* how many types of tokens there are */
    bool free_window; /* how many tokens attention sees; json_read reads it */
    bool experts;     /* its feed-forwards are mixtures of experts; json_read reads them */
    int (*json_read)(
        const struct json *config, const char *path, struct model_config *c, struct err *e);
    void (*json_write)(const struct model_config *c, struct jsonw *w);
    /* what no key says; or NULL */
    int (*gguf_read)(const struct gguf *g, struct model_config *c, struct err *e);

    /* Names of tensors, of a layer's within it, without ".weight"; NULL: the usual one. Roles that
       have the same name are one tensor of the file, their rows in the order of roles. */
    const char *names[FAMILY_FORMATS][TENSOR_ROLES];
    const char *hf_layers;      /* before a layer's number, where names are not the usual ones */
    const char *hf_optional;    /* how names begin in some files and not in others; or NULL */
    const char *hf_adapters[2]; /* of family_adapter, within a layer; NULL: the usual ones */
    bool hf_transposed;         /* the matrices of layers are stored (in, out) */
    bool gguf_interleaved;      /* rotary rows are in the order of family_gguf_row */
    const char *const *superfluous; /* ends of names of what the model does not need; or NULL */
};

/* Where a file does not say, as transformers has it. */
#define FAMILY_BALANCE_LOSS_COEF 0.001f

extern const struct family family_llama, family_qwen2, family_qwen3, family_mistral, family_gpt2,
    family_bert, family_qwen3_moe, family_mixtral;

const struct family *family_named(const char *architecture, size_t len); /* or NULL */
const struct family *family_of(const struct model_config *c);            /* or NULL */
/* The first whose GGUF files are called so; or NULL. */
const struct family *family_of_gguf(const char *architecture, size_t len);
/* What its GGUF files are called, and their keys begin with. */
const char *family_gguf_architecture(const struct model_config *c);
/* "llama, qwen2, qwen3, mistral, gpt2, bert, qwen3_moe, mixtral" */
#define FAMILY_LIST_BYTES 128
const char *family_list(char out[FAMILY_LIST_BYTES]);

struct family_place { /* where a file keeps a tensor */
    char name[128];   /* the file's tensor; several of ours may be parts of it */
    int optional;     /* letters at the start of name that a file may leave out; 0: none */
    int dims;         /* of the file's whole tensor */
    int64_t shape[2]; /* (rows, 1) for a vector */
    int64_t first;    /* the part begins at this row, or column when transposed */
    bool transposed;  /* the file has (in, out) */
    int64_t stacked;  /* the file has those of so many experts as one, (experts, rows, columns) */
    bool interleaved; /* rows are in the order of family_gguf_row */
};
/* t: a weight or a bias of `all`, the model's own tensors. */
void family_place(const struct model_config *c, const struct tensors *all, const struct tensor *t,
    enum family_format format, struct family_place *out);
/* Where AdapterHub's `adapters` has its module behind attention, or behind the feed-forward:
   "model.layers.3.attention_adapters", "bert.encoder.layer.3.output". */
void family_adapter(const struct model_config *c, int layer, bool attention, char out[128]);
/* transformers' class of such a model: "BertForTokenClassification". */
const char *family_class(const struct model_config *c);
/* The row of a GGUF file at which canonical row `row` of a rotary matrix stands: its converter
   interleaves the two halves of each head. */
int64_t family_gguf_row(int64_t row, int64_t head_dim);

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e);
/* ERR_DATA when it is none that a GGUF file can say so that llama.cpp computes it. */
int family_gguf_expressible(const struct model_config *c, struct err *e);
/* The keys of c's architecture and its name, but for those of its labels' names and of pooling.h. A
   llama3 scaling of rotary positions also needs the
   tensor of rotary.h. ERR_DATA as above. */
int family_gguf_write(const struct model_config *c, struct gguf_writer *w, struct err *e);
/* path is only for messages. */
int family_config_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e);
/* eos_token_id: a number, a list of them, or none. */
int family_eos_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e);
/* ERR_DATA when the description is none that config.json can express for its family: what
   family_config_write would lose. */
int family_config_expressible(const struct model_config *c, struct err *e);
/* bos_token_id, eos_token_id, pad_token_id; null, or nothing at all, where there is none. */
void family_ids_write(const struct model_config *c, bool nulls, struct jsonw *w);
/* labels: the names of c's labels; NULL: "LABEL_0" and so on. */
void family_config_write(
    const struct model_config *c, const char *const *labels, enum dtype store, struct jsonw *w);

#endif
