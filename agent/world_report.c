/*
 * world_report: what the controller is told of a world, and what a coordinator that comes back
 * takes from its last report. It decides nothing.
 */
#include "agent/world_internal.h"
#include "api/names.h"

#include <stdio.h>
#include <string.h>

static void report_rows(const struct world *w, struct report *out)
{
    for (int i = 0; i < w->rank_count; i++) {
        const struct health_rank *h = &w->rows[i];
        const struct seat *s = &w->seats[w->ranks[i].seat];
        out->rank_rows[i] = (struct report_rank){
            .rank = i,
            .replica = s->replica,
            .node = s->node,
            .phase =
                h->in_collective ? wire_operation_name(h->operation) : wire_phase_name(h->phase),
            .step = h->step,
            .silent_ms = w->ranks[i].exited ? 0 : h->silent_ms,
            .share = h->share,
        };
    }
    out->rank_row_count = w->rank_count;
}

static void report_attempts(const struct world *w, struct report *out)
{
    for (int i = 0; i < w->past_count; i++) {
        const struct past *p = &w->past[i];
        out->attempts[i] = p->a;
        out->attempts[i].cause = p->cause;
        out->attempts[i].node = p->node;
        out->attempts[i].exit_class = p->exit_class;
        out->attempts[i].log_tail = p->log_tail;
        if (!p->a.ended_ms)
            out->attempts[i].step = w->progress.step;
    }
    out->attempt_count = w->past_count;
}

static void report_verdict(const struct world *w, struct report *out)
{
    if (!w->verdict_kind[0])
        return;
    const struct seat *s = world_seat(w, w->verdict_replica);
    out->verdict = (struct verdict){.kind = w->verdict_kind,
        .replica = w->verdict_replica,
        .rank = w->verdict.rank,
        .node = s ? s->node : "",
        .operation = w->verdict.operation,
        .message = w->verdict.message,
        .since_ms = w->verdict_since_ms};
}

int world_report(const struct world *w, struct arena *a, struct report *out, struct err *e)
{
    struct report r;
    report_init(&r);
    r.attempts = arena_array(a, LIMIT_ATTEMPTS, sizeof *r.attempts);
    r.rank_rows = arena_array(a, (size_t)w->rank_count + 1, sizeof *r.rank_rows);
    if (!r.attempts || !r.rank_rows)
        return err_set(e, ERR_MEMORY, "out of memory for the report");
    r.generation = w->generation;
    r.term = w->known_term;
    r.incarnation = w->incarnation;
    r.state = world_state(w);
    for (int i = 0; i < w->seat_count; i++) {
        const struct seat *s = &w->seats[i];
        r.connected += s->joined;
        if (s->in_world)
            r.world_replicas = s->replica + 1;
    }
    r.ranks = w->final == OPEN ? w->rank_count : w->last_ranks;
    if (r.ranks) {
        int members = w->conf.members > 1 ? w->conf.members : 1;
        r.data_parallel = (int)(r.ranks / world_together(w)) * members;
        r.tensor = w->conf.tensor > 1 ? w->conf.tensor : 1;
        r.pipeline = w->conf.pipeline > 1 ? w->conf.pipeline : 1;
        r.expert = w->conf.expert > 1 ? w->conf.expert : 1;
        r.context = w->conf.context > 1 ? w->conf.context : 1;
    }
    progress_report(&w->progress, &r);
    r.restarts = w->restarts;
    report_rows(w, &r);
    report_attempts(w, &r);
    report_verdict(w, &r);
    r.failure = w->failure;
    r.failure_reason = w->failure_reason;
    r.failure_message = w->failure_message;
    *out = r;
    return 0;
}

static const char *known_reason(const char *reason)
{
    static const char *const known[] = {NAME_REASON_USER_ERROR, NAME_REASON_BAD_DATA,
        NAME_REASON_OUT_OF_MEMORY, NAME_REASON_RESTARTS};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i], reason))
            return known[i];
    return NAME_REASON_USER_ERROR;
}

void world_recover(struct world *w, const struct report *r)
{
    if (r->incarnation > w->greatest)
        w->greatest = w->incarnation = r->incarnation;
    for (int i = 0; i < r->attempt_count && i < LIMIT_ATTEMPTS; i++) {
        struct past *p = &w->past[i];
        const struct attempt *from = &r->attempts[i];
        p->a = *from;
        bool cut = !from->ended_ms; /* this agent itself was what ended */
        p->a.ended_ms = cut ? from->started_ms : from->ended_ms;
        snprintf(p->cause, sizeof p->cause, "%s", cut ? NAME_REASON_LOST_PEER : from->cause);
        snprintf(p->node, sizeof p->node, "%s", from->node);
        snprintf(p->exit_class, sizeof p->exit_class, "%s", cut ? "peer" : from->exit_class);
        snprintf(p->log_tail, sizeof p->log_tail, "%s", from->log_tail);
        w->past_count = i + 1;
    }
    if (r->term > w->known_term)
        w->known_term = r->term; /* one that superseded it */
    w->restarts = r->restarts;
    w->last_ranks = r->ranks;
    progress_recover(&w->progress, r);
    if (r->state == JOB_COMPLETE)
        w->final = COMPLETE;
    if (r->state == JOB_FAILED)
        world_fail(w, r->failure, known_reason(r->failure_reason), r->failure_message);
}
