/*
 * tok_gguf: the tokenizer inside a GGUF file: a BPE of bytes ("gpt2"), SentencePiece's BPE
 * ("llama") or its Unigram ("t5"), or a WordPiece ("bert"), each as llama.cpp has it. Of the first
 * the file names the pre-tokenizer; the expressions that the name stands for are known by
 * convention (llama.cpp's llama-vocab.cpp) and stand in the table here.
 */
#include "runtime/text/tok_bert.h"
#include "runtime/text/tok_charsmap.h"
#include "runtime/text/tok_pieces.h"

#include "base/utf8.h"

#include <math.h>

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
    struct gguf_str pre = {.s = "default", .len = 7};
    int rc = gguf_has(g, "tokenizer.ggml.pre") ? gguf_string(g, "tokenizer.ggml.pre", &pre, e) : 0;
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

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

static uint8_t kind_of(int64_t type)
{
    return type == TYPE_CONTROL || type == TYPE_UNKNOWN ? TOK_SPECIAL
        : type == TYPE_USER_DEFINED                     ? TOK_ADDED
        : type == TYPE_UNUSED                           ? TOK_UNUSED
                                                        : TOK_NORMAL;
}

/* llama.cpp merges to a user-defined token, too; of a Unigram the text is cut at it before. */
static bool made_too(const struct tok_def *d, int64_t i)
{
    return d->model == TOK_BPE_CHARS && d->kinds[i] == TOK_ADDED;
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
    d->flags = d->model == TOK_BPE ? NULL : arena_array(a, (size_t)count, 1);
    if (!d->tokens || !d->kinds || (d->model != TOK_BPE && !d->flags))
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", gguf_path(g));
    for (int64_t i = 0; i < count; i++) {
        if (utf8_valid_prefix(tokens[i].s, tokens[i].len) < tokens[i].len ||
            memchr(tokens[i].s, 0, tokens[i].len))
            return err_set(e, ERR_DATA, "%s: token %lld is no text", gguf_path(g), (long long)i);
        d->tokens[i] = (struct tok_text){tokens[i].s, tokens[i].len};
        d->kinds[i] = types ? kind_of(types[i]) : TOK_NORMAL;
        bool unigram = d->model == TOK_UNIGRAM, byte = types && types[i] == TYPE_BYTE;
        if (d->flags && d->model != TOK_WORDPIECE &&
            (d->kinds[i] == TOK_NORMAL ? !(unigram && byte) : made_too(d, i)))
            d->flags[i] = TOK_OF_MODEL;
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

/* -- SentencePiece's -- */

static void add_step(struct tok_def *d, struct tok_step step)
{
    d->steps.list[d->steps.count++] = step;
}

/* What llama.cpp does to a text between special tokens, by the file's keys. */
static int read_spaces(const struct gguf *g, struct tok_def *d, struct err *e)
{
    static const struct tok_text mark = {TOK_SPACE, sizeof TOK_SPACE - 1};
    static const char table_key[] = "tokenizer.ggml.precompiled_charsmap";
    bool unigram = d->model == TOK_UNIGRAM;
    struct gguf_str map = {0};
    int rc = unigram && gguf_has(g, table_key) ? gguf_byte_array(g, table_key, &map, e) : 0;
    if (rc)
        return rc;
    struct tok_text table = {map.s, map.len};
    if (map.len && !tok_charsmap_check(table))
        return err_set(e, ERR_DATA, "%s: %s is no such table", gguf_path(g), table_key);
    if (map.len)
        add_step(d, (struct tok_step){.kind = TOK_STEP_LONGEST, .from = table});
    if (unigram && gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", false))
        add_step(d, (struct tok_step){.kind = TOK_STEP_SPACES});
    if (gguf_bool(g, "tokenizer.ggml.add_space_prefix", true))
        add_step(d, (struct tok_step){.kind = TOK_STEP_PREPEND, .to = mark});
    add_step(d, (struct tok_step){.kind = TOK_STEP_REPLACE, .from = {" ", 1}, .to = mark});
    return 0;
}

/* llama.cpp's, where no key says. */
static int read_unknown(const struct gguf *g, struct tok_def *d, struct err *e)
{
    int rc = read_id(g, "tokenizer.ggml.unknown_token_id", d, &d->chars.unknown, e);
    if (!rc && d->chars.unknown < 0)
        d->chars.unknown = d->model == TOK_UNIGRAM ? 2 : 0;
    if (!rc && d->chars.unknown >= d->vocab)
        rc = err_set(
            e, ERR_DATA, "%s: %d tokens, of which none is the unknown one", gguf_path(g), d->vocab);
    return rc;
}

/* Of a Unigram they stand in d; tokens that are not its own count as its least. */
static int keep_scores(
    const struct gguf *g, struct arena *a, struct tok_def *d, const double *scores, struct err *e)
{
    double least = INFINITY;
    d->scores = arena_array(a, (size_t)d->vocab, sizeof *d->scores);
    if (!d->scores)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", gguf_path(g));
    for (int32_t i = 0; i < d->vocab; i++) {
        if (!(d->flags[i] & TOK_OF_MODEL))
            continue;
        if (!isfinite(scores[i]))
            return err_set(e, ERR_DATA, "%s: token %d has no score", gguf_path(g), i);
        least = scores[i] < least ? scores[i] : least;
    }
    for (int32_t i = 0; i < d->vocab; i++)
        d->scores[i] = d->flags[i] & TOK_OF_MODEL ? scores[i] : isfinite(least) ? least : 0;
    return 0;
}

static int read_pieces(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e)
{
    mem_autofree double *scores = NULL;
    int64_t count;
    int rc = gguf_nums(g, "tokenizer.ggml.scores", &scores, &count, e);
    if (rc)
        return rc;
    if (count != d->vocab)
        return err_set(e, ERR_DATA, "%s: %d tokens with %lld scores", gguf_path(g), d->vocab,
            (long long)count);
    bool unigram = d->model == TOK_UNIGRAM;
    d->chars.fuse = true;
    d->chars.byte_fallback = d->chars.decodes_bytes = !unigram;
    d->prefix.count = !unigram;
    d->suffix.count = unigram;
    if ((rc = read_unknown(g, d, e)) || (rc = read_spaces(g, d, e)))
        return rc;
    return unigram ? keep_scores(g, a, d, scores, e)
                   : tok_pieces_merges(d, scores, a, gguf_path(g), e);
}

static int read_model(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e)
{
    static const struct {
        const char *name;
        enum tok_model model;
    } models[] = {
        {"gpt2", TOK_BPE}, {"llama", TOK_BPE_CHARS}, {"t5", TOK_UNIGRAM}, {"bert", TOK_WORDPIECE}};
    struct gguf_str model;
    size_t i = 0, known = sizeof models / sizeof *models;
    int rc = gguf_string(g, "tokenizer.ggml.model", &model, e);
    if (rc)
        return rc;
    while (i < known && !equals(model, models[i].name))
        i++;
    if (i == known)
        return err_set(e, ERR_DATA,
            "%s: tokenizer model \"%.*s\"; what is read: gpt2 (BPE of bytes), llama (BPE of "
            "SentencePiece), t5 (Unigram), bert (WordPiece)",
            gguf_path(g), (int)(model.len < 32 ? model.len : 32), model.s);
    d->model = models[i].model;
    if (d->model == TOK_WORDPIECE)
        return (rc = read_tokens(g, a, d, e)) ? rc : tok_bert_gguf(g, a, d, e);
    if (d->model != TOK_BPE)
        return (rc = read_tokens(g, a, d, e)) ? rc : read_pieces(g, a, d, e);
    if ((rc = read_pre(g, d, e)) || (rc = read_tokens(g, a, d, e)))
        return rc;
    return read_merges(g, a, d, e);
}

/* bos and eos are llama.cpp's of that model where no key says, if there are so many tokens. */
static int32_t default_id(const struct tok_def *d, int32_t of_llama, int32_t of_t5)
{
    int32_t id = d->model == TOK_BPE_CHARS ? of_llama : d->model == TOK_UNIGRAM ? of_t5 : -1;
    return id < d->vocab ? id : -1;
}

int tok_def_gguf(const struct gguf *g, struct arena *a, struct tok_def *out, struct err *e)
{
    struct tok_def d = {0};
    int rc;
    if ((rc = read_model(g, a, &d, e)))
        return rc;
    if (d.model == TOK_WORDPIECE) {
        *out = d;
        return 0;
    }
    if ((rc = read_id(g, "tokenizer.ggml.bos_token_id", &d, &d.bos, e)) ||
        (rc = read_id(g, "tokenizer.ggml.eos_token_id", &d, &d.eos, e)))
        return rc;
    d.bos = d.bos < 0 ? default_id(&d, 1, -1) : d.bos;
    d.eos = d.eos < 0 ? default_id(&d, 2, 1) : d.eos;
    if ((rc = read_affix(g, "tokenizer.ggml.add_bos_token", d.bos, &d.prefix, e)) ||
        (rc = read_affix(g, "tokenizer.ggml.add_eos_token", d.eos, &d.suffix, e)))
        return rc;
    tok_def_pair(&d, TOK_PAIR_EACH);
    d.pad = read_pad(g, &d);
    d.mask = -1;
    *out = d;
    return 0;
}
