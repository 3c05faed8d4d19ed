/*
 * plan_desired: what the coordinator should know: generation, its term, replicas, suspend, release,
 * what else of the spec may change while it runs, and the members that exist. It is sent when it is
 * not what this very agent process accepted last (a hash over it, the pod and its restarts), or
 * when the agent's report follows another generation. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "base/hash.h"
#include "base/net.h"

static const char *address_of(const struct pod *p, struct arena *a)
{
    if (!*p->ip)
        return "";
    char text[NET_TEXT_BYTES];
    net_write(p->ip, NAME_PORT_AGENT, text);
    return arena_strdup(a, text);
}

/* An ending pod stays a member until it is gone, so that it can leave in an orderly way. */
static bool is_member(const struct observed_pod *p)
{
    return p->ours && p->pod->replica >= 0 && p->pod->replica < LIMIT_REPLICAS &&
        !plan_pod_ended(p->pod) && !p->node_lost;
}

static int list_members(const struct observed *o, struct arena *a, struct desired *d, struct err *e)
{
    d->members = arena_array(a, (size_t)o->pod_count + 1, sizeof *d->members);
    if (!d->members)
        return err_set(e, ERR_MEMORY, "no memory for the members");
    for (int i = 0; i < o->pod_count; i++) {
        const struct pod *p = o->pods[i].pod;
        if (!is_member(&o->pods[i]))
            continue;
        if (d->member_count && d->members[d->member_count - 1].replica == p->replica)
            continue; /* a label that somebody has forged */
        struct desired_member *m = &d->members[d->member_count++];
        *m = (struct desired_member){p->replica, p->name, p->uid, p->node, address_of(p, a)};
        if (!m->address)
            return err_set(e, ERR_MEMORY, "no memory for the members");
    }
    return 0;
}

int plan_desired(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    const struct jobspec *s = &o->job->spec;
    const struct observed_pod *coordinator = observed_coordinator(o);
    int64_t term = plan_term(o);
    if (jobspec_replicated(s)) /* they have their orders from the start */
        return 0;
    if (!coordinator || !term || (look->outcome != OUTCOME_NONE && !look->finished))
        return 0;
    struct desired d = {
        .generation = s->generation,
        .term = term,
        .replicas = s->replicas,
        .suspend = s->suspend,
        .release = look->finished,
        .elastic = s->elastic,
        .restart = s->restart,
        .health = s->health,
    };
    int rc = list_members(o, p->arena, &d, e);
    if (rc)
        return rc;
    const struct pod *pod = coordinator->pod;
    uint64_t h = hash_bytes(desired_hash(&d), pod->uid, strlen(pod->uid));
    h = hash_bytes(h, &pod->restarts, sizeof pod->restarts);
    bool follows = !o->report || !o->report_is_current || o->report->generation == s->generation;
    if (h == o->desired_sent && follows)
        return 0;
    buf_auto struct buf body;
    buf_init(&body, LIMIT_REPORT_BYTES);
    rc = desired_encode(&d, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_DESIRED, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = pod->name;
    a->uid = pod->uid;
    a->hash = h;
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for the desired state");
}
