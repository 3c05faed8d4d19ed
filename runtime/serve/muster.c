/*
 * muster: members are opened as one rank has them, and then counted by rank.
 */
#include "runtime/serve/muster.h"

#include "api/jobspec.h"
#include "base/conf.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/chorus.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/readers.h"
#include "runtime/serve/retrieve.h"

#include <stddef.h>

struct muster {
    int64_t memory_bytes; /* of a rank */
    struct jobspec spec;
    struct weights *weights;
    struct tok *tok;
    struct ensemble *ensemble; /* or: */
    struct readers *readers;   /* that read whole texts */
    int ranks, there, of;
    int64_t context, programs;
    int64_t documents; /* bytes that they take beside the members, of the one rank that has them */
    int64_t said;      /* numbers that a member says in a pass and that are kept on the host */
    FILE *out;
};

static const struct conf_item items[] = {
    {"memory-bytes", CONF_INT, offsetof(struct muster, memory_bytes), NULL, "0", "of one rank"},
    {0},
};

static int read_job(struct muster *o, const char *file, struct arena *a, struct err *e)
{
    int rc;
    if ((rc = jobspec_load(file, a, &o->spec, e)) ||
        (rc = weights_open(o->spec.model.source, NULL, &o->weights, e)) ||
        (rc = tok_open(o->weights, &o->tok, e)))
        return rc;
    const char *kind = device_kind(o->spec.device.resource);
    bool pods = kind && !strcmp(kind, "cpu");
    if (pods)
        o->programs = memplan_programs(weights_config(o->weights)->vocab);
    o->ranks = o->spec.serve.ensemble.ranks > 1 ? o->spec.serve.ensemble.ranks : 1;
    return retrieve_plan(&o->spec, pods, &o->documents, e);
}

static int open_texts(struct muster *o, struct err *e)
{
    const struct ensemble_conf c = {.spec = &o->spec,
        .weights = o->weights,
        .tok = o->tok,
        .parts = (int)batcher_parts(o->spec.serve.max_sequences, o->spec.serve.speculation.method)};
    struct ensemble_facts f;
    int rc = ensemble_open(&c, &o->ensemble, e);
    if (rc)
        return rc;
    ensemble_tell(o->ensemble, &f);
    o->there = f.count;
    o->of = f.of;
    o->context = f.context;
    o->said = f.logit_bytes / f.count / (int64_t)sizeof(float);
    return 0;
}

static int open_readers(struct muster *o, struct err *e)
{
    const struct readers_conf c = {.spec = &o->spec,
        .job = {.weights = o->weights,
            .t = model_type_of(o->spec.precision),
            .context = o->spec.serve.context_length,
            .budget_bytes = INT64_MAX}};
    struct readers_facts f;
    int rc = readers_open(&c, &o->readers, e);
    if (rc)
        return rc;
    readers_tell(o->readers, &f);
    o->there = f.count;
    o->of = f.of;
    o->context = f.context;
    return 0;
}

static int64_t bytes_of(const struct muster *o, int i, const char **name)
{
    return o->readers ? readers_member(o->readers, i, name) : ensemble_member(o->ensemble, i, name);
}

static double mib(int64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* Returns what it takes. */
static int64_t print_rank(const struct muster *o, int rank)
{
    const struct chorus_conf said = {NULL, rank, o->ranks, o->there, o->said};
    int64_t sum = chorus_bytes(&said) + o->programs + o->documents;
    const char *name;
    for (int i = rank; i < o->there; i += o->ranks)
        sum += bytes_of(o, i, &name);
    fprintf(o->out, "  %4d %9.1f =", rank, mib(sum));
    for (int i = rank; i < o->there; i += o->ranks) {
        double own = mib(bytes_of(o, i, &name));
        fprintf(o->out, " %s %.1f,", name, own);
    }
    fprintf(o->out, " logits %.1f, programs %.1f", mib(chorus_bytes(&said)), mib(o->programs));
    if (o->documents)
        fprintf(o->out, ", documents %.1f", mib(o->documents));
    fprintf(o->out, "%s\n", sum > o->memory_bytes ? "  does not fit" : "");
    return sum;
}

static int print_all(const struct muster *o, struct err *e)
{
    int64_t most = 0;
    fprintf(o->out,
        "%d of %d members; %d ranks in pods of %d, each of %.1f GiB\n%lld tokens at once\n\n"
        "  rank       MiB\n",
        o->there, o->of, o->ranks, o->ranks > 1 ? o->spec.device.per_replica : 1,
        (double)o->memory_bytes / (1 << 30), (long long)o->context);
    for (int rank = 0; rank < o->ranks; rank++) {
        int64_t sum = print_rank(o, rank);
        most = sum > most ? sum : most;
    }
    if (most <= o->memory_bytes)
        return 0;
    return err_set(e, ERR_MEMORY, "a rank needs %lld MiB and may use %lld MiB",
        (long long)(most >> 20), (long long)(o->memory_bytes >> 20));
}

int muster_run(int argc, char **argv, FILE *out, struct err *e)
{
    static struct muster o;
    o = (struct muster){.out = out};
    int next = conf_load(items, argc + 1, argv - 1, &o, e);
    if (next <= 0)
        return next;
    if (next != argc || o.memory_bytes < 1)
        return err_set(e, ERR_USER, "--memory-bytes N and a job.json are expected");
    arena_auto struct arena *a = arena_create(1 << 20);
    if (!a)
        return err_set(e, ERR_MEMORY, "out of memory");
    enum wire_does does;
    int rc = read_job(&o, argv[next - 1], a, e);
    if (!rc && !(rc = reader_does(o.weights, &does, e)))
        rc = does == WIRE_DOES_GENERATE ? open_texts(&o, e) : open_readers(&o, e);
    if (!rc)
        rc = print_all(&o, e);
    ensemble_destroy(o.ensemble);
    readers_close(o.readers);
    tok_close(o.tok);
    weights_close(o.weights);
    return rc;
}
