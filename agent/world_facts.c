/*
 * world_facts: what members, ranks and the controller say changes seats (members) and ranks; no
 * fact moves the phase. A fault is kept as the worst seen: when one rank dies its peers fail too,
 * and only the first cause may decide what happens to the job.
 */
#include "agent/world_internal.h"
#include "api/names.h"

#include <stdio.h>
#include <string.h>

#define VERDICT_MS 20000 /* the controller looks every few seconds */

static bool is_active(const struct world *w)
{
    return w->phase != IDLE && w->phase != ENDING;
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
bool world_note_fault(struct world *w, const struct world_fault *f)
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

struct world_fault world_cause(
    enum exit_class c, const char *cause, int replica, int rank, struct world_now now)
{
    return (struct world_fault){CAUSE, c, cause, replica, rank, now.ms, "", ""};
}

/* Notes a fault that is a verdict on a node. */
static void blame(
    struct world *w, const char *kind, const struct world_fault *f, struct world_now now)
{
    if (!world_note_fault(w, f))
        return;
    struct health_verdict v = {.rank = f->rank};
    const struct seat *s = world_seat(w, f->replica);
    snprintf(v.message, sizeof v.message, "node %.60s: %s", s ? s->node : "", f->message);
    set_verdict(w, kind, &v, f->replica, now);
}

/* -- facts -- */

static void fill_seat(struct seat *s, const struct desired_member *m)
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
        const struct desired_member *m = k < d->member_count ? &d->members[k] : NULL;
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
    struct world_fault f = world_cause(EXIT_CLASS_PEER, NAME_REASON_LOST_PEER, replica, -1, now);
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
    struct world_fault f = {
        SYMPTOM, EXIT_CLASS_RETRY, NAME_CAUSE_REFUSED, -1, -1, -WORLD_SYMPTOM_MS, "", ""};
    snprintf(
        f.message, sizeof f.message, "a member has seen incarnation %lld", (long long)greatest);
    world_note_fault(w, &f);
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
        w->ranks[rank].loaded = w->conf.task != TASK_SERVE || rank != 0;
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
    case WIRE_BALANCED:
        if (rank == 0)
            progress_balanced(&w->progress, payload);
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
    struct world_fault f = world_cause(x->class_, NAME_REASON_RANK_FAILED, replica, rank, now);
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
        world_note_fault(w, &f);
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
    /* A server takes no steps: that it serves again is what is awaited. */
    if (w->conf.task == TASK_SERVE && w->phase == RUNNING && v->kind != HEALTH_HANG &&
        now.wall_ms - w->verdict_since_ms >= VERDICT_MS)
        w->verdict_kind[0] = '\0';
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
    struct world_fault f = world_cause(EXIT_CLASS_HANG, NAME_REASON_HANG, replica, v->rank, now);
    snprintf(f.message, sizeof f.message, "%.255s", v->message);
    world_note_fault(w, &f);
}
