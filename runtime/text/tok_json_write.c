/*
 * tok_json_write: a definition as tokenizer.json. Every stage of the pre-tokenizer of a BPE of
 * bytes is spelled as a Split, which the reference applies to the same effect; what SentencePiece's
 * do to a text is all the normaliser's.
 */
#include "runtime/text/tok_bert.h"

static void write_added(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "added_tokens", '[');
    for (int32_t i = 0; i < d->vocab; i++) {
        if (d->kinds[i] != TOK_ADDED && d->kinds[i] != TOK_SPECIAL)
            continue;
        jsonw_open(w, NULL, '{');
        jsonw_int(w, "id", i);
        jsonw_strn(w, "content", d->tokens[i].s, d->tokens[i].len);
        uint8_t flags = d->flags ? d->flags[i] : 0;
        jsonw_bool(w, "single_word", flags & TOK_SINGLE_WORD);
        jsonw_bool(w, "lstrip", flags & TOK_LSTRIP);
        jsonw_bool(w, "rstrip", flags & TOK_RSTRIP);
        jsonw_bool(w, "normalized", flags & TOK_NORMALIZED);
        jsonw_bool(w, "special", d->kinds[i] == TOK_SPECIAL);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_byte_level(struct jsonw *w, const char *key)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "type", "ByteLevel");
    jsonw_bool(w, "add_prefix_space", false);
    jsonw_bool(w, "trim_offsets", true);
    jsonw_bool(w, "use_regex", false);
    jsonw_close(w);
}

static void write_piece(struct jsonw *w, const char *kind, const char *id, size_t len, int type)
{
    jsonw_open(w, NULL, '{');
    jsonw_open(w, kind, '{');
    jsonw_strn(w, "id", id, len);
    jsonw_int(w, "type_id", type);
    jsonw_close(w);
    jsonw_close(w);
}

/* The affixes around each of `sequences`; of a WordPiece one before all. */
static void write_template(
    const struct tok_def *d, const char *key, const char *sequences, struct jsonw *w)
{
    jsonw_open(w, key, '[');
    for (int type = 0; sequences[type]; type++) {
        for (int i = 0; i < d->prefix.count && !(type && d->model == TOK_WORDPIECE); i++)
            write_piece(w, "SpecialToken", d->tokens[d->prefix.id[i]].s,
                d->tokens[d->prefix.id[i]].len, type);
        write_piece(w, "Sequence", sequences + type, 1, type);
        for (int i = 0; i < d->suffix.count; i++)
            write_piece(w, "SpecialToken", d->tokens[d->suffix.id[i]].s,
                d->tokens[d->suffix.id[i]].len, type);
    }
    jsonw_close(w);
}

/* A token's text as a key. No memory for it fails the whole text: no token may stand by another
   name. */
static const char *key_of(const struct tok_def *d, int32_t id, struct jsonw *w, struct arena *a)
{
    const char *key = arena_printf(a, "%.*s", (int)d->tokens[id].len, d->tokens[id].s);
    w->out->failed = w->out->failed || !key;
    return key ? key : "";
}

static void write_special(const struct tok_def *d, int32_t id, struct jsonw *w, struct arena *a)
{
    struct tok_text t = d->tokens[id];
    jsonw_open(w, key_of(d, id, w, a), '{');
    jsonw_strn(w, "id", t.s, t.len);
    jsonw_open(w, "ids", '[');
    jsonw_int(w, NULL, id);
    jsonw_close(w);
    jsonw_open(w, "tokens", '[');
    jsonw_strn(w, NULL, t.s, t.len);
    jsonw_close(w);
    jsonw_close(w);
}

static void write_post(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    int32_t ids[2 * TOK_AFFIX_LIMIT];
    int n = d->prefix.count, count = n + d->suffix.count;
    if (!count && d->model == TOK_BPE) {
        write_byte_level(w, "post_processor");
        return;
    }
    if (!count) {
        jsonw_null(w, "post_processor");
        return;
    }
    memcpy(ids, d->prefix.id, sizeof d->prefix.id);
    memcpy(ids + n, d->suffix.id, sizeof d->suffix.id);
    jsonw_open(w, "post_processor", '{');
    jsonw_str(w, "type", "TemplateProcessing");
    write_template(d, "single", "A", w);
    write_template(d, "pair", "AB", w);
    jsonw_open(w, "special_tokens", '{');
    for (int i = 0, same; i < count; i++) {
        for (same = 0; ids[same] != ids[i];)
            same++;
        if (same == i) /* each once */
            write_special(d, ids[i], w, a);
    }
    jsonw_close(w);
    jsonw_close(w);
}

static void write_stages(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "pre_tokenizer", '{');
    jsonw_str(w, "type", "Sequence");
    jsonw_open(w, "pretokenizers", '[');
    for (int i = 0; i < d->stage_count; i++) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "type", "Split");
        jsonw_open(w, "pattern", '{');
        jsonw_str(w, "Regex", d->stages[i].pattern);
        jsonw_close(w);
        jsonw_str(w, "behavior", "Isolated");
        jsonw_bool(w, "invert", false);
        jsonw_close(w);
    }
    write_byte_level(w, NULL);
    jsonw_close(w);
    jsonw_close(w);
}

/* -- SentencePiece's -- */

static void write_replace(struct jsonw *w, const char *kind, const char *from, const char *to)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "Replace");
    jsonw_open(w, "pattern", '{');
    jsonw_str(w, kind, from);
    jsonw_close(w);
    jsonw_str(w, "content", to);
    jsonw_close(w);
}

static void write_step(const struct tok_step *s, struct jsonw *w)
{
    if (s->kind == TOK_STEP_SPACES) {
        write_replace(w, "Regex", "^ +| +$", "");
        write_replace(w, "Regex", " {2,}", " ");
    } else if (s->kind == TOK_STEP_PREPEND) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "type", "Prepend");
        jsonw_str(w, "prepend", TOK_SPACE);
        jsonw_close(w);
    } else {
        write_replace(w, "String", " ", TOK_SPACE);
    }
}

static bool prepends(const struct tok_def *d)
{
    for (int i = 0; i < d->steps.count; i++)
        if (d->steps.list[i].kind == TOK_STEP_PREPEND)
            return true;
    return false;
}

static void write_spaces(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "normalizer", '{');
    jsonw_str(w, "type", "Sequence");
    jsonw_open(w, "normalizers", '[');
    for (int i = 0; i < d->steps.count; i++)
        write_step(&d->steps.list[i], w);
    jsonw_close(w);
    jsonw_close(w);
    jsonw_null(w, "pre_tokenizer");
    jsonw_open(w, "decoder", '{');
    jsonw_str(w, "type", "Sequence");
    jsonw_open(w, "decoders", '[');
    write_replace(w, "String", TOK_SPACE, " ");
    if (d->chars.decodes_bytes)
        jsonw_raw(w, NULL, "{\"type\":\"ByteFallback\"}");
    jsonw_raw(w, NULL, "{\"type\":\"Fuse\"}");
    if (prepends(d))
        jsonw_raw(w, NULL, "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    jsonw_close(w);
    jsonw_close(w);
}

static void write_unigram(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "model", '{');
    jsonw_str(w, "type", "Unigram");
    jsonw_int(w, "unk_id", d->chars.unknown);
    jsonw_bool(w, "byte_fallback", d->chars.byte_fallback);
    jsonw_open(w, "vocab", '[');
    for (int32_t i = 0; i < d->vocab; i++) {
        jsonw_open(w, NULL, '[');
        jsonw_strn(w, NULL, d->tokens[i].s, d->tokens[i].len);
        jsonw_num(w, NULL, d->scores[i]);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
}

/* -- a BERT's -- */

static void write_bert(const struct tok_def *d, struct jsonw *w)
{
    struct tok_bert how = {0};
    tok_bert_get(d, &how);
    jsonw_open(w, "normalizer", '{');
    jsonw_str(w, "type", "BertNormalizer");
    jsonw_bool(w, "clean_text", true);
    jsonw_bool(w, "handle_chinese_chars", true);
    jsonw_bool(w, "strip_accents", how.accents);
    jsonw_bool(w, "lowercase", how.lower);
    jsonw_close(w);
    jsonw_raw(w, "pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}");
    jsonw_raw(w, "decoder", "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}");
}

static void write_vocab(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    jsonw_open(w, "vocab", '{');
    for (int32_t i = 0; i < d->vocab; i++)
        if (d->kinds[i] != TOK_UNUSED)
            jsonw_int(w, key_of(d, i, w, a), i);
    jsonw_close(w);
}

static void write_wordpiece(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    struct tok_text unknown = d->tokens[d->wordpiece.unknown];
    jsonw_open(w, "model", '{');
    jsonw_str(w, "type", "WordPiece");
    jsonw_strn(w, "unk_token", unknown.s, unknown.len);
    jsonw_str(w, "continuing_subword_prefix", "##");
    jsonw_int(w, "max_input_chars_per_word", d->wordpiece.word_limit);
    write_vocab(d, w, a);
    jsonw_close(w);
}

/* -- the rest -- */

static void write_unknown(const struct tok_def *d, struct jsonw *w)
{
    int32_t id = d->model == TOK_BPE_CHARS ? d->chars.unknown : -1;
    if (id >= 0)
        jsonw_strn(w, "unk_token", d->tokens[id].s, d->tokens[id].len);
    else
        jsonw_null(w, "unk_token");
}

static void write_bpe(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    bool chars = d->model == TOK_BPE_CHARS;
    jsonw_open(w, "model", '{');
    jsonw_str(w, "type", "BPE");
    jsonw_null(w, "dropout");
    write_unknown(d, w);
    jsonw_null(w, "continuing_subword_prefix");
    jsonw_null(w, "end_of_word_suffix");
    jsonw_bool(w, "fuse_unk", chars && d->chars.fuse);
    jsonw_bool(w, "byte_fallback", chars && d->chars.byte_fallback);
    jsonw_bool(w, "ignore_merges", d->ignore_merges);
    write_vocab(d, w, a);
    jsonw_open(w, "merges", '[');
    for (int64_t i = 0; i < d->merge_count; i++) {
        jsonw_open(w, NULL, '[');
        for (int k = 0; k < 2; k++)
            jsonw_strn(w, NULL, d->merges[i][k].s, d->merges[i][k].len);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
}

/* Is it all of what a GGUF file can say? */
static bool can_write(const struct tok_def *d)
{
    bool nfc = d->steps.count == 1 && d->steps.list[0].kind == TOK_STEP_NFC;
    for (int i = 0; i < d->stage_count; i++)
        if (d->stages[i].drop)
            return false;
    return d->model == TOK_BPE && (nfc || !d->steps.count);
}

static bool is_mark(struct tok_text t)
{
    return t.len == strlen(TOK_SPACE) && !memcmp(t.s, TOK_SPACE, t.len);
}

/* The same of SentencePiece's. */
static bool can_write_pieces(const struct tok_def *d)
{
    bool marks = false;
    for (int i = 0; i < d->steps.count; i++) {
        const struct tok_step *s = &d->steps.list[i];
        bool space = s->kind == TOK_STEP_REPLACE && s->from.len == 1 && *s->from.s == ' ';
        if (s->kind != TOK_STEP_SPACES && !(s->kind == TOK_STEP_PREPEND && is_mark(s->to)) &&
            !(space && is_mark(s->to)))
            return false;
        marks = marks || space;
    }
    return (d->model == TOK_BPE_CHARS || d->model == TOK_UNIGRAM) && marks && !d->spaces &&
        !d->stage_count;
}

int tok_def_write_check(const struct tok_def *d, struct err *e)
{
    for (int i = 0; i < d->steps.count; i++)
        if (d->steps.list[i].kind == TOK_STEP_LONGEST)
            return err_set(e, ERR_DATA,
                "no tokenizer.json says what llama.cpp does with tokenizer.ggml."
                "precompiled_charsmap");
    if (can_write(d) || can_write_pieces(d) ||
        (d->model == TOK_WORDPIECE && !tok_bert_check(d, "", NULL)))
        return 0;
    return err_set(e, ERR_DATA, "a tokenizer as no GGUF file has it cannot be written");
}

int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e)
{
    int rc = tok_def_write_check(d, e);
    if (rc)
        return rc;
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "version", "1.0");
    jsonw_null(&w, "truncation");
    jsonw_null(&w, "padding");
    write_added(d, &w);
    if (d->model == TOK_WORDPIECE) {
        write_bert(d, &w);
    } else if (d->model != TOK_BPE) {
        write_spaces(d, &w);
    } else if (d->steps.count) {
        jsonw_raw(&w, "normalizer", "{\"type\":\"NFC\"}");
    } else {
        jsonw_null(&w, "normalizer");
    }
    if (d->model == TOK_BPE) {
        write_stages(d, &w);
        write_byte_level(&w, "decoder");
    }
    write_post(d, &w, a);
    if (d->model == TOK_UNIGRAM)
        write_unigram(d, &w);
    else if (d->model == TOK_WORDPIECE)
        write_wordpiece(d, &w, a);
    else
        write_bpe(d, &w, a);
    jsonw_close(&w);
    rc = jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory to write a tokenizer") : 0;
    arena_destroy(a);
    return rc;
}
