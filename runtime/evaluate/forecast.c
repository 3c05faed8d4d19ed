/*
 * forecast: the plan of each layout is that of its rank that takes most, as meter_load makes it.
 */
#include "runtime/evaluate/forecast.h"

#include "base/conf.h"
#include "runtime/convert/adapters.h"
#include "runtime/evaluate/internal.h"
#include "runtime/model/encoder.h"
#include "runtime/train/planner.h"

#include <stddef.h>

#define SERVING_RANKS 8 /* of a served model so many are shown at least */

struct forecast {
    int64_t memory_bytes, best;
    struct jobspec spec;
    struct weights *weights;
    struct beside *beside; /* its adapters; or NULL */
    struct weights *draft; /* or NULL */
    struct model_conf model;
    int64_t documents; /* bytes that they take beside it */
    int world;
    bool serves, pods; /* pods: memory is theirs */
    FILE *out;
};

static const struct conf_item items[] = {
    {"memory-bytes", CONF_INT, offsetof(struct forecast, memory_bytes), NULL, "0", "of one rank"},
    {"best", CONF_INT, offsetof(struct forecast, best), NULL, "8", "layouts that are shown"},
    {0},
};

/* -- the job -- */

static int check_evaluation(const struct jobspec_evaluate *s, struct err *e)
{
    if (evaluation_finds_labels(s))
        return err_set(e, ERR_USER,
            "spec.evaluate.objective: of %s ranks share the texts alone, each with the whole model",
            evaluated_name(s->objective));
    if (s->adapter)
        return err_set(e, ERR_USER, "spec.evaluate.adapter: an adapter is not counted here");
    return 0;
}

/* Of a served model the longest sequence is counted: others have what is left. */
static int tokens_at_once(struct forecast *o, struct err *e)
{
    const struct jobspec_evaluate *s = &o->spec.evaluate;
    struct pooling p;
    if (o->serves)
        return encoder_conf(o->weights, o->spec.serve.context_length, &o->model, &p, e);
    o->model.kv_capacity = s->sequence_length;
    return evaluation_check_model(s, &o->model.config, e);
}

/* What a model that guesses ahead takes. */
static int count_draft(struct forecast *o, struct err *e)
{
    struct memplan plan;
    int rc = 0;
    if (!o->spec.serve.speculation.model)
        return 0;
    if (!(rc = weights_open(o->spec.serve.speculation.model, NULL, &o->draft, e))) {
        const struct model_conf c = {.config = *weights_config(o->draft),
            .t = o->model.t,
            .kv_capacity = o->model.kv_capacity};
        rc = memplan_model(&c, o->draft, &plan, e);
    }
    if (rc) {
        err_wrap(e, "spec.serve.speculation.model");
        return rc;
    }
    o->model.draft_bytes = plan.total;
    return 0;
}

/* Those of a job that serves without parallelism are one. */
static int ranks_of(const struct jobspec *s)
{
    bool alone = s->parallelism.tensor <= 1 && s->parallelism.pipeline <= 1;
    return s->task == TASK_SERVE && alone ? 1 : s->replicas * s->device.per_replica;
}

static int read_job(struct forecast *o, const char *file, struct arena *a, struct err *e)
{
    int rc;
    if ((rc = jobspec_load(file, a, &o->spec, e)))
        return rc;
    o->serves = o->spec.task == TASK_SERVE;
    if ((!o->serves && (rc = check_evaluation(&o->spec.evaluate, e))) ||
        (rc = weights_open(o->spec.model.source, NULL, &o->weights, e)))
        return rc;
    o->model = (struct model_conf){.config = *weights_config(o->weights),
        .t = model_type_of(o->spec.precision),
        .kv_cache = o->spec.serve.kv_cache};
    const char *kind = device_kind(o->spec.device.resource);
    o->pods = kind && !strcmp(kind, "cpu");
    if (o->serves && o->pods)
        o->model.programs = memplan_programs(o->model.config.vocab);
    o->world = ranks_of(&o->spec);
    const struct jobspec_serve *v = &o->spec.serve;
    if (v->adapter_memory)
        rc = beside_create(&o->model.config, v->adapter_count, v->adapter_memory, &o->beside, e);
    else if (v->adapter_count && (rc = adapters_describe(v, &o->model.config, &o->beside, e)))
        err_wrap(e, "spec.serve.adapters");
    if (rc)
        return rc;
    o->model.beside = o->beside;
    rc = tokens_at_once(o, e);
    return rc ? rc : count_draft(o, e);
}

/* -- layouts -- */

/* The job's own is marked. */
static void print_layout(
    const struct forecast *o, const struct layout *l, bool own, struct memplan *taken)
{
    char text[LAYOUT_TEXT_BYTES];
    struct err why = {0};
    layout_text(l, text);
    fprintf(o->out, "%c %-22s ", own ? '*' : ' ', text);
    if (group_measure(l, &o->model, o->weights, taken, &why)) {
        fprintf(o->out, "%s\n", why.text);
        return;
    }
    fprintf(o->out, "%9.1f = %8.1f %8.1f %10.1f%s\n",
        (double)(taken->total + o->documents) / (1 << 20), (double)taken->weights / (1 << 20),
        (double)taken->cache / (1 << 20),
        (double)(taken->total - taken->weights - taken->cache - taken->beside - taken->draft -
            taken->programs) /
            (1 << 20),
        taken->total > o->memory_bytes - o->documents ? "  does not fit" : "");
}

static void print_head(const struct forecast *o)
{
    const struct model_config *c = &o->model.config;
    fprintf(o->out,
        "%s of %lld layers, %lld channels, %lld tokens of vocabulary; %d ranks in pods of %d, each "
        "of %.1f GiB\n%lld tokens at once\n\n",
        c->architecture, (long long)c->layers, (long long)c->dim, (long long)c->vocab, o->world,
        o->spec.device.per_replica, (double)o->memory_bytes / (1 << 30),
        (long long)o->model.kv_capacity);
    if (o->beside)
        fprintf(o->out, "adapters: %d, of %.1f MiB, which each sum includes\n\n",
            beside_count(o->beside), (double)beside_bytes(o->beside, &o->model.config) / (1 << 20));
    if (o->draft)
        fprintf(o->out, "draft: %.1f MiB, which each sum includes\n\n",
            (double)o->model.draft_bytes / (1 << 20));
    if (o->documents)
        fprintf(o->out,
            "documents: %.1f MiB of an encoder and %d chunks, which each sum includes\n\n",
            (double)o->documents / (1 << 20), o->spec.serve.retrieval.max_chunks);
    if (o->model.programs)
        fprintf(o->out, "programs: %.1f MiB, about, which each sum includes\n\n",
            (double)o->model.programs / (1 << 20));
    fprintf(
        o->out, "  %-22s %9s = %8s %8s %10s\n", "layout", "MiB", "weights", "cache", "activations");
}

/* Fewest ranks a model first; a served model may have others than the job has. */
static void print_others(const struct forecast *o, const struct layout *own)
{
    int64_t shown = 0;
    struct memplan taken;
    int most = o->serves && o->world < SERVING_RANKS ? SERVING_RANKS : o->world;
    /* one rank has them */
    most = o->spec.serve.adapter_memory || o->draft || o->documents ? 0 : most;
    for (int ranks = 1; ranks <= most; ranks++)
        for (int pp = 1; (o->serves || o->world % ranks == 0) && pp <= ranks; pp++) {
            const struct layout l = {o->serves ? 1 : o->world / ranks, ranks / pp, pp, 1, 1};
            if (ranks % pp || (l.tp == own->tp && l.pp == own->pp) || shown++ >= o->best)
                continue;
            print_layout(o, &l, false, &taken);
        }
    if (shown > o->best)
        fprintf(o->out, "  and %lld more\n", (long long)(shown - o->best));
}

static int print_all(const struct forecast *o, struct err *e)
{
    const struct planner_input in = {.world = o->world,
        .data = o->spec.parallelism.data,
        .tensor = o->spec.parallelism.tensor,
        .pipeline = o->spec.parallelism.pipeline};
    struct layout own;
    struct memplan taken;
    int rc = planner_lay_out(&in, &own, e);
    if (rc)
        return rc;
    print_head(o);
    print_layout(o, &own, true, &taken);
    if (!o->model.encodes) /* which one rank serves */
        print_others(o, &own);
    fprintf(o->out, "\n* what the job gets: what it says; nothing is chosen\n");
    rc = group_measure(&own, &o->model, o->weights, &taken, e);
    return rc ? rc : memplan_require(&taken, o->memory_bytes - o->documents, e);
}

int forecast_run(
    int argc, char **argv, forecast_documents_fn *documents_fn, FILE *out, struct err *e)
{
    static struct forecast o;
    o = (struct forecast){.out = out};
    int next = conf_load(items, argc + 1, argv - 1, &o, e);
    if (next <= 0)
        return next;
    if (next != argc || o.memory_bytes < 1)
        return err_set(e, ERR_USER, "--memory-bytes N and a job.json are expected");
    arena_auto struct arena *a = arena_create(1 << 20);
    if (!a)
        return err_set(e, ERR_MEMORY, "out of memory");
    int rc = read_job(&o, argv[next - 1], a, e);
    if (!rc)
        rc = documents_fn(&o.spec, o.pods, &o.documents, e);
    if (!rc)
        rc = print_all(&o, e);
    beside_destroy(o.beside);
    weights_close(o.draft);
    weights_close(o.weights);
    return rc;
}
