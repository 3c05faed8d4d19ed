/*
 * tok_bert: two lists of steps and stages, and one rule for tokens, each in both directions. Tokens
 * in brackets are words of no text: older files have them as they are.
 */
#include "runtime/text/tok_bert.h"

#define MARK     TOK_SPACE
#define MARK_LEN (sizeof MARK - 1)

/* -- text -- */

static void add_step(struct tok_def *d, enum tok_step_kind kind, bool wanted)
{
    if (wanted)
        d->steps.list[d->steps.count++] = (struct tok_step){.kind = kind};
}

void tok_bert_set(struct tok_def *d, struct tok_bert how)
{
    add_step(d, TOK_STEP_CLEAN, true);
    add_step(d, TOK_STEP_SPACE_HAN, true);
    add_step(d, TOK_STEP_NFD, how.accents);
    add_step(d, TOK_STEP_STRIP_NONSPACING, how.accents);
    add_step(d, TOK_STEP_LOWER, how.lower);
    d->stages[0] = (struct tok_stage){"\\s+", TOK_SPLIT_DROP_MATCHES};
    d->stages[1] = (struct tok_stage){TOK_BERT_PUNCTUATION, TOK_SPLIT_DROP_NONE};
    d->stage_count = 2;
}

static bool is_so(const struct tok_def *d, struct tok_bert how)
{
    struct tok_def want = {0};
    tok_bert_set(&want, how);
    if (d->steps.count != want.steps.count || d->stage_count != want.stage_count)
        return false;
    for (int i = 0; i < want.steps.count; i++)
        if (d->steps.list[i].kind != want.steps.list[i].kind)
            return false;
    for (int i = 0; i < want.stage_count; i++)
        if (d->stages[i].drop != want.stages[i].drop ||
            strcmp(d->stages[i].pattern, want.stages[i].pattern) != 0)
            return false;
    return true;
}

bool tok_bert_get(const struct tok_def *d, struct tok_bert *out)
{
    for (int i = 0; i < 4; i++) {
        struct tok_bert how = {.lower = i & 1, .accents = i & 2};
        if (!is_so(d, how))
            continue;
        *out = how;
        return true;
    }
    return false;
}

/* -- tokens -- */

static bool begins(struct tok_text t, const char *with, size_t len)
{
    return t.len >= len && !memcmp(t.s, with, len);
}

static bool in_brackets(struct tok_text t)
{
    return t.len > 2 && t.s[0] == '[' && t.s[t.len - 1] == ']';
}

/* A mark alone goes on with a word: no token is empty. */
static bool begins_word(struct tok_text t)
{
    return begins(t, MARK, MARK_LEN) && t.len > MARK_LEN;
}

static int read_token(const struct gguf *g, struct arena *a, struct tok_text *t, struct err *e)
{
    if (begins_word(*t)) {
        *t = (struct tok_text){t->s + MARK_LEN, t->len - MARK_LEN};
    } else if (!in_brackets(*t)) {
        const char *text = arena_printf(a, "##%.*s", (int)t->len, t->s);
        if (!text)
            return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", gguf_path(g));
        *t = (struct tok_text){text, t->len + 2};
    }
    return 0;
}

const char *tok_bert_token(const struct tok_def *d, int64_t i, struct arena *a)
{
    struct tok_text t = d->tokens[i];
    if (d->kinds[i] == TOK_NORMAL && begins(t, "##", 2))
        return arena_printf(a, "%.*s", (int)t.len - 2, t.s + 2);
    return arena_printf(a, "%s%.*s", d->kinds[i] == TOK_NORMAL ? MARK : "", (int)t.len, t.s);
}

/* The id that a key gives, else llama.cpp's; -1: no such token. */
static int read_special(const struct gguf *g, const char *key, int32_t usual,
    const struct tok_def *d, int32_t *out, struct err *e)
{
    int64_t id = usual < d->vocab && d->kinds[usual] == TOK_SPECIAL ? usual : -1;
    int rc = gguf_has(g, key) ? gguf_int(g, key, 0, d->vocab - 1, &id, e) : 0;
    *out = (int32_t)id;
    return rc;
}

static int read_specials(const struct gguf *g, struct tok_def *d, struct err *e)
{
    enum { UNK, SEP, CLS, PAD, MASK, COUNT };
    static const char *const keys[COUNT] = {"tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.cls_token_id",
        "tokenizer.ggml.padding_token_id", "tokenizer.ggml.mask_token_id"};
    static const int32_t usual[COUNT] = {100, 102, 101, 0, 103};
    int32_t id[COUNT];
    for (int i = 0; i < COUNT; i++) {
        bool begin = i == CLS && gguf_has(g, "tokenizer.ggml.bos_token_id");
        const char *key = begin ? "tokenizer.ggml.bos_token_id" : keys[i];
        int rc = read_special(g, key, usual[i], d, &id[i], e);
        if (rc)
            return rc;
        if (id[i] < 0 && i < PAD)
            return err_set(e, ERR_DATA, "%s: %s is missing", gguf_path(g), keys[i]);
        if (id[i] >= 0)
            d->kinds[id[i]] = TOK_SPECIAL;
    }
    d->wordpiece.unknown = id[UNK];
    d->prefix = (struct tok_affix){.id = {id[CLS]}, .count = 1};
    d->suffix = (struct tok_affix){.id = {id[SEP]}, .count = 1};
    d->pad = id[PAD];
    d->mask = id[MASK];
    return 0;
}

int tok_bert_gguf(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e)
{
    struct tok_bert how;
    int rc = read_specials(g, d, e);
    if (rc)
        return rc;
    for (int32_t i = 0; i < d->vocab && !rc; i++) {
        if (d->kinds[i] == TOK_ADDED)
            d->kinds[i] = TOK_NORMAL; /* it stands there as a word does, and is found as one */
        if (d->kinds[i] == TOK_NORMAL)
            rc = read_token(g, a, &d->tokens[i], e);
    }
    how.lower = gguf_bool(g, "tokenizer.ggml.normalizer.lowercase", true);
    how.accents = gguf_bool(g, "tokenizer.ggml.normalizer.strip_accents", how.lower);
    tok_bert_set(d, how);
    d->wordpiece.prefix = (struct tok_text){"##", 2};
    d->wordpiece.word_limit = TOK_BERT_WORD_LIMIT;
    d->wordpiece.cleanup = true;
    d->bos = d->eos = -1;
    tok_def_pair(d, TOK_PAIR_BERT);
    return rc;
}

/* -- what a file can say -- */

/* Would it be read as another one? */
static bool is_ambiguous(struct tok_text t)
{
    struct tok_text rest = {t.s + 2, t.len - 2};
    return begins(t, "##", 2) && (begins_word(rest) || in_brackets(rest));
}

static int check_tokens(const struct tok_def *d, const char *path, struct err *e)
{
    for (int32_t i = 0; i < d->vocab; i++) {
        struct tok_text t = d->tokens[i];
        if (d->kinds[i] == TOK_ADDED || (d->kinds[i] == TOK_NORMAL && is_ambiguous(t)))
            return err_set(e, ERR_DATA,
                "%s: token \"%.*s\": %s has no place in a GGUF file with a WordPiece", path,
                (int)(t.len < 40 ? t.len : 40), t.s,
                d->kinds[i] == TOK_ADDED ? "one that is added and not special" : "this one");
    }
    return 0;
}

static bool pairs_as_bert(const struct tok_def *d)
{
    struct tok_def want = {.prefix = d->prefix, .suffix = d->suffix};
    tok_def_pair(&want, TOK_PAIR_BERT);
    if (want.pair.count != d->pair.count)
        return false;
    for (int i = 0; i < want.pair.count; i++)
        if (want.pair.at[i].id != d->pair.at[i].id || want.pair.at[i].type != d->pair.at[i].type)
            return false;
    return true;
}

int tok_bert_check(const struct tok_def *d, const char *path, struct err *e)
{
    const struct tok_wordpiece_def *w = &d->wordpiece;
    struct tok_bert how;
    if (!tok_bert_get(d, &how))
        return err_set(e, ERR_DATA,
            "%s: its normalizer and pre-tokenizer are not BERT's, which are all that a GGUF file "
            "with a WordPiece can say",
            path);
    if (w->prefix.len != 2 || memcmp(w->prefix.s, "##", 2) ||
        w->word_limit != TOK_BERT_WORD_LIMIT || w->unknown < 0)
        return err_set(e, ERR_DATA,
            "%s: in a GGUF file a WordPiece has ## before what goes on with a word, words of up to "
            "%d characters and a token for those that are unknown",
            path, TOK_BERT_WORD_LIMIT);
    if (d->prefix.count != 1 || d->suffix.count != 1 || !pairs_as_bert(d))
        return err_set(e, ERR_DATA,
            "%s: what the post-processor puts around texts has no place in a GGUF file, where it "
            "is one token before them and one behind each",
            path);
    return check_tokens(d, path, e);
}
