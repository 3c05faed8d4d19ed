/*
 * coll_overlap: a thread that carries out reductions which were started, in their order, while the
 * caller computes on. It has the transports to itself while one is under way: whoever starts
 * something else waits first. So each collective still has one thread at a time, and the heartbeat
 * page one writer: the thread tells it of waits and progress while the caller waits for the thread,
 * and nothing else.
 */
#include "base/mem.h"
#include "base/point.h"
#include "runtime/coll/internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define JOBS 64 /* under way at once; one more waits */

struct coll_overlap {
    struct coll *coll;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below, and of coll's trace */
    pthread_cond_t changed;
    struct coll_job jobs[JOBS];
    int64_t *slices; /* (JOBS, size + 1) */
    unsigned added, done;
    bool ends;
    struct err failure; /* the first; what follows is not begun */
};

static enum wire_operation operation_of(const struct coll_job *j)
{
    return j->slices ? WIRE_REDUCE_SCATTER : WIRE_ALLREDUCE;
}

static int run_job(struct coll *c, const struct coll_job *j, struct err *e)
{
    c->sequence++;
    point_pass(wire_operation_name(operation_of(j)));
    if (j->slices)
        return c->device->reduce_scatter(c, j->data, j->slices, j->t, j->op, e);
    return c->device->all_reduce(c, j->data, j->count, j->t, j->op, e);
}

static void *run_jobs(void *arg)
{
    struct coll_overlap *o = arg;
    struct err e = {0};
    pthread_mutex_lock(&o->lock);
    while (!o->ends) {
        if (o->added == o->done) {
            pthread_cond_wait(&o->changed, &o->lock);
            continue;
        }
        struct coll_job job = o->jobs[o->done % JOBS];
        bool failed = o->failure.code != ERR_NONE;
        int64_t begun = trace_begin(o->coll->trace);
        pthread_mutex_unlock(&o->lock);
        int rc = failed ? 0 : run_job(o->coll, &job, &e);
        pthread_mutex_lock(&o->lock);
        trace_end(o->coll->trace, begun, TRACE_NETWORK, wire_operation_name(operation_of(&job)),
            "bytes", job.count * (int64_t)coll_element(job.t));
        if (rc)
            o->failure = e;
        o->done++;
        pthread_cond_broadcast(&o->changed);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

/* With the lock. The thread's waits have deadlines, and so has this one. */
static void wait_for_fewer(struct coll_overlap *o, unsigned jobs)
{
    struct coll *c = o->coll;
    if (o->added - o->done < jobs)
        return;
    atomic_store(&c->page, c->conf.page);
    while (o->added - o->done >= jobs)
        pthread_cond_wait(&o->changed, &o->lock);
}

void coll_overlap_add(struct coll *c, const struct coll_job *job)
{
    struct coll_overlap *o = c->overlap;
    pthread_mutex_lock(&o->lock);
    wait_for_fewer(o, JOBS);
    atomic_store(&c->page, NULL);
    struct coll_job *j = &o->jobs[o->added % JOBS];
    size_t n = (size_t)c->size + 1;
    *j = *job;
    if (job->slices)
        j->slices = memcpy(o->slices + o->added % JOBS * n, job->slices, n * sizeof *j->slices);
    o->added++;
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

int coll_overlap_finish(struct coll *c, struct err *e)
{
    struct coll_overlap *o = c->overlap;
    pthread_mutex_lock(&o->lock);
    wait_for_fewer(o, 1);
    atomic_store(&c->page, c->conf.page);
    struct err failure = o->failure;
    pthread_mutex_unlock(&o->lock);
    if (failure.code == ERR_NONE)
        return 0;
    coll_tell_awaited(c, c->awaited);
    *e = failure;
    return -(int)failure.code;
}

int coll_overlap(struct coll *c, struct err *e)
{
    if (c->overlap || c->device != &coll_host || c->leader_count == 1)
        return 0;
    struct coll_overlap *o = mem_zalloc(sizeof *o);
    int64_t *slices = mem_array(JOBS * ((size_t)c->size + 1), sizeof *slices);
    int wrong = o && slices ? 0 : ENOMEM;
    if (!wrong) {
        *o = (struct coll_overlap){.coll = c, .slices = slices};
        pthread_mutex_init(&o->lock, NULL);
        pthread_cond_init(&o->changed, NULL);
        wrong = pthread_create(&o->thread, NULL, run_jobs, o);
    }
    if (wrong) {
        mem_free(slices);
        mem_free(o);
        return err_sys(e, ERR_MEMORY, wrong, "no thread for collectives of %d ranks", c->size);
    }
    c->overlap = o;
    return 0;
}

void coll_overlap_trace(struct coll *c, struct trace *t)
{
    pthread_mutex_lock(&c->overlap->lock);
    c->trace = t;
    pthread_mutex_unlock(&c->overlap->lock);
}

/* What is under way still is given up. */
void coll_overlap_close(struct coll *c)
{
    struct coll_overlap *o = c->overlap;
    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    o->ends = true;
    if (o->added != o->done)
        coll_abort(c);
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    pthread_cond_destroy(&o->changed);
    pthread_mutex_destroy(&o->lock);
    mem_free(o->slices);
    mem_free(o);
    c->overlap = NULL;
}
