/*
 * tok_write: copies a folder's files, converts what a GGUF file holds. Nothing is read that the
 * source's own tokenizer would not be read from, and nothing is invented: a file that the source
 * lacks is not made.
 */
#include "runtime/text/tok_write.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/json.h"
#include "runtime/text/tok_def.h"

#define TOKENIZER_LIMIT ((size_t)256 << 20)

static int join(char out[LIMIT_PATH_BYTES], const char *folder, const char *name, struct err *e)
{
    if (snprintf(out, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    return 0;
}

static int write_text(const char *folder, const char *name, const struct buf *text, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int rc = join(path, folder, name, e);
    if (!rc && !buf_ok(text))
        rc = err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
    return rc ? rc : io_write_new(path, text->data, text->len, 0644, e);
}

/* Copies a file that the source folder may lack. */
static int copy_file(const char *folder, const char *from, const char *name, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    buf_init(&text, TOKENIZER_LIMIT);
    int rc = join(path, from, name, e);
    if (rc || !io_exists(path))
        return rc;
    rc = io_read_file(path, TOKENIZER_LIMIT, &text, e);
    return rc ? rc : write_text(folder, name, &text, e);
}

static void write_token(struct jsonw *w, const char *key, const struct tok_def *d, int32_t id)
{
    if (id >= 0 && id < d->vocab)
        jsonw_strn(w, key, d->tokens[id].s, d->tokens[id].len);
    else
        jsonw_null(w, key);
}

static int write_config(const char *folder, const struct gguf *g, const struct tok_def *d,
    const struct model_config *c, struct err *e)
{
    struct gguf_str template;
    struct jsonw j;
    buf_auto struct buf text;
    buf_init(&text, TOKENIZER_LIMIT);
    jsonw_init(&j, &text);
    jsonw_open(&j, NULL, '{');
    jsonw_str(&j, "tokenizer_class", "PreTrainedTokenizerFast");
    jsonw_int(&j, "model_max_length", c->context);
    jsonw_bool(&j, "clean_up_tokenization_spaces", false);
    write_token(&j, "bos_token", d, d->bos);
    write_token(&j, "eos_token", d, d->eos);
    write_token(&j, "pad_token", d, c->pad_id);
    if (d->model == TOK_WORDPIECE) {
        write_token(&j, "unk_token", d, d->wordpiece.unknown);
        write_token(&j, "cls_token", d, d->prefix.id[0]);
        write_token(&j, "sep_token", d, d->suffix.id[0]);
        write_token(&j, "mask_token", d, d->mask);
    }
    if (!gguf_string(g, "tokenizer.chat_template", &template, NULL))
        jsonw_strn(&j, "chat_template", template.s, template.len);
    jsonw_close(&j);
    jsonw_end(&j);
    return write_text(folder, "tokenizer_config.json", &text, e);
}

static int convert(
    const char *folder, const struct gguf *g, const struct model_config *c, struct err *e)
{
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    struct tok_def d;
    buf_auto struct buf text;
    buf_init(&text, TOKENIZER_LIMIT);
    int rc =
        a ? tok_def_gguf(g, a, &d, e) : err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    if (rc || (rc = tok_def_write(&d, &text, e)) ||
        (rc = write_text(folder, "tokenizer.json", &text, e)))
        return rc;
    return write_config(folder, g, &d, c, e);
}

int tok_write_check(const struct weights *from, struct err *e)
{
    const struct gguf *g = weights_gguf(from);
    arena_auto struct arena *a = NULL;
    struct tok_def d;
    if (!g || !gguf_has(g, "tokenizer.ggml.precompiled_charsmap"))
        return 0;
    a = arena_create(TOK_ARENA_BYTES);
    int rc =
        a ? tok_def_gguf(g, a, &d, e) : err_set(e, ERR_MEMORY, "no memory to read a tokenizer");
    return rc || !(rc = tok_def_write_check(&d, e)) ? rc : err_wrap(e, "%s", gguf_path(g));
}

int tok_write(
    const char *folder, const struct weights *from, const struct model_config *c, struct err *e)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt",
        "tokenizer.model", "spiece.model", "added_tokens.json", "special_tokens_map.json",
        "chat_template.jinja", "generation_config.json"};
    if (weights_gguf(from))
        return convert(folder, weights_gguf(from), c, e);
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof files / sizeof *files; i++)
        rc = copy_file(folder, weights_path(from), files[i], e);
    return rc;
}
