/*
 * plan_desired: what the coordinator should know: generation, its term, replicas, suspend, release,
 * what else of the spec may change while it runs, and the members that exist. It is sent when it is
 * not what this very agent process accepted last (a hash over it, the pod and its restarts), or
 * when the agent's report follows another generation. Pods that coordinate themselves have their
 * orders from the start, and hear of the end alone; where requests are routed, which pods of their
 * version are ready; and where adapters come and go, which there are. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "base/hash.h"
#include "base/net.h"

static const char *address_of(const struct pod *p, unsigned port, struct arena *a)
{
    if (!*p->ip)
        return "";
    char text[NET_TEXT_BYTES];
    net_write(p->ip, port, text);
    return arena_strdup(a, text);
}

/* An ending pod stays a member until it is gone, so that it can leave in an orderly way. */
static bool is_member(const struct observed_pod *p)
{
    return p->ours && p->pod->replica >= 0 && p->pod->replica < LIMIT_REPLICAS &&
        !plan_pod_ended(p->pod) && !p->node_lost;
}

/* routed: of those of the present version that answer, where they serve; NULL: of all, their
 * agents. */
static int list_members(const struct observed *o, const struct serving *routed, struct arena *a,
    struct desired *d, struct err *e)
{
    d->members = arena_array(a, (size_t)o->pod_count + 1, sizeof *d->members);
    d->member_count = 0;
    if (!d->members)
        return err_set(e, ERR_MEMORY, "no memory for the members");
    for (int i = 0; i < o->pod_count; i++) {
        const struct pod *p = o->pods[i].pod;
        if (!is_member(&o->pods[i]) ||
            (routed && (!plan_pod_answers(&o->pods[i]) || p->revision != routed->revision)))
            continue;
        if (d->member_count && d->members[d->member_count - 1].replica == p->replica)
            continue; /* a label that somebody has forged */
        struct desired_member *m = &d->members[d->member_count++];
        const char *at = address_of(p, routed ? NAME_PORT_SERVE : NAME_PORT_AGENT, a);
        *m = (struct desired_member){p->replica, p->name, p->uid, p->node, at};
        if (!m->address)
            return err_set(e, ERR_MEMORY, "no memory for the members");
    }
    return 0;
}

/* Unless it has been sent, as the hash `sent` says, and is followed. */
static int send_desired(const struct desired *d, const struct observed_pod *to, uint64_t sent,
    bool follows, struct plan *p, struct err *e)
{
    const struct pod *pod = to->pod;
    uint64_t h = hash_bytes(desired_hash(d), pod->uid, strlen(pod->uid));
    h = hash_bytes(h, &pod->restarts, sizeof pod->restarts);
    if (h == sent && follows)
        return 0;
    buf_auto struct buf body;
    buf_init(&body, LIMIT_REPORT_BYTES);
    int rc = desired_encode(d, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_DESIRED, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = pod->name;
    a->uid = pod->uid;
    a->replica = pod->replica;
    a->hash = h;
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for the desired state");
}

/* Each is replica 0 of a world of its own, in the term that it gave itself. One of an earlier
 * version may know of no routing: to it, these would be members. */
static int tell_pods(const struct observed *o, const struct serving *s, struct desired *d,
    struct plan *p, struct err *e)
{
    bool routed = o->job->spec.serve.routing.prefix_affinity && s;
    bool lists = d->lists_adapters && s;
    for (int i = 0; i < o->pod_count && (d->release || routed || lists); i++) {
        const struct observed_pod *pod = &o->pods[i];
        struct desired_member self = {0, pod->pod->name, pod->pod->uid, pod->pod->node, ""};
        if (!observed_runs(pod) || pod->pod->deleting ||
            (!d->release && pod->pod->revision != s->revision))
            continue;
        d->term = d->replicas = d->member_count = 1;
        d->members = &self;
        int rc = d->release || !routed ? 0 : list_members(o, s, p->arena, d, e);
        rc = rc ? rc : send_desired(d, pod, pod->desired_sent, true, p, e);
        if (rc)
            return rc;
    }
    return 0;
}

int plan_desired(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    const struct jobspec *s = &o->job->spec;
    const struct observed_pod *coordinator = observed_coordinator(o);
    struct desired d = {
        .generation = s->generation,
        .term = plan_term(o),
        .replicas = s->replicas,
        .suspend = s->suspend,
        .release = look->finished,
        .elastic = s->elastic,
        .restart = s->restart,
        .health = s->health,
        .lists_adapters = s->serve.adapter_memory > 0,
        .adapters = s->serve.adapter_memory ? s->serve.adapters : NULL,
        .adapter_count = s->serve.adapter_memory ? s->serve.adapter_count : 0,
    };
    if (jobspec_replicated(s))
        return tell_pods(o, look->serving, &d, p, e);
    if (!coordinator || !d.term || (look->outcome != OUTCOME_NONE && !look->finished))
        return 0;
    int rc = list_members(o, NULL, p->arena, &d, e);
    bool follows = !o->report || !o->report_is_current || o->report->generation == s->generation;
    return rc ? rc : send_desired(&d, coordinator, o->desired_sent, follows, p, e);
}
