/*
 * tok_open: the tokenizer of a model's own files, each read within its bounds.
 */
#include "runtime/text/tok_def.h"

#include "api/limits.h"
#include "base/io.h"
#include "runtime/family/weights.h"

/* The largest published ones have 33 MB and 1.9 million values, of which each costs 100 bytes: so
 * reading takes at most 260 MiB, which are free again when the tables are made. */
#define TOKENIZER_FILE_LIMIT  (48 << 20)
#define TOKENIZER_FILE_VALUES ((size_t)2 << 20)

/* Reads folder/name; absent and optional: *out stays NULL. */
static int read_file(const char *folder, const char *name, bool optional, struct json **out,
    char path[LIMIT_PATH_BYTES], struct err *e)
{
    if (snprintf(path, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_DATA, "%s: path too long", folder);
    if (optional && !io_exists(path))
        return 0;
    return json_read_file_within(path, TOKENIZER_FILE_LIMIT, TOKENIZER_FILE_VALUES, out, e);
}

static bool has_file(const char *folder, const char *name)
{
    char path[LIMIT_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n < LIMIT_PATH_BYTES && io_exists(path);
}

/* What stands in for a tokenizer.json that is not there; NULL: nothing does. */
static const char *older_file(const char *folder)
{
    static const char *const names[] = {"vocab.txt", "tokenizer.model", "spiece.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has_file(folder, names[i]))
            return names[i];
    return NULL;
}

/* It into text, its path into path. */
static int read_older(const char *folder, const char *name, const struct json *config,
    struct buf *text, char path[LIMIT_PATH_BYTES], struct err *e)
{
    if (snprintf(path, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_DATA, "%s: path too long", folder);
    if (strcmp(name, "vocab.txt") && has_file(folder, "added_tokens.json") &&
        !json_get(config, "added_tokens_decoder"))
        return err_set(e, ERR_DATA,
            "%s: added_tokens.json beside %s is not read: tokenizer_config.json has no "
            "added_tokens_decoder",
            folder, name);
    return io_read_file(path, TOKENIZER_FILE_LIMIT, text, e);
}

static int read_def(const struct json *root, const struct json *config, const struct buf *older,
    const char *path, struct arena *a, struct tok_def *d, struct err *e)
{
    size_t n = strlen(path), k = strlen("vocab.txt");
    if (root)
        return tok_def_json(root, config, path, a, d, e);
    if (n >= k && !strcmp(path + n - k, "vocab.txt"))
        return tok_def_vocab(buf_cstr(older), older->len, config, path, a, d, e);
    return tok_def_spm((struct tok_text){buf_cstr(older), older->len}, config, path, a, d, e);
}

int tok_def_folder(const char *folder,
    int (*use_fn)(void *user, const struct tok_def *d, const char *path, struct err *e), void *user,
    struct err *e)
{
    json_auto struct json *root = NULL, *config = NULL;
    buf_auto struct buf older;
    const char *name = older_file(folder);
    char path[LIMIT_PATH_BYTES];
    struct tok_def d;
    int rc;
    buf_init(&older, TOKENIZER_FILE_LIMIT);
    if ((rc = read_file(folder, "tokenizer_config.json", true, &config, path, e)) ||
        (rc = read_file(folder, "tokenizer.json", name, &root, path, e)) ||
        (!root && (rc = read_older(folder, name, config, &older, path, e))))
        return rc;
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    rc = read_def(root, config, &older, path, a, &d, e);
    return rc ? rc : use_fn(user, &d, path, e);
}

struct opening {
    int32_t bos, eos;
    struct tok **out;
};

static int create_tok(void *user, const struct tok_def *def, const char *path, struct err *e)
{
    const struct opening *o = user;
    struct tok_def d = *def;
    d.bos = d.bos < 0 ? o->bos : d.bos;
    d.eos = d.eos < 0 ? o->eos : d.eos;
    return tok_create(&d, path, o->out, e);
}

int tok_open_folder(const char *folder, int32_t bos, int32_t eos, struct tok **out, struct err *e)
{
    struct opening o = {bos, eos, out};
    return tok_def_folder(folder, create_tok, &o, e);
}

static int open_gguf(const struct gguf *g, const char *path, struct tok **out, struct err *e)
{
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory for a vocabulary");
    struct tok_def d;
    int rc = tok_def_gguf(g, a, &d, e);
    return rc ? rc : tok_create(&d, path, out, e);
}

/* Ids that the model's embedding lacks are refused here. */
int tok_open(struct weights *w, struct tok **out, struct err *e)
{
    struct tok *t = NULL;
    int rc;
    if (weights_gguf(w)) {
        rc = open_gguf(weights_gguf(w), weights_path(w), &t, e);
    } else {
        rc = tok_open_folder(
            weights_path(w), weights_config(w)->bos_id, weights_config(w)->eos_id, &t, e);
    }
    if (rc)
        return rc;
    if (tok_vocab(t) > weights_config(w)->vocab) {
        rc = err_set(e, ERR_DATA, "%s: tokenizer has %d tokens, the model %lld", weights_path(w),
            tok_vocab(t), (long long)weights_config(w)->vocab);
        tok_close(t);
        return rc;
    }
    *out = t;
    return 0;
}
