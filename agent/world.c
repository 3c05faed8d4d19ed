/*
 * world: world_decide looks at what facts (world_facts.c) made of seats and ranks, and moves the
 * phase:
 *
 *   IDLE -> PREPARING -> LOADING -> RUNNING -> DRAINING -> ENDING -> IDLE
 *                \__________\__________\__________________/
 *
 * ENDING is left only when every member of the world has no rank left (or its link is gone): there
 * is no other way to a next incarnation. Symptoms (a rank that misses a peer) wait WORLD_SYMPTOM_MS
 * for their cause, and may still be replaced by it until the attempt has ended.
 */
#include "agent/world_internal.h"
#include "api/names.h"

#include <stdio.h>
#include <string.h>

#define PREPARE_MS     60000
#define DRAIN_MS       600000 /* a step and a checkpoint; a hang is noticed long before */
#define ENDING_MS      15000  /* the kill ladder takes 2 s */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 10000

int world_create(const struct world_conf *conf, struct world **out, struct err *e)
{
    struct world *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "out of memory");
    w->conf = *conf;
    w->greatest = w->incarnation = conf->incarnation;
    w->known_term = conf->term;
    w->failure_reason = "";
    progress_init(&w->progress);
    *out = w;
    return 0;
}

static void free_ranks(struct world *w)
{
    mem_free(w->ranks);
    mem_free(w->rows);
    mem_free(w->busy);
    w->ranks = NULL;
    w->rows = NULL;
    w->busy = NULL;
    w->rank_count = 0;
}

void world_destroy(struct world *w)
{
    if (!w)
        return;
    free_ranks(w);
    mem_free(w->seats);
    mem_free(w);
}

/* -- small questions -- */

static bool wants_stop(const struct world *w)
{
    return w->suspend || w->replicas == 0 || w->release;
}

struct seat *world_seat(const struct world *w, int replica)
{
    for (int i = 0; i < w->seat_count; i++)
        if (w->seats[i].replica == replica)
            return &w->seats[i];
    return NULL;
}

static void set_phase(struct world *w, enum world_phase phase, struct world_now now)
{
    w->phase = phase;
    w->phase_ms = now.ms;
}

static struct past *current(struct world *w)
{
    return w->past_count ? &w->past[w->past_count - 1] : NULL;
}

static void emit(struct world_actions *out, struct world_action a)
{
    if (out->count < WORLD_ACTIONS)
        out->list[out->count++] = a;
}

/* -- forming -- */

int64_t world_together(const struct world *w)
{
    const int ways[] = {
        w->conf.tensor, w->conf.pipeline, w->conf.expert, w->conf.context, w->conf.members};
    int64_t ranks = 1;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        ranks *= ways[i] > 1 ? ways[i] : 1;
    return ranks;
}

/* Ranks that share a model are in the world together or not: the last members stay out. Returns how
   many are left of `present`. */
static int keep_whole(struct world *w, int present)
{
    for (int i = w->seat_count - 1; i >= 0; i--) {
        if ((int64_t)present * w->conf.per_replica % world_together(w) == 0)
            break;
        present -= w->seats[i].target;
        w->seats[i].target = false;
    }
    return present;
}

/* Members of the next world, if all are there: of a server those that share the one model. */
static int needed(const struct world *w)
{
    int64_t pods = (world_together(w) - 1) / w->conf.per_replica + 1;
    return w->conf.task == TASK_SERVE && w->replicas > pods ? (int)pods : w->replicas;
}

/* Marks the members that a world formed now would have; false: wait. */
static bool choose_target(struct world *w, struct world_now now)
{
    int need = needed(w), present = 0;
    for (int i = 0; i < w->seat_count; i++) {
        struct seat *s = &w->seats[i];
        s->target = s->wanted && s->joined && !s->leaving && s->replica < need;
        present += s->target;
    }
    if (present == need) {
        w->missing_ms = 0;
        return need > 0;
    }
    if (!w->missing_ms)
        w->missing_ms = now.ms;
    present = keep_whole(w, present);
    return present > 0 && present >= w->elastic.min_replicas &&
        now.ms - w->missing_ms >= 1000 * (int64_t)w->elastic.wait_seconds;
}

static void begin_attempt(struct world *w, struct world_now now)
{
    if (w->past_count == LIMIT_ATTEMPTS) {
        memmove(w->past, w->past + 1, sizeof *w->past * (LIMIT_ATTEMPTS - 1));
        w->past_count--;
    }
    w->past[w->past_count++] = (struct past){
        .a = {.number = w->incarnation, .started_ms = now.wall_ms, .replica = -1, .rank = -1}};
    w->lost_known = false;
}

static void form(struct world *w, struct world_now now, struct world_actions *out)
{
    int members = 0, rank = 0;
    for (int i = 0; i < w->seat_count; i++)
        members += w->seats[i].target;
    size_t n = (size_t)members * (size_t)w->conf.per_replica;
    w->ranks = mem_array(n, sizeof *w->ranks);
    w->rows = mem_array(n, sizeof *w->rows);
    w->busy = mem_array(n, sizeof *w->busy);
    if (!w->ranks || !w->rows || !w->busy) {
        free_ranks(w);
        w->not_before_ms = now.ms + BACKOFF_MAX_MS;
        return;
    }
    for (int i = 0; i < w->seat_count; i++) {
        struct seat *s = &w->seats[i];
        s->in_world = s->target;
        s->prepared = s->ended = false;
        s->first_rank = rank;
        for (int k = 0; s->in_world && k < w->conf.per_replica; k++, rank++) {
            w->ranks[rank] = (struct world_rank){.seat = i, .local = k};
            w->rows[rank].waiting_for = -1;
        }
    }
    w->rank_count = w->last_ranks = (int)n;
    w->incarnation = ++w->greatest;
    w->fault = w->left = (struct world_fault){0};
    w->stop_cause = NULL;
    progress_incarnation(&w->progress);
    begin_attempt(w, now);
    set_phase(w, PREPARING, now);
    emit(out, (struct world_action){.kind = WORLD_PREPARE, .incarnation = w->incarnation});
}

/* -- ending -- */

static void stop(struct world *w, enum mesh_stop mode, enum world_phase next, const char *cause,
    struct world_now now, struct world_actions *out)
{
    w->stop_cause = cause;
    set_phase(w, next, now);
    emit(out,
        (struct world_action){.kind = WORLD_STOP, .incarnation = w->incarnation, .mode = mode});
}

void world_fail(struct world *w, enum err_code class_, const char *reason, const char *message)
{
    w->final = FAILED;
    w->failure = class_;
    w->failure_reason = reason;
    snprintf(w->failure_message, sizeof w->failure_message, "%s", message);
}

static int restarts_in_window(const struct world *w, struct world_now now)
{
    int n = 0, kept = w->restart_count < LIMIT_RESTARTS ? w->restart_count : LIMIT_RESTARTS;
    for (int i = 0; i < kept; i++)
        n += now.ms - w->restart_ms[i] < 1000 * (int64_t)w->restart.window_seconds;
    return n;
}

static void judge_fault(struct world *w, struct world_now now)
{
    const struct world_fault *f = &w->fault;
    enum err_code class_ = exit_class_code((int)f->class_);
    if (f->severity == FATAL) {
        world_fail(w, class_,
            f->class_ == EXIT_CLASS_USER       ? NAME_REASON_USER_ERROR
                : f->class_ == EXIT_CLASS_DATA ? NAME_REASON_BAD_DATA
                                               : NAME_REASON_OUT_OF_MEMORY,
            f->message);
        return;
    }
    w->restarts++;
    bool lost = !strcmp(f->cause, NAME_REASON_LOST_PEER);
    if (lost) /* a pod that went is no sign of a broken job: it costs no budget */
        return;
    if (restarts_in_window(w, now) >= w->restart.max_restarts) {
        char text[sizeof w->failure_message];
        snprintf(text, sizeof text, "%d restarts within %d s; the last: %.180s",
            w->restart.max_restarts, w->restart.window_seconds, f->message);
        world_fail(w, class_, NAME_REASON_RESTARTS, text);
        return;
    }
    w->restart_ms[w->restart_count++ % LIMIT_RESTARTS] = now.ms;
    int64_t wait = 0; /* the first restart is immediate: most faults do not repeat */
    for (int i = 0; i < w->failures_in_a_row && wait < BACKOFF_MAX_MS; i++)
        wait = wait ? wait * 2 : BACKOFF_MIN_MS;
    w->failures_in_a_row++;
    w->not_before_ms = now.ms + (wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS);
}

static void end_attempt(struct world *w, struct world_now now)
{
    struct past *p = current(w);
    const struct world_fault *f = &w->fault;
    bool failed = f->severity > NO_FAULT;
    if (p) {
        p->a.ended_ms = now.wall_ms;
        p->a.step = w->progress.step;
        snprintf(p->cause, sizeof p->cause, "%s",
            failed              ? f->cause
                : w->stop_cause ? w->stop_cause
                                : NAME_CAUSE_DRAINED);
        p->a.replica = failed ? f->replica : -1;
        p->a.rank = failed ? f->rank : -1;
        const struct seat *s = failed ? world_seat(w, f->replica) : NULL;
        snprintf(p->node, sizeof p->node, "%s", s ? s->node : "");
        enum exit_class c = failed ? f->class_
            : w->final == COMPLETE ? EXIT_CLASS_DONE
                                   : EXIT_CLASS_DRAINED;
        snprintf(p->exit_class, sizeof p->exit_class, "%s", err_code_name(exit_class_code((int)c)));
        snprintf(p->log_tail, sizeof p->log_tail, "%s", failed ? f->log_tail : "");
    }
    if (failed && w->final == OPEN && !w->superseded)
        judge_fault(w, now);
    w->fault = (struct world_fault){0};
    for (int i = 0; i < w->seat_count; i++)
        w->seats[i].in_world = false;
    free_ranks(w);
    set_phase(w, IDLE, now);
}

static void decide_ending(struct world *w, struct world_now now, struct world_actions *out)
{
    bool all = true;
    for (int i = 0; i < w->seat_count; i++) {
        const struct seat *s = &w->seats[i];
        if (!s->in_world || s->ended)
            continue;
        all = false;
        if (now.ms - w->phase_ms >= ENDING_MS)
            emit(out, (struct world_action){.kind = WORLD_DROP, .replica = s->replica});
    }
    if (all)
        end_attempt(w, now);
}

/* -- the world that lives -- */

/* Why this world must be left for another, or NULL. */
static const char *retarget(struct world *w, struct world_now now)
{
    if (wants_stop(w))
        return w->suspend ? NAME_REASON_SUSPENDED
            : w->release  ? NAME_CAUSE_RELEASED
                          : NAME_CAUSE_SCALED;
    bool ready = choose_target(w, now);
    for (int i = 0; i < w->seat_count; i++) {
        const struct seat *s = &w->seats[i];
        if (s->in_world && (!s->wanted || s->leaving))
            return s->leaving ? NAME_CAUSE_LEAVING : NAME_CAUSE_SCALED;
        if (ready && s->target && !s->in_world)
            return NAME_CAUSE_SCALED;
    }
    return NULL;
}

/* All ranks have exited without a fault: complete, or stopped as asked. */
static void finish(struct world *w, struct world_now now)
{
    bool done = w->conf.task != TASK_SERVE;
    for (int i = 0; i < w->rank_count; i++)
        done = done && w->ranks[i].class_ == EXIT_CLASS_DONE;
    if (done) {
        w->final = COMPLETE;
        w->stop_cause = NAME_REASON_COMPLETED;
    }
    set_phase(w, ENDING, now);
}

static void check_prepared(struct world *w, struct world_now now, struct world_actions *out)
{
    for (int i = 0; i < w->seat_count; i++)
        if (w->seats[i].in_world && !w->seats[i].prepared)
            return;
    /* A program of another kind tells nothing about loading: it runs. */
    set_phase(w, w->conf.task == TASK_RUN ? RUNNING : LOADING, now);
    emit(out, (struct world_action){.kind = WORLD_START, .incarnation = w->incarnation});
}

static void check_deadlines(struct world *w, struct world_now now)
{
    int64_t limit = w->phase == PREPARING ? PREPARE_MS : DRAIN_MS;
    if (w->phase != PREPARING && w->phase != DRAINING)
        return;
    if (now.ms - w->phase_ms < limit)
        return;
    struct world_fault f = world_cause(EXIT_CLASS_HANG, NAME_REASON_HANG, -1, -1, now);
    snprintf(f.message, sizeof f.message, "ranks did not %s within %lld s",
        w->phase == PREPARING ? "get ready" : "stop", (long long)(limit / 1000));
    world_note_fault(w, &f);
}

static void decide_active(struct world *w, struct world_now now, struct world_actions *out)
{
    if (w->superseded) {
        stop(w, MESH_KILL, ENDING, NAME_CAUSE_SUPERSEDED, now, out);
        return;
    }
    check_deadlines(w, now);
    int exited = 0, loaded = 0;
    for (int i = 0; i < w->rank_count; i++) {
        exited += w->ranks[i].exited;
        loaded += w->ranks[i].loaded;
    }
    /* When all ranks have told their end, there is no cause to come. */
    bool waited = exited == w->rank_count || now.ms - w->fault.since_ms >= WORLD_SYMPTOM_MS;
    if (w->fault.severity >= CAUSE || (w->fault.severity == SYMPTOM && waited)) {
        stop(w, MESH_KILL, ENDING, w->fault.cause, now, out);
        return;
    }
    if (w->fault.severity)
        return; /* a symptom: its cause may be on its way */
    if (exited == w->rank_count) {
        finish(w, now);
        return;
    }
    if (w->phase == DRAINING)
        return;
    /* What is about to end is not stopped on the way. */
    const char *why = exited ? NULL : retarget(w, now);
    if (why) {
        if (w->phase == RUNNING)
            stop(w, MESH_DRAIN, DRAINING, why, now, out);
        else
            stop(w, MESH_TERM, ENDING, why, now, out);
        return;
    }
    if (w->phase == PREPARING)
        check_prepared(w, now, out);
    else if (w->phase == LOADING && loaded == w->rank_count)
        set_phase(w, RUNNING, now);
}

static void decide_idle(struct world *w, struct world_now now, struct world_actions *out)
{
    if (w->superseded)
        return;
    if (w->release && !w->released) {
        w->released = true;
        emit(out, (struct world_action){.kind = WORLD_RELEASE});
    }
    if (!w->has_desired || w->released || w->final != OPEN || wants_stop(w) ||
        now.ms < w->not_before_ms)
        return;
    if (choose_target(w, now))
        form(w, now, out);
}

void world_decide(struct world *w, struct world_now now, struct world_actions *out)
{
    out->count = 0;
    if (w->phase == IDLE)
        decide_idle(w, now, out);
    else if (w->phase == ENDING)
        decide_ending(w, now, out);
    else
        decide_active(w, now, out);
}

/* -- what the caller asks -- */

int64_t world_incarnation(const struct world *w)
{
    return w->incarnation;
}

int64_t world_term(const struct world *w)
{
    return w->term;
}

bool world_over(const struct world *w)
{
    return w->superseded && w->phase == IDLE;
}

int world_ranks(const struct world *w)
{
    return w->rank_count;
}

struct world_place world_place(const struct world *w, int rank)
{
    const struct world_rank *r = &w->ranks[rank];
    const struct seat *s = &w->seats[r->seat];
    return (struct world_place){.rank = rank,
        .replica = s->replica,
        .local = r->local,
        .port = s->ports[r->local],
        .node = s->node,
        .address = s->address};
}

bool world_watched(const struct world *w)
{
    return w->conf.task != TASK_RUN &&
        (w->phase == LOADING || w->phase == RUNNING || w->phase == DRAINING);
}

const struct health_rank *world_rows(const struct world *w)
{
    return w->rows;
}

struct health_busy *world_busy(struct world *w)
{
    return w->busy;
}

int64_t world_median_step_ms(const struct world *w)
{
    return progress_median_step_ms(&w->progress);
}

enum job_state world_state(const struct world *w)
{
    if (w->final == COMPLETE)
        return JOB_COMPLETE;
    if (w->final == FAILED)
        return JOB_FAILED;
    switch (w->phase) {
    case IDLE:
        return w->has_desired && wants_stop(w) ? JOB_SUSPENDED
            : w->past_count && w->past[w->past_count - 1].a.ended_ms && !w->missing_ms
            ? JOB_FORMING
            : JOB_WAITING;
    case PREPARING:
    case LOADING:
        return JOB_FORMING;
    case RUNNING:
        return w->conf.task == TASK_SERVE ? JOB_SERVING : JOB_RUNNING;
    case DRAINING:
        return JOB_STOPPING;
    case ENDING:
        return w->fault.severity ? JOB_FORMING : JOB_STOPPING;
    }
    return JOB_WAITING;
}
