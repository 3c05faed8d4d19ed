/*
 * plan_outlook: is the job over, and how? What status already says wins, so that an outcome is
 * decided once. Then the coordinator's report, the deadline, and agents that cannot run at all.
 * Failures of the user, the data or memory are final: the same job would fail the same way again.
 * Not so where the kernel chose whom to kill for memory, or a server wanted it: those are restarts.
 * Pure.
 */
#include "controller/plan/plan.h"

#include "api/exitcode.h"
#include "api/names.h"

static const char *reason_of_code(enum err_code code)
{
    switch (code) {
    case ERR_USER:
        return NAME_REASON_USER_ERROR;
    case ERR_DATA:
        return NAME_REASON_BAD_DATA;
    case ERR_MEMORY:
        return NAME_REASON_OUT_OF_MEMORY;
    case ERR_DEVICE:
        return NAME_REASON_BAD_DEVICE;
    case ERR_HANG:
        return NAME_REASON_HANG;
    default:
        return NAME_REASON_RESTARTS;
    }
}

static void fail_job(struct outlook *look, const char *reason, const char *message)
{
    look->outcome = OUTCOME_FAILED;
    look->reason = reason;
    look->message = message;
}

static void take_status(const struct observed *o, struct outlook *look)
{
    const struct status *s = &o->job->status;
    bool complete = status_is_true(s, NAME_COND_COMPLETE);
    const struct condition *c =
        status_condition(s, complete ? NAME_COND_COMPLETE : NAME_COND_FAILED);
    look->finished = true;
    look->outcome = complete ? OUTCOME_COMPLETE : OUTCOME_FAILED;
    look->reason = c->reason;
    look->message = c->message;
}

static void take_report(const struct observed *o, struct outlook *look)
{
    const struct report *r = o->report;
    if (r->state == JOB_COMPLETE) {
        look->outcome = OUTCOME_COMPLETE;
        look->reason = NAME_REASON_COMPLETED;
        look->message = "the last step is done and the result is written";
    } else if (r->state == JOB_FAILED) {
        fail_job(look, *r->failure_reason ? r->failure_reason : reason_of_code(r->failure),
            r->failure_message);
    }
}

/* The clock runs while the job is not suspended, as for a batch Job. */
static int fail_after_deadline(
    const struct observed *o, struct plan *p, struct outlook *look, struct err *e)
{
    int64_t limit = o->job->spec.active_deadline_seconds;
    const struct condition *c = status_condition(&o->job->status, NAME_COND_SUSPENDED);
    if (limit <= 0 || !c || strcmp(c->status, "False") != 0)
        return 0;
    int64_t left = c->transition_ms + limit * 1000 - o->now_ms;
    if (left > 0) {
        plan_again(p, left);
        return 0;
    }
    const char *text = arena_printf(p->arena, "active for more than %lld s", (long long)limit);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for a message");
    fail_job(look, NAME_REASON_DEADLINE, text);
    return 0;
}

/* An agent that ends with a final class, or ends again and again. */
static int fail_with_agents(
    const struct observed *o, struct plan *p, struct outlook *look, struct err *e)
{
    for (int i = 0; i < o->pod_count; i++) {
        const struct pod *pod = o->pods[i].pod;
        if (!o->pods[i].ours || pod->deleting || pod->exit_code <= 0)
            continue;
        enum err_code class = exit_class_code(pod->exit_code);
        bool killed = !strcmp(pod->exit_reason, "OOMKilled");
        bool final = class == ERR_USER || class == ERR_DATA ||
            (class == ERR_MEMORY && o->job->spec.task != TASK_SERVE);
        if ((killed || !final) && pod->restarts <= o->job->spec.restart.max_restarts)
            continue;
        const char *text =
            arena_printf(p->arena, "the agent of pod %s ended with exit code %d (%s), %d restarts",
                pod->name, pod->exit_code,
                *pod->exit_reason ? pod->exit_reason : err_code_name(class), pod->restarts);
        if (!text)
            return err_set(e, ERR_MEMORY, "no memory for a message");
        if (killed)
            class = ERR_MEMORY;
        fail_job(look, killed || final ? reason_of_code(class) : NAME_REASON_RESTARTS, text);
        return 0;
    }
    return 0;
}

/* The pods of a replicated job. It has failed when all of them have. */
static int look_at_pods(
    const struct observed *o, struct plan *p, struct outlook *look, struct err *e)
{
    struct serving *s = arena_alloc(p->arena, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a pass");
    int rc = plan_serving_look(o, s, e);
    if (rc)
        return rc;
    look->serving = s;
    if (!s->failed || s->failed_count < s->live)
        return 0;
    const struct report *r = s->failed->report;
    const char *text =
        arena_printf(p->arena, "pod %s: %s", s->failed->pod->name, r->failure_message);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for a message");
    fail_job(look, *r->failure_reason ? r->failure_reason : reason_of_code(r->failure), text);
    return 0;
}

int plan_outlook(const struct observed *o, struct plan *p, struct outlook *look, struct err *e)
{
    const struct jobspec *s = &o->job->spec;
    *look = (struct outlook){.reason = "", .message = ""};
    if (status_finished(&o->job->status, NULL)) {
        take_status(o, look);
        return 0;
    }
    if (!o->job->valid)
        return 0;
    look->suspend = s->suspend || s->replicas == 0;
    if (search_wanted(s)) {
        int rc = plan_search_outlook(o, p, look, e);
        if (rc)
            return rc;
    }
    if (jobspec_replicated(s)) {
        int rc = look_at_pods(o, p, look, e);
        if (rc)
            return rc;
    } else if (o->report) {
        take_report(o, look);
    }
    if (look->outcome == OUTCOME_NONE && !look->suspend) {
        bool answers = look->serving && look->serving->ready;
        int rc = answers ? 0 : fail_with_agents(o, p, look, e);
        if (!rc && look->outcome == OUTCOME_NONE)
            rc = fail_after_deadline(o, p, look, e);
        if (rc)
            return rc;
    }
    if (look->outcome != OUTCOME_NONE)
        look->suspend = false;
    if (!look->suspend)
        return 0;
    if (look->search) {
        look->suspended = !look->search->running;
        return 0;
    }
    if (look->serving) { /* they finish what they have accepted when they are asked to go */
        look->suspended = true;
        return 0;
    }
    bool stopped =
        o->report && o->report->state == JOB_SUSPENDED && o->report->generation == s->generation;
    look->suspended = !observed_coordinator(o) || stopped || o->unreachable_ms > PLAN_GIVE_UP_MS;
    return 0;
}
