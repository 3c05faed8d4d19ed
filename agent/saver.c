/*
 * saver: a slot for a text, and one for the claim. The file is replaced as a whole (io_write_file),
 * so that whoever reads it, and who comes after a loss of power, finds one of the texts.
 */
#include "agent/saver.h"

#include "agent/aside.h"
#include "api/limits.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

struct saver {
    struct aside aside;
    char *path, *lock_path;
    int lock;   /* the thread's; -1: not held */
    bool fails; /* the thread's: the last text was not written */
    enum { CLAIM_NONE, CLAIM_ASKED, CLAIM_REFUSED, CLAIM_HELD } claim;
    struct err refused;
    char *kept;
    char *text; /* that waits, or NULL */
};

static void saver_free(struct aside *a)
{
    struct saver *s = (struct saver *)a;
    mem_free(s->path);
    mem_free(s->lock_path);
    mem_free(s->kept);
    mem_free(s->text);
    mem_free(s);
}

/* -- the thread -- */

static int take_lock(struct saver *s, struct err *e)
{
    char folder[LIMIT_PATH_BYTES];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(s->lock_path, '/') - s->lock_path),
        s->lock_path);
    int rc = io_mkdirs(folder, 0700, e);
    if (rc)
        return rc;
    int fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, ERR_RETRY, errno, "opening %s", s->lock_path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        rc = err_sys(e, ERR_RETRY, errno, "%s: another has it", s->lock_path);
        io_close(fd);
        return rc;
    }
    s->lock = fd;
    return 0;
}

/* *kept NULL: there is no file. */
static int read_kept(const struct saver *s, char **kept, struct err *e)
{
    buf_auto struct buf text;
    struct err why = {0};
    buf_init(&text, SAVER_BYTES + 1);
    int rc = io_read_file(s->path, SAVER_BYTES, &text, &why);
    if (rc && why.sys == ENOENT)
        return 0;
    if (rc) {
        *e = why;
        return rc;
    }
    *kept = text.len ? buf_take(&text) : NULL;
    return 0;
}

static void claim_file(struct saver *s)
{
    struct err e = {0};
    char *kept = NULL;
    aside_work(&s->aside);
    int rc = s->lock < 0 ? take_lock(s, &e) : 0;
    rc = rc ? rc : read_kept(s, &kept, &e);
    aside_back(&s->aside);
    s->claim = rc ? CLAIM_REFUSED : CLAIM_HELD;
    s->refused = e;
    s->kept = kept;
}

static void write_text(struct saver *s)
{
    struct err e = {0};
    char *text = s->text;
    s->text = NULL;
    aside_work(&s->aside);
    int rc = io_write_file(s->path, text, strlen(text), 0600, &e);
    if (rc && !s->fails)
        log_warn("a file is not kept", LOG_S("file", s->path), LOG_ERR(&e));
    s->fails = rc;
    mem_free(text);
    aside_back(&s->aside);
}

static void serve_file(struct aside *a)
{
    struct saver *s = (struct saver *)a;
    while (s->text || !a->ends) {
        if (s->text)
            write_text(s);
        else if (s->claim == CLAIM_ASKED)
            claim_file(s);
        else
            aside_wait(a, -1);
    }
    aside_work(a);
    io_close(s->lock);
    aside_back(a);
}

/* -- its owner -- */

int saver_create(const char *path, const char *lock, struct saver **out, struct err *e)
{
    struct saver *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "out of memory");
    s->lock = -1;
    s->path = mem_strdup(path);
    s->lock_path = lock ? mem_strdup(lock) : NULL;
    int rc = s->path && (s->lock_path || !lock)
        ? aside_start(&s->aside, path, serve_file, saver_free, e)
        : err_set(e, ERR_MEMORY, "out of memory");
    if (rc)
        saver_free(&s->aside);
    else
        *out = s;
    return rc;
}

void saver_destroy(struct saver *s)
{
    char path[LIMIT_PATH_BYTES]; /* who is left behind may have freed its own */
    if (!s)
        return;
    snprintf(path, sizeof path, "%s", s->path);
    if (!aside_end(&s->aside, SAVER_END_MS))
        log_warn("a file is not kept: its disk does not answer", LOG_S("file", path));
}

int saver_claim(struct saver *s, char **kept, struct err *e)
{
    int rc = 0;
    aside_lock(&s->aside);
    if (s->claim == CLAIM_NONE) {
        s->claim = CLAIM_ASKED;
        aside_tell(&s->aside);
    } else if (s->claim == CLAIM_REFUSED) {
        s->claim = CLAIM_NONE;
        *e = s->refused;
        rc = -(int)e->code;
    } else if (s->claim == CLAIM_HELD) {
        *kept = s->kept;
        s->kept = NULL;
        rc = 1;
    }
    aside_unlock(&s->aside);
    return rc;
}

void saver_put(struct saver *s, char *text)
{
    aside_lock(&s->aside);
    char *late = s->text;
    s->text = text;
    aside_tell(&s->aside);
    aside_unlock(&s->aside);
    mem_free(late);
}

int64_t saver_late_ms(struct saver *s)
{
    return aside_late_ms(&s->aside);
}
