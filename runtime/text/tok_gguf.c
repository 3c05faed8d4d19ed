/*
 * tok_gguf: the tokenizer inside a GGUF file. The file names its pre-tokenizer; the expressions
 * that the name stands for are known by convention (llama.cpp's llama-vocab.cpp) and stand in the
 * table here.
 */
#include "runtime/text/tok_def.h"

#include "base/utf8.h"

#define CL100K(digits) \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *name;
    const char *patterns[2];
    bool ignore_merges, nfc, bos; /* bos: before each text, where no key says */
} pre_tokenizers[] = {
    {"gpt-2", {TOK_SPLIT_GPT2}, false, false, false},
    {"default", {TOK_SPLIT_GPT2}, false, false, false},
    {"smollm", {"\\p{N}", TOK_SPLIT_GPT2}, false, false, false},
    {"qwen2", {CL100K("\\p{N}")}, false, true, false},
    {"llama-bpe", {CL100K("\\p{N}{1,3}")}, true, false, true},
    {"llama3", {CL100K("\\p{N}{1,3}")}, true, false, true},
    {"llama-v3", {CL100K("\\p{N}{1,3}")}, true, false, true},
};

static bool has_patterns(const struct tok_def *d, const char *const patterns[2])
{
    int n = 0;
    for (; n < 2 && patterns[n]; n++)
        if (n >= d->stage_count || d->stages[n].drop ||
            strcmp(d->stages[n].pattern, patterns[n]) != 0)
            return false;
    return n == d->stage_count;
}

const char *tok_gguf_pre(const struct tok_def *d)
{
    bool nfc = d->steps.count == 1 && d->steps.list[0].kind == TOK_STEP_NFC;
    if (d->model != TOK_BPE || (d->steps.count && !nfc))
        return NULL;
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++)
        if (pre_tokenizers[i].nfc == nfc && pre_tokenizers[i].ignore_merges == d->ignore_merges &&
            has_patterns(d, pre_tokenizers[i].patterns))
            return pre_tokenizers[i].name;
    return NULL;
}

static bool equals(struct gguf_str s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.s, text, s.len);
}

static int read_pre(const struct gguf *g, struct tok_def *d, struct err *e)
{
    struct gguf_str model, pre = {.s = "default", .len = 7};
    int rc = gguf_string(g, "tokenizer.ggml.model", &model, e);
    if (rc)
        return rc;
    if (!equals(model, "gpt2"))
        return err_set(e, ERR_DATA,
            "%s: tokenizer model \"%.*s\"; what is read: gpt2 (BPE of bytes)", gguf_path(g),
            (int)(model.len < 32 ? model.len : 32), model.s);
    if (gguf_has(g, "tokenizer.ggml.pre"))
        rc = gguf_string(g, "tokenizer.ggml.pre", &pre, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        if (!equals(pre, pre_tokenizers[i].name))
            continue;
        for (int k = 0; k < 2 && pre_tokenizers[i].patterns[k]; k++)
            d->stages[d->stage_count++].pattern = pre_tokenizers[i].patterns[k];
        d->ignore_merges = pre_tokenizers[i].ignore_merges;
        d->steps = (struct tok_steps){{{.kind = TOK_STEP_NFC}}, pre_tokenizers[i].nfc};
        d->prefix.count = pre_tokenizers[i].bos;
        return 0;
    }
    buf_auto struct buf list;
    buf_init(&list, 256);
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++)
        buf_printf(&list, "%s%s", i ? ", " : "", pre_tokenizers[i].name);
    return err_set(e, ERR_DATA, "%s: pre-tokenizer \"%.*s\"; what is read: %s", gguf_path(g),
        (int)(pre.len < 32 ? pre.len : 32), pre.s, buf_cstr(&list));
}

/* llama.cpp's token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
static uint8_t kind_of(int64_t type)
{
    return type == 3 || type == 2 ? TOK_SPECIAL
        : type == 4               ? TOK_ADDED
        : type == 5               ? TOK_UNUSED
                                  : TOK_NORMAL;
}

static int read_tokens(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e)
{
    mem_autofree struct gguf_str *tokens = NULL;
    mem_autofree int64_t *types = NULL;
    int64_t count, type_count = 0;
    int rc = gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &count, e);
    if (!rc && gguf_has(g, "tokenizer.ggml.token_type"))
        rc = gguf_ints(g, "tokenizer.ggml.token_type", &types, &type_count, e);
    if (rc)
        return rc;
    if (count < 1 || count > TOK_VOCAB_LIMIT || (types && type_count != count))
        return err_set(e, ERR_DATA, "%s: %lld tokens with %lld types", gguf_path(g),
            (long long)count, (long long)type_count);
    d->vocab = (int32_t)count;
    d->tokens = arena_array(a, (size_t)count, sizeof *d->tokens);
    d->kinds = arena_array(a, (size_t)count, 1);
    if (!d->tokens || !d->kinds)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", gguf_path(g));
    for (int64_t i = 0; i < count; i++) {
        if (utf8_valid_prefix(tokens[i].s, tokens[i].len) < tokens[i].len ||
            memchr(tokens[i].s, 0, tokens[i].len))
            return err_set(e, ERR_DATA, "%s: token %lld is no text", gguf_path(g), (long long)i);
        d->tokens[i] = (struct tok_text){tokens[i].s, tokens[i].len};
        d->kinds[i] = types ? kind_of(types[i]) : TOK_NORMAL;
    }
    return 0;
}

static int read_merges(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e)
{
    mem_autofree struct gguf_str *merges = NULL;
    int64_t count;
    int rc = gguf_strings(g, "tokenizer.ggml.merges", &merges, &count, e);
    if (rc)
        return rc;
    if (count > TOK_MERGES_LIMIT)
        return err_set(
            e, ERR_DATA, "%s: absurd number of merges: %lld", gguf_path(g), (long long)count);
    d->merge_count = count;
    d->merges = arena_array(a, (size_t)count + 1, sizeof *d->merges);
    if (!d->merges)
        return err_set(e, ERR_MEMORY, "%s: no memory for the merges", gguf_path(g));
    for (int64_t i = 0; i < count; i++) {
        const char *s = merges[i].s, *space = memchr(s, ' ', merges[i].len);
        if (!space)
            return err_set(e, ERR_DATA, "%s: merge %lld has no space", gguf_path(g), (long long)i);
        size_t left = (size_t)(space - s);
        d->merges[i][0] = (struct tok_text){s, left};
        d->merges[i][1] = (struct tok_text){space + 1, merges[i].len - left - 1};
    }
    return 0;
}

static int read_id(
    const struct gguf *g, const char *key, const struct tok_def *d, int32_t *out, struct err *e)
{
    int64_t id = -1;
    int rc = gguf_has(g, key) ? gguf_int(g, key, 0, d->vocab - 1, &id, e) : 0;
    *out = (int32_t)id;
    return rc;
}

/* Some files name one that is no token: no text needs it. */
static int32_t read_pad(const struct gguf *g, const struct tok_def *d)
{
    int64_t id = -1;
    bool known = gguf_has(g, "tokenizer.ggml.padding_token_id") &&
        !gguf_int(g, "tokenizer.ggml.padding_token_id", 0, d->vocab - 1, &id, NULL);
    return known ? (int32_t)id : -1;
}

/* Whether `id` is to stand before, or behind, each text: by its key, else as *to has it. */
static int read_affix(
    const struct gguf *g, const char *key, int32_t id, struct tok_affix *to, struct err *e)
{
    bool add = gguf_bool(g, key, to->count);
    if (add && id < 0 && gguf_has(g, key))
        return err_set(e, ERR_DATA, "%s: %s, but there is no such token", gguf_path(g), key);
    to->count = add && id >= 0;
    to->id[0] = id;
    return 0;
}

int tok_def_gguf(const struct gguf *g, struct arena *a, struct tok_def *out, struct err *e)
{
    struct tok_def d = {0};
    int rc;
    if ((rc = read_pre(g, &d, e)) || (rc = read_tokens(g, a, &d, e)) ||
        (rc = read_merges(g, a, &d, e)) ||
        (rc = read_id(g, "tokenizer.ggml.bos_token_id", &d, &d.bos, e)) ||
        (rc = read_id(g, "tokenizer.ggml.eos_token_id", &d, &d.eos, e)) ||
        (rc = read_affix(g, "tokenizer.ggml.add_bos_token", d.bos, &d.prefix, e)) ||
        (rc = read_affix(g, "tokenizer.ggml.add_eos_token", d.eos, &d.suffix, e)))
        return rc;
    tok_def_pair(&d, TOK_PAIR_EACH);
    d.pad = read_pad(g, &d);
    d.mask = -1;
    *out = d;
    return 0;
}
