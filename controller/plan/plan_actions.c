/*
 * plan_actions: what the policies share: adding actions in the order of their stages, counting
 * them, and the time of the next look. What a plan has no room for comes in the next pass. Pure.
 */
#include "controller/plan/plan.h"

#include <stdarg.h>
#include <stdio.h>

struct action *plan_add(struct plan *p, enum action_kind kind, struct err *e)
{
    if (p->count == PLAN_ACTIONS) {
        err_set(e, ERR_BUG, "a plan of more than %d actions", PLAN_ACTIONS);
        return NULL;
    }
    /* Sorted by kind, which is the order of the stages; equal kinds in order of arrival. */
    int at = p->count++;
    for (; at > 0 && p->actions[at - 1].kind > kind; at--)
        p->actions[at] = p->actions[at - 1];
    p->actions[at] = (struct action){.kind = kind};
    return &p->actions[at];
}

int plan_event(
    struct plan *p, bool warning, const char *reason, struct err *e, const char *fmt, ...)
{
    char text[1024]; /* the API's bound on an event's message */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct action *a = plan_add(p, ACTION_EVENT, e);
    if (!a)
        return -(int)ERR_BUG;
    a->warning = warning;
    a->reason = reason;
    a->message = arena_strdup(p->arena, text);
    return a->message ? 0 : err_set(e, ERR_MEMORY, "no memory for an event");
}

int plan_delete_pod(struct plan *p, const struct observed_pod *pod, struct err *e)
{
    if (plan_count(p, ACTION_DELETE_POD) >= PLAN_PODS)
        return 0;
    struct action *a = plan_add(p, ACTION_DELETE_POD, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = pod->pod->name;
    a->uid = pod->pod->uid;
    a->force = pod->node_lost; /* no kubelet is left to finish an orderly end */
    return 0;
}

void plan_again(struct plan *p, int64_t delay_ms)
{
    if (delay_ms < 0)
        delay_ms = 0;
    if (p->again_ms < 0 || delay_ms < p->again_ms)
        p->again_ms = delay_ms;
}

int plan_count(const struct plan *p, enum action_kind kind)
{
    int n = 0;
    for (int i = 0; i < p->count; i++)
        n += p->actions[i].kind == kind;
    return n;
}

bool plan_pod_ended(const struct pod *p)
{
    return p->phase == POD_SUCCEEDED || p->phase == POD_FAILED;
}
