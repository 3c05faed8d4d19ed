/*
 * plan_events: what a person should be told, out of the step from the present status to the next.
 * Because it is that step, an event is sent once, after the status is written, and a crash in
 * between loses at most the event: it is never the only sign. Messages of recurring events are
 * constant, so that the API aggregates them. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"

static bool changed_to(
    const struct status *old, const struct status *next, const char *type, const char *status)
{
    const struct condition *was = status_condition(old, type);
    const struct condition *is = status_condition(next, type);
    return is && !strcmp(is->status, status) && (!was || strcmp(was->status, status) != 0);
}

static int add_condition_events(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    static const struct {
        const char *type, *status;
        bool warning;
    } told[] = {
        {NAME_COND_READY, "True", false},
        {NAME_COND_COMPLETE, "True", false},
        {NAME_COND_FAILED, "True", true},
        {NAME_COND_SUSPENDED, "True", false},
        {NAME_COND_HEALTHY, "False", true},
    };
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const struct condition *c = status_condition(next, told[i].type);
        if (!changed_to(old, next, told[i].type, told[i].status))
            continue;
        int rc = plan_event(p, told[i].warning, c->reason, e, "%s", c->message);
        if (rc)
            return rc;
    }
    return 0;
}

/* A job that cannot go on for a reason outside it. */
static int add_trouble_event(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    static const char *const usual[] = {
        NAME_REASON_PODS_PENDING, NAME_REASON_FORMING_WORLD, NAME_REASON_SEARCHING};
    const struct condition *was = status_condition(old, NAME_COND_PROGRESSING);
    const struct condition *is = status_condition(next, NAME_COND_PROGRESSING);
    if (!is || strcmp(is->status, "True") != 0 || status_is_true(next, NAME_COND_READY) ||
        (was && !strcmp(was->reason, is->reason)))
        return 0;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (!strcmp(is->reason, usual[i]))
            return 0;
    return plan_event(p, true, is->reason, e, "%s", is->message);
}

static const struct attempt *find_attempt(const struct status *s, int64_t number)
{
    for (int i = 0; i < s->attempt_count; i++)
        if (s->attempts[i].number == number)
            return &s->attempts[i];
    return NULL;
}

static bool ended_badly(const struct attempt *t)
{
    return t->ended_ms && t->exit_class && strcmp(t->exit_class, "none") != 0 &&
        strcmp(t->exit_class, "drained") != 0;
}

static int add_attempt_events(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    for (int i = 0; i < next->attempt_count; i++) {
        const struct attempt *is = &next->attempts[i], *was = find_attempt(old, is->number);
        int rc = 0;
        if (ended_badly(is) && (!was || !was->ended_ms))
            rc = plan_event(p, true, NAME_REASON_RANK_FAILED, e,
                "attempt %lld ended at step %lld: %s, replica %d rank %d on %s (%s)",
                (long long)is->number, (long long)is->step, is->cause ? is->cause : "unknown",
                is->replica, is->rank, is->node ? is->node : "an unknown node", is->exit_class);
        if (!rc && !was)
            rc = plan_event(p, false, NAME_REASON_WORLD_FORMED, e, "attempt %lld has started",
                (long long)is->number);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_checkpoint_event(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    if (next->checkpoint.step <= old->checkpoint.step)
        return 0;
    return plan_event(p, false, NAME_REASON_CHECKPOINT, e, "checkpoint saved in %s",
        next->checkpoint.path ? next->checkpoint.path : "storage");
}

static int add_damage_event(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    const char *was = old->checkpoint.damaged, *is = next->checkpoint.damaged;
    if (!is || (was && !strcmp(was, is)))
        return 0;
    return plan_event(p, true, NAME_REASON_DAMAGED, e,
        "a checkpoint could not be read and the one before it was taken; it is kept as %s; "
        "what is kept so takes %lld MiB and stays until somebody removes it",
        is, (long long)next->checkpoint.damaged_bytes >> 20);
}

static const struct status_alert *find_alert(const struct status *s, const char *name)
{
    for (int i = 0; i < s->alert_count; i++)
        if (s->alerts[i].name && !strcmp(s->alerts[i].name, name))
            return &s->alerts[i];
    return NULL;
}

/* Where both have happened since, firing came first: what resolved had fired. The messages hold
 * nothing that differs from time to time. */
static int add_alert_events(
    const struct observed *o, const struct status *next, struct plan *p, struct err *e)
{
    const struct jobspec *spec = &o->job->spec;
    for (int i = 0; i < spec->serve.classify.alert_count; i++) {
        const struct jobspec_alert *a = &spec->serve.classify.alerts[i];
        const struct status_alert *is = find_alert(next, a->name),
                                  *was = find_alert(&o->job->status, a->name);
        int rc = 0;
        if (is && is->fired_ms > (was ? was->fired_ms : 0))
            rc = plan_event(p, true, NAME_REASON_ALERT_FIRING, e,
                "alert %s: at least %g%% of the texts of %d s are %s", a->name, 100 * a->share,
                a->window_seconds, a->label);
        if (!rc && is && is->resolved_ms > (was ? was->resolved_ms : 0))
            rc = plan_event(p, false, NAME_REASON_ALERT_RESOLVED, e,
                "alert %s: no longer so many texts are %s", a->name, a->label);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_scaling_event(
    const struct observed *o, const struct status *next, struct plan *p, struct err *e)
{
    const struct status *old = &o->job->status;
    bool edited = old->generation > 0 && old->generation != next->generation && o->job->valid;
    if (!edited || old->replicas <= 0 || old->replicas == o->job->spec.replicas)
        return 0;
    return plan_event(p, false, NAME_REASON_SCALING, e, "from %d to %d replicas", old->replicas,
        o->job->spec.replicas);
}

/* An edit has reached all replicas; or one cannot have what is listed, whose folders are looked at
 * again and again: each sentence once. */
static int add_adapters_event(
    const struct status *old, const struct status *next, struct plan *p, struct err *e)
{
    const struct condition *was = status_condition(old, NAME_COND_ADAPTERS);
    const struct condition *is = status_condition(next, NAME_COND_ADAPTERS);
    bool wrong = is && !strcmp(is->reason, NAME_REASON_ADAPTER);
    bool same = was && is && !strcmp(was->reason, is->reason) &&
        (!wrong || !strcmp(was->message, is->message));
    if (!is || same || !strcmp(is->reason, NAME_REASON_LISTING))
        return 0;
    return plan_event(p, wrong, is->reason, e, "%s", is->message);
}

int plan_events(const struct observed *o, const struct status *next, struct plan *p, struct err *e)
{
    static int (*const kinds[])(const struct status *old, const struct status *next, struct plan *p,
        struct err *e) = {add_condition_events, add_trouble_event, add_attempt_events,
        add_checkpoint_event, add_damage_event, add_adapters_event};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int rc = kinds[i](&o->job->status, next, p, e);
        if (rc)
            return rc;
    }
    int rc = add_alert_events(o, next, p, e);
    return rc ? rc : add_scaling_event(o, next, p, e);
}
