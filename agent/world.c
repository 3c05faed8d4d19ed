/*
 * world: facts change seats (members) and ranks; world_decide looks at them and moves
 * the phase:
 *
 *   IDLE -> PREPARING -> LOADING -> RUNNING -> DRAINING -> ENDING -> IDLE
 *                \__________\__________\__________________/
 *
 * ENDING is left only when every member of the world has no rank left (or its link is gone): there
 * is no other way to a next incarnation. A fault is kept as the worst seen: when one rank dies its
 * peers fail too, and only the first cause may decide what happens to the job. Symptoms (a rank
 * that misses a peer) wait SYMPTOM_MS for their cause, and may still be replaced by it until the
 * attempt has ended.
 */
#include "agent/world_internal.h"
#include "api/names.h"

#include <stdio.h>
#include <string.h>

#define SYMPTOM_MS     2500 /* a busy node tells late what the others already suffer from */
#define PREPARE_MS     60000
#define DRAIN_MS       600000 /* a step and a checkpoint; a hang is noticed long before */
#define ENDING_MS      15000  /* the kill ladder takes 2 s */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 10000
#define VERDICT_MS     20000 /* the controller looks every few seconds */

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

static bool is_active(const struct world *w)
{
    return w->phase != IDLE && w->phase != ENDING;
}

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

/* The rank of a member's message, or -1 when it is not of the current incarnation. */
static int rank_of(const struct world *w, int replica, int64_t incarnation, int local)
{
    const struct seat *s = world_seat(w, replica);
    if (w->phase == IDLE || !s || !s->in_world || incarnation != w->incarnation || local < 0 ||
        local >= w->conf.per_replica)
        return -1;
    return s->first_rank + local;
}

static void set_phase(struct world *w, enum phase phase, struct world_now now)
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

/* -- faults -- */

static enum severity severity_of(enum exit_class c)
{
    switch (c) {
    case EXIT_CLASS_DONE:
    case EXIT_CLASS_DRAINED:
        return NO_FAULT;
    case EXIT_CLASS_USER:
    case EXIT_CLASS_DATA:
    case EXIT_CLASS_MEMORY:
        return FATAL;
    case EXIT_CLASS_PEER:
    case EXIT_CLASS_HANG:
        return SYMPTOM;
    case EXIT_CLASS_CORRUPT:
    case EXIT_CLASS_DEVICE:
    case EXIT_CLASS_BUG:
    case EXIT_CLASS_RETRY:
        return CAUSE;
    }
    return CAUSE;
}

/* Whether the same again would end the same. Not where the kernel chose whom to kill for memory;
 * and what ends a server that serves is what it was asked. */
static bool ends_the_job(const struct world *w, int rank, const struct mesh_msg *x)
{
    if (severity_of(x->class_) != FATAL || x->signal)
        return false;
    return w->conf.task != TASK_SERVE || (x->class_ != EXIT_CLASS_MEMORY && !w->ranks[rank].loaded);
}

/* Whether it is the one that decides now. */
static bool note_fault(struct world *w, const struct fault *f)
{
    /* After a stop of our own choice only what can never work is news: the rest is its echo. */
    if (w->phase == ENDING && !w->fault.severity && f->severity < FATAL)
        return false;
    if (f->severity <= w->fault.severity)
        return false;
    w->fault = *f;
    return true;
}

static void set_verdict(struct world *w, const char *kind, const struct health_verdict *v,
    int replica, struct world_now now)
{
    if (strcmp(w->verdict_kind, kind) || w->verdict.rank != v->rank ||
        w->verdict_replica != replica)
        w->verdict_since_ms = now.wall_ms;
    snprintf(w->verdict_kind, sizeof w->verdict_kind, "%s", kind);
    w->verdict = *v;
    w->verdict_replica = replica;
}

static struct fault cause_of(
    enum exit_class c, const char *cause, int replica, int rank, struct world_now now)
{
    return (struct fault){CAUSE, c, cause, replica, rank, now.ms, "", ""};
}

/* Notes a fault that is a verdict on a node. */
static void blame(struct world *w, const char *kind, const struct fault *f, struct world_now now)
{
    if (!note_fault(w, f))
        return;
    struct health_verdict v = {.rank = f->rank};
    const struct seat *s = world_seat(w, f->replica);
    snprintf(v.message, sizeof v.message, "node %.60s: %s", s ? s->node : "", f->message);
    set_verdict(w, kind, &v, f->replica, now);
}

/* -- facts -- */

static void fill_seat(struct seat *s, const struct member *m)
{
    snprintf(s->pod, sizeof s->pod, "%s", m->pod);
    snprintf(s->uid, sizeof s->uid, "%s", m->uid);
    snprintf(s->node, sizeof s->node, "%s", m->node);
    snprintf(s->address, sizeof s->address, "%s", m->address);
}

/* Old seats that still matter and all desired ones, by replica; desired members are sorted. */
static int merge_seats(
    struct world *w, const struct desired *d, struct world_now now, struct err *e)
{
    struct seat *merged = mem_array((size_t)(w->seat_count + d->member_count) + 1, sizeof *merged);
    if (!merged)
        return err_set(e, ERR_MEMORY, "out of memory for %d members", d->member_count);
    for (int i = 0; i < w->seat_count; i++) { /* a replaced pod is a lost member */
        struct seat *s = &w->seats[i];
        s->listed = false;
        for (int k = 0; k < d->member_count; k++)
            if (d->members[k].replica == s->replica && s->joined &&
                strcmp(d->members[k].uid, s->uid))
                world_lost(w, s->replica, now);
    }
    int n = 0, i = 0, k = 0;
    while (i < w->seat_count || k < d->member_count) {
        const struct member *m = k < d->member_count ? &d->members[k] : NULL;
        struct seat *s = i < w->seat_count ? &w->seats[i] : NULL;
        bool same = m && s && m->replica == s->replica;
        if (s && (same || !m || s->replica < m->replica)) {
            i++;
            if (!same && !s->joined && !s->in_world)
                continue;
            merged[n] = *s;
        } else {
            merged[n] = (struct seat){.replica = m->replica};
        }
        if (m && merged[n].replica == m->replica) {
            fill_seat(&merged[n], m);
            merged[n].listed = true;
            k++;
        }
        n++;
    }
    /* Ranks know their seat by index. */
    for (int r = 0; r < w->rank_count; r++)
        for (int x = 0; x < n; x++)
            if (merged[x].replica == w->seats[w->ranks[r].seat].replica) {
                w->ranks[r].seat = x;
                break;
            }
    mem_free(w->seats);
    w->seats = merged;
    w->seat_count = n;
    return 0;
}

int world_desired(struct world *w, const struct desired *d, struct world_now now, struct err *e)
{
    if (w->superseded || d->term < w->known_term)
        return err_set(e, ERR_USER, "term %lld is over: term %lld has begun", (long long)d->term,
            (long long)w->known_term);
    int rc = merge_seats(w, d, now, e);
    if (rc)
        return rc;
    w->term = w->known_term = d->term;
    if (w->replicas != d->replicas && w->missing_ms)
        w->missing_ms = now.ms;
    w->has_desired = true;
    w->generation = d->generation;
    w->replicas = d->replicas;
    w->suspend = d->suspend;
    w->release = d->release;
    w->elastic = d->elastic;
    w->restart = d->restart;
    for (int i = 0; i < w->seat_count; i++)
        w->seats[i].wanted = w->seats[i].listed && w->seats[i].replica < d->replicas;
    return 0;
}

void world_joined(
    struct world *w, int replica, const char *uid, int64_t incarnation, struct world_now now)
{
    struct seat *s = world_seat(w, replica);
    if (incarnation > w->greatest)
        w->greatest = incarnation;
    if (!s || (s->uid[0] && strcmp(s->uid, uid)))
        return;
    if (s->joined)
        world_lost(w, replica, now);
    s->joined = true;
    s->leaving = false;
}

/* Whether some had not ended. */
static bool end_ranks_of(struct world *w, const struct seat *s)
{
    bool some = false;
    for (int i = 0; i < w->rank_count; i++) {
        if (w->ranks[i].exited || &w->seats[w->ranks[i].seat] != s)
            continue;
        w->ranks[i].exited = some = true;
        w->ranks[i].class_ = EXIT_CLASS_DRAINED;
    }
    return some;
}

void world_lost(struct world *w, int replica, struct world_now now)
{
    struct seat *s = world_seat(w, replica);
    if (!s || !s->joined)
        return;
    s->joined = false;
    if (!s->in_world || s->ended)
        return;
    s->ended = true; /* it ends its ranks by itself: nobody can tell it to */
    struct fault f = cause_of(EXIT_CLASS_PEER, NAME_REASON_LOST_PEER, replica, -1, now);
    snprintf(
        f.message, sizeof f.message, "the agent of replica %d (%.100s) is gone", replica, s->pod);
    if (w->phase == DRAINING && s->leaving) {
        /* As it had said. If its ranks did not get to the boundary, the others do not either, and
         * end for want of a peer. */
        if (!end_ranks_of(w, s))
            return;
        if (!w->fault.severity) {
            w->left = f;
            return;
        }
    }
    blame(w, NAME_REASON_LOST_PEER, &f, now);
}

void world_leaving(struct world *w, int replica)
{
    struct seat *s = world_seat(w, replica);
    if (s)
        s->leaving = true;
}

void world_refused(struct world *w, int64_t greatest)
{
    if (greatest > w->greatest)
        w->greatest = greatest;
    if (w->phase != PREPARING)
        return;
    /* Nothing better is to be waited for. */
    struct fault f = {SYMPTOM, EXIT_CLASS_RETRY, "Refused", -1, -1, -SYMPTOM_MS, "", ""};
    snprintf(
        f.message, sizeof f.message, "a member has seen incarnation %lld", (long long)greatest);
    note_fault(w, &f);
}

void world_superseded(struct world *w, int64_t term)
{
    if (term < w->term)
        return; /* of the past */
    if (term > w->known_term)
        w->known_term = term;
    w->superseded = true;
}

void world_prepared(
    struct world *w, int replica, int64_t incarnation, const uint16_t *ports, int count)
{
    struct seat *s = world_seat(w, replica);
    if (w->phase != PREPARING || !s || !s->in_world || incarnation != w->incarnation ||
        count != w->conf.per_replica)
        return;
    s->prepared = true;
    memcpy(s->ports, ports, sizeof *ports * (size_t)count);
}

static void settle_steps_lost(struct world *w)
{
    if (w->lost_known || w->past_count < 2)
        return;
    w->lost_known = true;
    struct attempt *before = &w->past[w->past_count - 2].a;
    before->steps_lost =
        before->step > w->progress.resumed_step ? before->step - w->progress.resumed_step : 0;
}

void world_frame(struct world *w, int replica, int64_t incarnation, int local, enum wire_type type,
    const struct json *payload, struct world_now now)
{
    int rank = rank_of(w, replica, incarnation, local);
    if (rank < 0)
        return;
    switch (type) {
    case WIRE_LOADED:
        w->ranks[rank].loaded = w->conf.task != TASK_SERVE;
        if (rank == 0) {
            progress_loaded(&w->progress, payload);
            settle_steps_lost(w);
        }
        break;
    case WIRE_SERVING:
        w->ranks[rank].loaded = true;
        w->failures_in_a_row = 0;
        break;
    case WIRE_STEP:
        if (rank)
            break;
        progress_step(&w->progress, payload, now.ms, now.wall_ms);
        w->failures_in_a_row = 0;
        /* Steps go on: what was wrong is over, once everyone had time to read it. */
        if (w->phase == RUNNING && strcmp(w->verdict_kind, NAME_REASON_STRAGGLER) &&
            now.wall_ms - w->verdict_since_ms >= VERDICT_MS)
            w->verdict_kind[0] = '\0';
        break;
    case WIRE_EVALUATED:
        if (rank == 0)
            progress_evaluated(&w->progress, payload);
        break;
    case WIRE_SAVED:
        if (rank == 0)
            progress_saved(&w->progress, payload, now.wall_ms);
        break;
    default:
        break;
    }
}

void world_beats(
    struct world *w, int replica, int64_t incarnation, const struct health_rank *rows, int count)
{
    for (int i = 0; i < count; i++) {
        int rank = rank_of(w, replica, incarnation, i);
        if (rank >= 0 && !w->ranks[rank].exited)
            w->rows[rank] = rows[i];
    }
}

void world_exit(struct world *w, int replica, const struct mesh_msg *x, struct world_now now)
{
    int rank = rank_of(w, replica, x->incarnation, x->local);
    if (rank < 0 || w->ranks[rank].exited)
        return;
    w->ranks[rank].exited = true;
    w->ranks[rank].class_ = x->class_;
    /* Drained, though nobody had asked: the checkpoint is in another world's hands. */
    if (x->class_ == EXIT_CLASS_DRAINED && !x->asked && w->conf.task == TASK_TRAIN &&
        is_active(w) && w->phase != DRAINING)
        world_superseded(w, w->term);
    /* It can hold nobody up any more except by its absence. */
    w->rows[rank].in_collective = false;
    w->rows[rank].silent_ms = INT64_MAX / 2;
    struct fault f = cause_of(x->class_, NAME_REASON_RANK_FAILED, replica, rank, now);
    f.severity = x->asked ? NO_FAULT : severity_of(x->class_);
    if (f.severity == FATAL && !ends_the_job(w, rank, x))
        f.severity = CAUSE;
    if (!f.severity && !x->asked && w->conf.task == TASK_SERVE && w->phase != DRAINING &&
        is_active(w)) {
        f.severity = CAUSE; /* a server does not end by itself */
        f.class_ = EXIT_CLASS_BUG;
    }
    if (!f.severity)
        return;
    if (x->message[0])
        snprintf(f.message, sizeof f.message, "%s", x->message);
    else if (x->signal)
        snprintf(f.message, sizeof f.message, "rank %d was killed by signal %d (%s)", rank,
            x->signal, err_code_name(exit_class_code((int)f.class_)));
    else
        snprintf(f.message, sizeof f.message, "rank %d ended: %s", rank,
            err_code_name(exit_class_code((int)f.class_)));
    snprintf(f.log_tail, sizeof f.log_tail, "%s", x->log_tail);
    /* A killed rank is a cause of its own, whatever class its signal has. */
    if (x->signal && f.severity == SYMPTOM)
        f.severity = CAUSE;
    if (f.severity == SYMPTOM && w->left.severity)
        blame(w, NAME_REASON_LOST_PEER, &w->left, now);
    else if (f.class_ == EXIT_CLASS_DEVICE)
        blame(w, NAME_REASON_BAD_DEVICE, &f, now);
    else
        note_fault(w, &f);
}

void world_ended(struct world *w, int replica, int64_t incarnation)
{
    struct seat *s = world_seat(w, replica);
    if (s && s->in_world && incarnation == w->incarnation)
        s->ended = true;
}

void world_verdict(struct world *w, const struct health_verdict *v, struct world_now now)
{
    bool straggled = !strcmp(w->verdict_kind, NAME_REASON_STRAGGLER);
    if (!is_active(w) || v->kind == HEALTH_WELL) {
        if (straggled)
            w->verdict_kind[0] = '\0';
        return;
    }
    if (v->rank < 0 || v->rank >= w->rank_count)
        return;
    int replica = w->seats[w->ranks[v->rank].seat].replica;
    if (v->kind == HEALTH_STRAGGLER) {
        if (straggled || !w->verdict_kind[0])
            set_verdict(w, NAME_REASON_STRAGGLER, v, replica, now);
        return;
    }
    /* The others wait for one that is gone: for whom it missed, which is to be told yet. */
    if (w->fault.severity && w->ranks[v->rank].exited)
        return;
    set_verdict(w, NAME_REASON_HANG, v, replica, now);
    struct fault f = cause_of(EXIT_CLASS_HANG, NAME_REASON_HANG, replica, v->rank, now);
    snprintf(f.message, sizeof f.message, "%.255s", v->message);
    note_fault(w, &f);
}

/* -- forming -- */

/* Marks the members that a world formed now would have; false: wait. */
static bool choose_target(struct world *w, struct world_now now)
{
    int need = w->conf.task == TASK_SERVE && w->replicas > 1 ? 1 : w->replicas, present = 0;
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
            w->ranks[rank] = (struct rank){.seat = i, .local = k};
            w->rows[rank].waiting_for = -1;
        }
    }
    w->rank_count = (int)n;
    w->incarnation = ++w->greatest;
    w->fault = w->left = (struct fault){0};
    w->stop_cause = NULL;
    progress_incarnation(&w->progress);
    begin_attempt(w, now);
    set_phase(w, PREPARING, now);
    emit(out, (struct world_action){.kind = WORLD_PREPARE, .incarnation = w->incarnation});
}

/* -- ending -- */

static void stop(struct world *w, enum mesh_stop mode, enum phase next, const char *cause,
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
    const struct fault *f = &w->fault;
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
    const struct fault *f = &w->fault;
    bool failed = f->severity > NO_FAULT;
    if (p) {
        p->a.ended_ms = now.wall_ms;
        p->a.step = w->progress.step;
        snprintf(p->cause, sizeof p->cause, "%s",
            failed              ? f->cause
                : w->stop_cause ? w->stop_cause
                                : "Drained");
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
    w->fault = (struct fault){0};
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
        return w->suspend ? "Suspended" : w->release ? "Released" : "Scaled";
    bool ready = choose_target(w, now);
    for (int i = 0; i < w->seat_count; i++) {
        const struct seat *s = &w->seats[i];
        if (s->in_world && (!s->wanted || s->leaving))
            return s->leaving ? "Leaving" : "Scaled";
        if (ready && s->target && !s->in_world)
            return "Scaled";
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
    struct fault f = cause_of(EXIT_CLASS_HANG, NAME_REASON_HANG, -1, -1, now);
    snprintf(f.message, sizeof f.message, "ranks did not %s within %lld s",
        w->phase == PREPARING ? "get ready" : "stop", (long long)(limit / 1000));
    note_fault(w, &f);
}

static void decide_active(struct world *w, struct world_now now, struct world_actions *out)
{
    if (w->superseded) {
        stop(w, MESH_KILL, ENDING, "Superseded", now, out);
        return;
    }
    check_deadlines(w, now);
    int exited = 0, loaded = 0;
    for (int i = 0; i < w->rank_count; i++) {
        exited += w->ranks[i].exited;
        loaded += w->ranks[i].loaded;
    }
    /* When all ranks have told their end, there is no cause to come. */
    bool waited = exited == w->rank_count || now.ms - w->fault.since_ms >= SYMPTOM_MS;
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
    const struct rank *r = &w->ranks[rank];
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
