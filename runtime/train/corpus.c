/*
 * train/corpus: rank 0 tokenises, into a folder beside the checkpoints, which is the storage that
 * all ranks surely share; the others wait in broadcasts that come about once a second, so that
 * nobody takes a long corpus for a hang, and map the file when it stands. What rank 0 finds wrong
 * with the corpus, all return.
 */
#include "runtime/train/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "runtime/data/corpus.h"
#include "runtime/text/chat.h"

#include <errno.h>
#include <time.h>

#define FOLDER    "tokens"
#define TELL_MS   1000
#define APPEAR_MS 30000 /* storage may show a new file late */
#define LOOK_MS   100

struct corpus_told { /* by rank 0 */
    bool working;
    struct err refusal; /* ERR_NONE: the rest holds */
    uint64_t key;
    char path[LIMIT_PATH_BYTES]; /* of the file of tokens */
};

struct telling {
    struct train *t;
    int64_t told_ms;
    bool lost; /* there is nobody to tell any more */
};

static int tell_working(void *user, struct err *e)
{
    struct telling *w = user;
    int64_t now = clock_ms();
    beat(w->t->door->page);
    if (now - w->told_ms < TELL_MS)
        return 0;
    struct corpus_told told = {.working = true};
    w->told_ms = now;
    int rc = coll_broadcast(w->t->coll, &told, sizeof told, 0, e);
    w->lost = rc != 0;
    return rc;
}

static void find_tokens(const struct corpus *c, struct corpus_told *told)
{
    if (!corpus_tokenize(c, &told->key, &told->refusal))
        tokens_path(c->folder, told->key, told->path, &told->refusal);
}

static int tokenize(struct train *t, const char *path, struct corpus_told *told, struct err *e)
{
    char folder[LIMIT_PATH_BYTES];
    struct telling w = {.t = t, .told_ms = clock_ms()};
    struct err *why = &told->refusal, no_chat = {.text = ""};
    struct corpus c = {.path = path,
        .format = t->spec->train.data.format,
        .tok = t->tok,
        .no_chat = &no_chat,
        .pairs = t->objective->rows == 2,
        .skip = t->spec->train.data.skip_bad_records,
        .folder = folder,
        .progress = {tell_working, &w}};
    chat_open(t->weights, &c.chat, &no_chat); /* of text nobody needs it */
    int n = snprintf(folder, sizeof folder, "%s/" FOLDER, t->spec->checkpoint.path);
    if (n < (int)sizeof folder)
        find_tokens(&c, told);
    else
        err_set(why, ERR_USER, "spec.checkpoint.path: path too long");
    chat_close(c.chat);
    if (!w.lost)
        return coll_broadcast(t->coll, told, sizeof *told, 0, e);
    *e = *why;
    return -(int)e->code;
}

static int hear(struct train *t, struct corpus_told *told, struct err *e)
{
    int rc;
    do {
        rc = coll_broadcast(t->coll, told, sizeof *told, 0, e);
    } while (!rc && told->working);
    return rc;
}

static void warn_of_rows(const char *path, const struct data *d, int64_t rows)
{
    if (data_truncated(d))
        log_warn("documents are longer than spec.train.sequenceLength: what is beyond is left out",
            LOG_S("file", path), LOG_I("documents", data_truncated(d)),
            LOG_I("of", rows * (data_samples(d) + data_dropped(d))));
    if (data_dropped(d))
        log_warn("of some documents nothing that is learnt lies within spec.train.sequenceLength: "
                 "they are left out",
            LOG_S("file", path), LOG_I("documents", data_dropped(d)),
            LOG_I("of", data_samples(d) + data_dropped(d)));
}

static int open_tokens(struct train *t, const char *path, const struct corpus_told *told,
    train_tokens_fn *open, struct data **out, struct err *e)
{
    int64_t until = clock_ms() + APPEAR_MS;
    for (;;) {
        struct err why = {0};
        int rc = open(t, path, told->path, out, &why);
        if (rc && e)
            *e = why;
        if (!rc && train_leads(t))
            warn_of_rows(path, *out, t->objective->rows);
        if (!rc || why.sys != ENOENT || clock_ms() > until)
            return rc;
        beat(t->door->page);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    }
}

int train_open_corpus(
    struct train *t, const char *path, train_tokens_fn *open, struct data **out, struct err *e)
{
    struct corpus_told told = {.working = false};
    int rc = train_leads(t) ? tokenize(t, path, &told, e) : hear(t, &told, e);
    if (rc)
        return rc;
    t->tokens[t->tokens_count++] = told.key;
    if (told.refusal.code == ERR_NONE)
        return open_tokens(t, path, &told, open, out, e);
    *e = told.refusal;
    return -(int)e->code;
}

void train_sweep_corpus(const struct train *t)
{
    char folder[LIMIT_PATH_BYTES];
    struct err why = {0};
    int n = snprintf(folder, sizeof folder, "%s/" FOLDER, t->spec->checkpoint.path);
    if (n < (int)sizeof folder && tokens_sweep(folder, t->tokens, t->tokens_count, &why))
        log_warn("files of tokens that are not used any more stay", LOG_ERR(&why));
}
