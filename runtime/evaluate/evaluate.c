/*
 * evaluate: one after another what is opened, measured and reported. What finds labels is
 * runtime/train's to look at; all else is the serving engine's. The report is rank 0's.
 */
#include "runtime/evaluate/evaluate.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/evaluate/internal.h"
#include "runtime/train/finished.h"
#include "runtime/train/output.h"
#include "runtime/train/world.h"

#define REPORT_LIMIT (1 << 20)

/* -- what is shared -- */

static int tell_loaded(struct evaluation *v, struct err *e)
{
    struct dev_info info;
    dev_describe(v->conf->dev, &info);
    return door_send_fields(v->conf->door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)model_parameters(v->meter.model), NULL},
            {"memory_bytes", (double)model_memory_bytes(v->meter.model), NULL},
            {"resumed_step", 0, NULL}, {"steps", (double)v->items, NULL},
            {"tensor", v->group.layout.tp, NULL}, {"pipeline", v->group.layout.pp, NULL},
            {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
}

static int tell_evaluated(struct evaluation *v, struct err *e)
{
    struct rounds_item all = rounds_sum(v->found, v->items);
    return door_send_fields(v->conf->door, WIRE_EVALUATED,
        (struct door_field[]){{"step", (double)v->items, NULL},
            {"loss", all.loss / all.labels, NULL}, {NULL, 0, NULL}},
        e);
}

int evaluation_share(
    struct evaluation *v, int64_t have, rounds_item_fn *item_fn, void *user, struct err *e)
{
    const struct orders *o = v->conf->orders;
    int64_t most = v->spec->evaluate.samples;
    v->have = have;
    v->items = most && most < have ? most : have;
    v->found = mem_array((size_t)v->items, sizeof *v->found);
    if (!v->found)
        return err_set(e, ERR_MEMORY, "no memory for what is found");
    const struct rounds r = {.coll = v->conf->coll,
        .door = v->conf->door,
        .part = v->group.place.dp,
        .parts = v->group.layout.dp,
        .together = group_is_shared(&v->group),
        .counts = group_counts(&v->group),
        .tells = evaluation_leads(v),
        .items = v->items};
    int rc;
    if ((rc = meter_load(&v->meter, v->weights, e)) ||
        (rc = world_agree(v->conf->coll, o->world, weights_digest(v->weights), have, e)) ||
        (rc = tell_loaded(v, e)) || (rc = rounds_run(&r, item_fn, user, v->found, e)))
        return rc;
    return evaluation_leads(v) ? tell_evaluated(v, e) : 0;
}

/* -- models that go from left to right -- */

int evaluation_check_model(
    const struct jobspec_evaluate *s, const struct model_config *c, struct err *e)
{
    if (c->bidirectional || c->labels)
        return err_set(e, ERR_USER,
            "spec.evaluate.objective: %s needs a model that predicts the next token, and "
            "spec.model, a %s, does not",
            evaluated_name(s->objective), c->architecture);
    if (s->sequence_length > c->context)
        return err_set(e, ERR_USER,
            "spec.evaluate.sequenceLength: %d exceeds the model's context of %lld",
            s->sequence_length, (long long)c->context);
    return 0;
}

static int open_model(struct evaluation *v, struct err *e)
{
    const struct jobspec_evaluate *s = &v->spec->evaluate;
    int rc = weights_open(v->spec->model.source, v->spec->model.sha256, &v->weights, e);
    if (rc)
        return rc;
    const struct model_config *c = weights_config(v->weights);
    if ((rc = evaluation_check_model(s, c, e)) || !s->adapter)
        return rc;
    if ((rc = adapterhub_open(s->adapter, c, &v->behind, e)))
        return rc;
    if (v->behind && group_is_shared(&v->group))
        return err_set(e, ERR_USER,
            "spec.evaluate.adapter: %s stands behind sub-layers, and does not go with "
            "spec.parallelism's tensor and pipeline above 1",
            s->adapter);
    if (v->behind || (rc = tensors_create(c, &v->tensors, e)))
        return rc;
    return merge_open(s->adapter, c, &v->tensors, &v->merge, e);
}

static int evaluate_text(struct evaluation *v, struct jsonw *w, struct err *e)
{
    const struct jobspec_evaluate *s = &v->spec->evaluate;
    beat_phase(v->conf->door->page, WIRE_PHASE_LOAD);
    int rc = open_model(v, e);
    if (rc)
        return rc;
    v->meter = (struct meter){
        .conf = &v->measure, .length = s->sequence_length, .merge = v->merge, .behind = v->behind};
    if (group_is_shared(&v->group))
        v->meter.group = &v->group;
    if ((rc = meter_begin(&v->meter, v->weights, e)))
        return rc;
    return s->objective == EVALUATED_CAUSAL_LM ? evaluate_perplexity(v, w, e)
                                               : evaluate_choice(v, w, e);
}

static void close_model(struct evaluation *v)
{
    meter_close(&v->meter);
    merge_close(v->merge);
    adapterhub_close(v->behind);
    tensors_done(&v->tensors);
    weights_close(v->weights);
    mem_free(v->found);
}

/* -- the job -- */

/* Who looks at which items, and with whom. */
static int open_group(struct evaluation *v, struct err *e)
{
    const struct orders *o = v->conf->orders;
    const struct planner_input in = {.world = o->world,
        .data = v->spec->parallelism.data,
        .tensor = v->spec->parallelism.tensor,
        .pipeline = v->spec->parallelism.pipeline};
    struct layout l;
    int rc = planner_lay_out(&in, &l, e);
    return rc ? rc : group_open(v->conf->coll, &l, o->rank, &v->group, e);
}

bool evaluation_finds_labels(const struct jobspec_evaluate *s)
{
    return s->objective == EVALUATED_TOKEN_CLASSIFICATION ||
        s->objective == EVALUATED_SEQUENCE_CLASSIFICATION;
}

/* The report's text. */
static int measure(struct evaluation *v, struct buf *out, struct err *e)
{
    const struct jobspec_evaluate *s = &v->spec->evaluate;
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "objective", evaluated_name(s->objective));
    jsonw_str(&w, "model", v->spec->model.source);
    if (s->adapter)
        jsonw_str(&w, "adapter", s->adapter);
    jsonw_str(&w, "data", s->data);
    jsonw_int(&w, "sequenceLength", s->sequence_length);
    int rc = evaluation_finds_labels(s) ? finished_run(v->conf, &w, &v->items, e)
                                        : evaluate_text(v, &w, e);
    jsonw_close(&w);
    if (jsonw_end(&w) && !rc)
        rc = err_set(e, ERR_MEMORY, "no memory for a report");
    return rc;
}

static int write_report(struct evaluation *v, const struct buf *report, struct err *e)
{
    output_auto struct output *output = NULL;
    char path[LIMIT_PATH_BYTES + 16];
    int rc = output_create(v->spec, &output, e);
    if (rc)
        return rc;
    beat_phase(v->conf->door->page, WIRE_PHASE_EXPORT);
    snprintf(path, sizeof path, "%s/report.json", output_folder(output));
    rc = io_write_new(path, report->data, report->len, 0644, e);
    return rc ? rc : output_commit(output, e);
}

static int run(struct evaluation *v, struct err *e)
{
    buf_auto struct buf report;
    buf_init(&report, REPORT_LIMIT);
    bool leads = evaluation_leads(v);
    int rc;
    if ((leads && (rc = output_check(v->spec, e))) || (rc = open_group(v, e)) ||
        (rc = measure(v, &report, e)) || (leads && (rc = write_report(v, &report, e))))
        return rc;
    return coll_barrier(v->conf->coll, e);
}

int evaluate_run(const struct train_conf *c, struct err *e)
{
    const struct jobspec *spec = c->orders->spec;
    struct evaluation v = {
        .conf = c, .spec = spec, .measure = {c->door, spec, c->dev, c->budget_bytes}};
    int rc = run(&v, e);
    if (!rc)
        rc = door_send_done(c->door, v.items, spec->evaluate.output, e);
    else if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, 0, NULL, NULL);
    close_model(&v);
    return rc;
}
