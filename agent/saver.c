/*
 * saver: a thread with one slot. The file is replaced as a whole (io_write_file), so that whoever
 * reads it, and who comes after a loss of power, finds one of the texts.
 */
#include "agent/saver.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

struct saver {
    char *path;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    char *text; /* that waits, or NULL */
    bool ends;
};

/* NULL: there will be none. */
static char *next_text(struct saver *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->text && !s->ends)
        pthread_cond_wait(&s->changed, &s->lock);
    char *text = s->text;
    s->text = NULL;
    pthread_mutex_unlock(&s->lock);
    return text;
}

static void *write_texts(void *user)
{
    struct saver *s = user;
    for (char *text; (text = next_text(s)); mem_free(text)) {
        struct err e = {0};
        if (io_write_file(s->path, text, strlen(text), 0600, &e))
            log_warn("a file is not kept", LOG_S("file", s->path), LOG_ERR(&e));
    }
    return NULL;
}

int saver_create(const char *path, struct saver **out, struct err *e)
{
    struct saver *s = mem_zalloc(sizeof *s);
    if (!s || !(s->path = mem_strdup(path))) {
        mem_free(s);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    int sys = pthread_create(&s->thread, NULL, write_texts, s);
    if (sys) {
        mem_free(s->path);
        mem_free(s);
        return err_sys(e, ERR_RETRY, sys, "starting a thread that writes %s", path);
    }
    *out = s;
    return 0;
}

void saver_put(struct saver *s, char *text)
{
    pthread_mutex_lock(&s->lock);
    char *late = s->text;
    s->text = text;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    mem_free(late);
}

void saver_destroy(struct saver *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->ends = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->path);
    mem_free(s);
}
