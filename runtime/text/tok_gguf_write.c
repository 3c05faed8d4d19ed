/*
 * tok_gguf_write: a folder's tokenizer as the keys of a GGUF file, as llama.cpp's converter writes
 * them. What those keys cannot say of a tokenizer is refused by its name. Sources: llama.cpp's
 * convert_hf_to_gguf.py and gguf-py/gguf/vocab.py. Declared in tok_write.h.
 */
#include "runtime/text/tok_write.h"

#include "runtime/text/chat.h"
#include "runtime/text/tok_bert.h"
#include "runtime/text/tok_pieces.h"

#define ENDS_LIMIT 3 /* tokens that end a text which the keys can name */

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

struct keys {
    const struct weights *from;
    struct gguf_writer *to;
    int64_t vocab; /* rows of the embedding: there are as many tokens */
};

static bool is_byte(const struct tok_def *d, int64_t i)
{
    unsigned int byte;
    char name[8] = {0};
    if (i >= d->vocab || d->kinds[i] != TOK_NORMAL || d->tokens[i].len != 6)
        return false;
    memcpy(name, d->tokens[i].s, 6);
    return sscanf(name, "<0x%2X>", &byte) == 1 && name[5] == '>';
}

/* Does a normaliser do with spaces what llama.cpp does? *before: with one before each text. */
static bool is_llamas(const struct tok_def *d, bool *before)
{
    const struct tok_step *s = d->steps.list;
    *before = d->steps.count == 2 && s->kind == TOK_STEP_PREPEND;
    if (d->spaces == TOK_SPACES_MARKED && !d->steps.count)
        return !d->stage_count;
    s += *before;
    return d->steps.count == 1 + *before && s->kind == TOK_STEP_REPLACE && s->from.len == 1 &&
        *s->from.s == ' ' && !d->spaces && !d->stage_count;
}

static int check_pieces(const struct tok_def *d, const char *path, struct err *e)
{
    bool before;
    int bytes = 0;
    for (int32_t i = 0; i < d->vocab; i++) {
        bytes += is_byte(d, i);
        if (d->flags && d->flags[i] & TOK_NORMALIZED && d->kinds[i] != TOK_NORMAL)
            return err_set(e, ERR_DATA,
                "%s: token \"%.*s\": normalized has no place in a GGUF file", path,
                (int)(d->tokens[i].len < 40 ? d->tokens[i].len : 40), d->tokens[i].s);
    }
    if (d->ignore_merges || !d->chars.byte_fallback || bytes != 256)
        return err_set(e, ERR_DATA,
            "%s: a BPE of characters has a place in a GGUF file with a token for each byte that "
            "unknown characters fall back to, and merges that always count",
            path);
    if (!is_llamas(d, &before))
        return err_set(e, ERR_DATA,
            "%s: in a GGUF file U+2581 stands for spaces, and before all texts or none: this "
            "normalizer or pre-tokenizer does something else",
            path);
    return 0;
}

static int check_kind(const struct tok_def *d, const char *path, struct err *e)
{
    if (d->model == TOK_UNIGRAM)
        return err_set(e, ERR_DATA,
            "%s: a GGUF file is written with a BPE or a WordPiece only, and this is a Unigram",
            path);
    int rc = d->model == TOK_BPE_CHARS ? check_pieces(d, path, e)
        : d->model == TOK_WORDPIECE    ? tok_bert_check(d, path, e)
                                       : 0;
    if (rc)
        return rc;
    if (d->model == TOK_BPE && !tok_gguf_pre(d))
        return err_set(e, ERR_DATA,
            "%s: its normalizer and pre-tokenizer are none that GGUF files have a name for "
            "(GPT-2's, SmolLM's, Qwen2's, Llama 3's)",
            path);
    for (int32_t i = 0; i < d->vocab; i++)
        if (d->flags && (d->flags[i] & (TOK_LSTRIP | TOK_RSTRIP | TOK_SINGLE_WORD)))
            return err_set(e, ERR_DATA,
                "%s: token \"%.*s\": lstrip, rstrip and single_word have no place in a GGUF file",
                path, (int)(d->tokens[i].len < 40 ? d->tokens[i].len : 40), d->tokens[i].s);
    return 0;
}

/* One token at most, and it is this one. */
static int check_affix(
    const struct tok_affix *a, int32_t id, const char *what, const char *path, struct err *e)
{
    if (!a->count || (a->count == 1 && a->id[0] == id))
        return 0;
    return err_set(e, ERR_DATA,
        "%s: what the post-processor puts %s a text has no place in a GGUF file", path, what);
}

static int32_t type_of(const struct tok_def *d, int64_t id)
{
    uint8_t kind = id < d->vocab ? d->kinds[id] : TOK_UNUSED;
    if (d->model == TOK_BPE_CHARS && (id == d->chars.unknown || is_byte(d, id)))
        return id == d->chars.unknown ? TYPE_UNKNOWN : TYPE_BYTE;
    return kind == TOK_SPECIAL ? TYPE_CONTROL
        : kind == TOK_ADDED    ? TYPE_USER_DEFINED
        : kind == TOK_UNUSED   ? TYPE_UNUSED
                               : TYPE_NORMAL;
}

static int write_tokens(const struct keys *k, const struct tok_def *d, struct err *e)
{
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    mem_autofree struct gguf_str *tokens = mem_array((size_t)k->vocab, sizeof *tokens);
    mem_autofree int32_t *types = mem_array((size_t)k->vocab, sizeof *types);
    if (!a || !tokens || !types)
        return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    for (int64_t i = 0; i < k->vocab; i++) {
        types[i] = type_of(d, i);
        const char *pad = types[i] == TYPE_UNUSED ? arena_printf(a, "[PAD%lld]", (long long)i) : "";
        if (!pad)
            return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
        if (types[i] == TYPE_UNUSED)
            tokens[i] = (struct gguf_str){pad, strlen(pad)};
        else if (d->model != TOK_WORDPIECE)
            tokens[i] = (struct gguf_str){d->tokens[i].s, d->tokens[i].len};
        else if ((pad = tok_bert_token(d, i, a)))
            tokens[i] = (struct gguf_str){pad, strlen(pad)};
        else
            return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    }
    gguf_write_strs(k->to, "tokenizer.ggml.tokens", tokens, k->vocab);
    gguf_write_i32s(k->to, "tokenizer.ggml.token_type", types, k->vocab);
    return 0;
}

static int write_merges(const struct keys *k, const struct tok_def *d, struct err *e)
{
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    size_t count = (size_t)d->merge_count;
    mem_autofree struct gguf_str *merges = mem_array(count + 1, sizeof *merges);
    if (!a || !merges)
        return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    for (size_t i = 0; i < count; i++) {
        const struct tok_text *pair = d->merges[i];
        const char *text =
            arena_printf(a, "%.*s %.*s", (int)pair[0].len, pair[0].s, (int)pair[1].len, pair[1].s);
        if (!text)
            return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
        merges[i] = (struct gguf_str){text, pair[0].len + 1 + pair[1].len};
    }
    gguf_write_strs(k->to, "tokenizer.ggml.merges", merges, d->merge_count);
    return 0;
}

static int write_scores(
    const struct keys *k, const struct tok_def *d, const char *path, struct err *e)
{
    mem_autofree float *scores = mem_array((size_t)k->vocab, sizeof *scores);
    bool before;
    if (!scores)
        return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    int rc = tok_pieces_scores(d, scores, path, e);
    if (rc)
        return rc;
    is_llamas(d, &before);
    gguf_write_f32s(k->to, "tokenizer.ggml.scores", scores, k->vocab);
    gguf_write_bool(k->to, "tokenizer.ggml.add_space_prefix", before);
    if (d->chars.unknown >= 0)
        gguf_write_u32(k->to, "tokenizer.ggml.unknown_token_id", (uint32_t)d->chars.unknown);
    return 0;
}

/* The end of a text, and what else ends one: of a turn, of a message. */
static int write_ends(const struct keys *k, int32_t eos, struct err *e)
{
    static const char *const names[ENDS_LIMIT] = {"tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    const struct model_config *c = weights_config(k->from);
    int n = 0;
    eos = eos >= 0 ? eos : c->eos_id;
    if (eos >= 0)
        gguf_write_u32(k->to, names[n++], (uint32_t)eos);
    for (int32_t id = 0; id < (int32_t)k->vocab; id++) {
        if (id == eos || !(weights_ends(k->from, id) || model_config_ends(c, id)))
            continue;
        if (n == ENDS_LIMIT)
            return err_set(e, ERR_DATA,
                "%s: more than %d tokens end a text, and a GGUF file can name no more",
                weights_path(k->from), ENDS_LIMIT);
        gguf_write_u32(k->to, names[n++], (uint32_t)id);
    }
    return 0;
}

/* llama.cpp puts bos before a text and the separator, as its keys spell it, behind it. */
static int write_bert(const struct keys *k, const struct tok_def *d, struct err *e)
{
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", d->prefix.id[0]},
        {"tokenizer.ggml.cls_token_id", d->prefix.id[0]},
        {"tokenizer.ggml.seperator_token_id", d->suffix.id[0]},
        {"tokenizer.ggml.unknown_token_id", d->wordpiece.unknown},
        {"tokenizer.ggml.padding_token_id", d->pad}, {"tokenizer.ggml.mask_token_id", d->mask}};
    struct tok_bert how;
    int rc = write_tokens(k, d, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id >= 0)
            gguf_write_u32(k->to, ids[i].key, (uint32_t)ids[i].id);
    tok_bert_get(d, &how);
    gguf_write_bool(k->to, "tokenizer.ggml.add_bos_token", true);
    gguf_write_bool(k->to, "tokenizer.ggml.add_sep_token", true);
    gguf_write_bool(k->to, "tokenizer.ggml.normalizer.lowercase", how.lower);
    gguf_write_bool(k->to, "tokenizer.ggml.normalizer.strip_accents", how.accents);
    return 0;
}

static int write_keys(void *user, const struct tok_def *d, const char *path, struct err *e)
{
    const struct keys *k = user;
    const struct model_config *c = weights_config(k->from);
    int32_t bos = d->bos >= 0 ? d->bos : c->bos_id, eos = d->eos >= 0 ? d->eos : c->eos_id;
    int32_t pad = d->pad >= 0 ? d->pad : c->pad_id;
    int rc;
    if (d->vocab > k->vocab)
        return err_set(e, ERR_DATA, "%s: tokenizer has %d tokens, the model %lld", path, d->vocab,
            (long long)k->vocab);
    bool pieces = d->model == TOK_BPE_CHARS, words = d->model == TOK_WORDPIECE;
    if ((rc = check_kind(d, path, e)) ||
        (!words && (rc = check_affix(&d->prefix, bos, "before", path, e))) ||
        (!words && (rc = check_affix(&d->suffix, eos, "behind", path, e))))
        return rc;
    const char *pre = pieces || words ? "default" : tok_gguf_pre(d);
    const char *model = pieces ? "llama" : words ? "bert" : "gpt2";
    gguf_write_str(k->to, "tokenizer.ggml.model", model, strlen(model));
    gguf_write_str(k->to, "tokenizer.ggml.pre", pre, strlen(pre));
    if (words)
        return write_bert(k, d, e);
    if ((rc = write_tokens(k, d, e)) ||
        (rc = pieces ? write_scores(k, d, path, e) : write_merges(k, d, e)) ||
        (rc = write_ends(k, d->eos, e)))
        return rc;
    if (bos >= 0)
        gguf_write_u32(k->to, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    if (pad >= 0 && pad < k->vocab)
        gguf_write_u32(k->to, "tokenizer.ggml.padding_token_id", (uint32_t)pad);
    gguf_write_bool(k->to, "tokenizer.ggml.add_bos_token", d->prefix.count);
    gguf_write_bool(k->to, "tokenizer.ggml.add_eos_token", d->suffix.count);
    return 0;
}

int tok_gguf_write(const struct weights *from, struct gguf_writer *to, struct err *e)
{
    struct keys k = {from, to, weights_config(from)->vocab};
    mem_autofree char *template = NULL;
    int rc = tok_def_folder(weights_path(from), write_keys, &k, e);
    if (rc || (rc = chat_template_folder(weights_path(from), &template, e)))
        return rc;
    if (template)
        gguf_write_str(to, "tokenizer.chat_template", template, strlen(template));
    return 0;
}
