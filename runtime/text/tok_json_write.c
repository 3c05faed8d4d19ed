/*
 * tok_json_write: a definition as tokenizer.json. Every stage of the pre-tokenizer is spelled as a
 * Split, which the reference applies to the same effect.
 */
#include "runtime/text/tok_def.h"

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

/* The affixes around each of `sequences`. */
static void write_template(
    const struct tok_def *d, const char *key, const char *sequences, struct jsonw *w)
{
    jsonw_open(w, key, '[');
    for (int type = 0; sequences[type]; type++) {
        for (int i = 0; i < d->prefix.count; i++)
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
    if (!count) {
        write_byte_level(w, "post_processor");
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

static void write_model(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    jsonw_open(w, "model", '{');
    jsonw_str(w, "type", "BPE");
    jsonw_null(w, "dropout");
    jsonw_null(w, "unk_token");
    jsonw_null(w, "continuing_subword_prefix");
    jsonw_null(w, "end_of_word_suffix");
    jsonw_bool(w, "fuse_unk", false);
    jsonw_bool(w, "byte_fallback", false);
    jsonw_bool(w, "ignore_merges", d->ignore_merges);
    jsonw_open(w, "vocab", '{');
    for (int32_t i = 0; i < d->vocab; i++) {
        if (d->kinds[i] == TOK_UNUSED)
            continue;
        jsonw_int(w, key_of(d, i, w, a), i);
    }
    jsonw_close(w);
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

int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e)
{
    if (!can_write(d))
        return err_set(e, ERR_DATA, "a tokenizer as no GGUF file has it cannot be written");
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
    if (d->steps.count) {
        jsonw_open(&w, "normalizer", '{');
        jsonw_str(&w, "type", "NFC");
        jsonw_close(&w);
    } else {
        jsonw_null(&w, "normalizer");
    }
    write_stages(d, &w);
    write_post(d, &w, a);
    write_byte_level(&w, "decoder");
    write_model(d, &w, a);
    jsonw_close(&w);
    int rc = jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory to write a tokenizer") : 0;
    arena_destroy(a);
    return rc;
}
