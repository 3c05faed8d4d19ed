/*
 * aside: the thread is joined where it has ended in time, and else detached: who comes last frees.
 */
#include "agent/aside.h"

#include "base/clock.h"

static void aside_free(struct aside *a)
{
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    a->free_fn(a);
}

static void *run_aside(void *user)
{
    struct aside *a = user;
    pthread_mutex_lock(&a->lock);
    a->run_fn(a);
    a->over = true;
    bool last = a->left_behind;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (last)
        aside_free(a);
    return NULL;
}

int aside_start(struct aside *a, const char *what, void (*run_fn)(struct aside *a),
    void (*free_fn)(struct aside *a), struct err *e)
{
    *a = (struct aside){.run_fn = run_fn, .free_fn = free_fn};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    int sys = pthread_create(&a->thread, NULL, run_aside, a);
    if (!sys)
        return 0;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    return err_sys(e, ERR_RETRY, sys, "starting a thread for %s", what);
}

static void wait_until(struct aside *a, int64_t ms)
{
    const struct timespec until = clock_after(ms - clock_ms());
    pthread_cond_clockwait(&a->changed, &a->lock, CLOCK_MONOTONIC, &until);
}

bool aside_end(struct aside *a, int64_t wait_ms)
{
    int64_t until_ms = clock_ms() + wait_ms;
    pthread_mutex_lock(&a->lock);
    a->ends = true;
    pthread_cond_broadcast(&a->changed);
    while (!a->over && clock_ms() < until_ms)
        wait_until(a, until_ms);
    bool over = a->over;
    a->left_behind = !over;
    if (!over)
        pthread_detach(a->thread);
    pthread_mutex_unlock(&a->lock);
    if (!over)
        return false;
    pthread_join(a->thread, NULL);
    aside_free(a);
    return true;
}

int64_t aside_late_ms(struct aside *a)
{
    pthread_mutex_lock(&a->lock);
    int64_t ms = a->since_ms ? clock_ms() - a->since_ms : 0;
    pthread_mutex_unlock(&a->lock);
    return ms >= ASIDE_LATE_MS ? ms : 0;
}

void aside_lock(struct aside *a)
{
    pthread_mutex_lock(&a->lock);
}

void aside_unlock(struct aside *a)
{
    pthread_mutex_unlock(&a->lock);
}

void aside_tell(struct aside *a)
{
    pthread_cond_broadcast(&a->changed);
}

void aside_wait(struct aside *a, int64_t wait_ms)
{
    if (wait_ms < 0)
        pthread_cond_wait(&a->changed, &a->lock);
    else
        wait_until(a, clock_ms() + wait_ms);
}

void aside_work(struct aside *a)
{
    a->since_ms = clock_ms();
    pthread_mutex_unlock(&a->lock);
}

void aside_back(struct aside *a)
{
    pthread_mutex_lock(&a->lock);
    a->since_ms = 0;
}
