/*
 * convert: the source is measured, written anew, and what was written is opened and measured in its
 * turn, before it is put in place with a report of both. A failure leaves what stood at the output
 * as it was. A start after a stop begins anew.
 */
#include "runtime/convert/convert.h"

#include "api/limits.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/convert/internal.h"
#include "runtime/convert/measure.h"
#include "runtime/door/beat.h"
#include "runtime/family/family.h"
#include "runtime/model/prune.h"
#include "runtime/train/output.h"

#include <math.h>

#define REPORT_LIMIT (1 << 20)

struct convert_job {
    struct conversion c;
    struct measure_conf measure;
    struct measured before, after;
    struct output *output;
    char folder[LIMIT_PATH_BYTES + 16]; /* what is written: a folder, or a file in it */
    char name[LIMIT_PATH_BYTES];
};

/* -- what the two formats share -- */

/* Of what is pruned. */
static double convert_share(const struct jobspec *spec)
{
    return spec->convert.prune.pattern == SPARSITY_2_4 ? 0.5 : spec->convert.prune.target;
}

int convert_read(struct conversion *c, const struct tensor *t, int64_t row, int64_t rows, float *to,
    struct err *e)
{
    int rc =
        weights_read(c->weights, t->name, t->shape[0], t->shape[1], row, rows, DTYPE_F32, to, e);
    if (rc)
        return rc;
    if (merge_changes(c->merge, t))
        merge_add(c->merge, t, row, rows, to);
    if (convert_prunes(c, t))
        prune_rows(to, rows, t->shape[1], c->spec->convert.prune.pattern, convert_share(c->spec),
            importance_of(c->importance, t));
    return 0;
}

bool convert_prunes(const struct conversion *c, const struct tensor *t)
{
    return c->spec->convert.prune.pattern != SPARSITY_NONE && prune_takes(t);
}

bool convert_changes(const struct conversion *c, const struct tensor *t)
{
    return merge_changes(c->merge, t) || convert_prunes(c, t);
}

static int tell_step(struct conversion *c, double tokens_per_second, struct err *e)
{
    return door_send_fields(c->door, WIRE_STEP,
        (struct door_field[]){{"step", (double)c->step, NULL}, {"loss", NAN, NULL},
            {"tokens_per_second", tokens_per_second, NULL}, {NULL, 0, NULL}},
        e);
}

int convert_step(struct conversion *c, struct err *e)
{
    c->step++;
    beat_step(c->door->page, c->step);
    int rc = tell_step(c, 0, e);
    if (!rc && atomic_load(&c->door->stop))
        rc = err_set(e, ERR_DRAINED, "stopped on request");
    return rc;
}

/* -- opening -- */

/* The last component of a path, without the end of a file's name. */
static void name_model(const char *path, char out[LIMIT_PATH_BYTES])
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from && path[from - 1] != '/')
        from--;
    if (n - from > 5 && !strncmp(path + n - 5, ".gguf", 5))
        n -= 5;
    snprintf(out, LIMIT_PATH_BYTES, "%.*s", (int)(n - from), path + from);
}

/* What is measured or added goes on with texts. */
static int check_reader(const struct jobspec *spec, const struct model_config *c, struct err *e)
{
    const struct jobspec_convert *s = &spec->convert;
    const char *field = s->merge_adapter ? "mergeAdapter"
        : s->evaluate.data               ? "evaluate"
        : s->calibration                 ? "calibration"
                                         : NULL;
    if (!field || !c->bidirectional)
        return 0;
    return err_set(e, ERR_USER,
        "spec.convert.%s: is for models that go on with texts, and a %s model reads them whole",
        field, c->architecture);
}

static int read_pooling(struct convert_job *j, struct err *e)
{
    const struct weights *w = j->c.weights;
    struct pooling *p = &j->c.pooling;
    if (!j->c.config->bidirectional || j->c.config->labels)
        return 0;
    if (weights_gguf(w)) {
        pooling_gguf(weights_gguf(w), family_gguf_architecture(j->c.config), p);
        return 0;
    }
    int rc = pooling_read(weights_path(w), p, e);
    if (rc || p->normalized || j->c.spec->convert.format != CONVERT_GGUF)
        return rc;
    return err_set(e, ERR_USER,
        "spec.convert.format: %s/modules.json has no Normalize, and what a GGUF file embeds has "
        "length 1",
        weights_path(w));
}

static int open_source(struct convert_job *j, struct err *e)
{
    const struct jobspec *spec = j->c.spec;
    int rc = weights_open(spec->model.source, spec->model.sha256, &j->c.weights, e);
    if (rc)
        return rc;
    j->c.config = weights_config(j->c.weights);
    if ((rc = check_reader(spec, j->c.config, e)) || (rc = read_pooling(j, e)))
        return rc;
    bool keys_copied = weights_gguf(j->c.weights);
    struct err why = {0};
    if (spec->convert.format == CONVERT_GGUF && !keys_copied &&
        family_gguf_expressible(j->c.config, &why))
        return err_set(e, ERR_USER, "spec.convert.format: %s", why.text);
    name_model(spec->model.source, j->name);
    j->c.name = j->name;
    rc = tensors_create(j->c.config, &j->c.tensors, e);
    if (rc ||
        (rc = prune_check(&j->c.tensors, spec->convert.prune.pattern, "spec.convert.prune", e)))
        return rc;
    if (spec->convert.merge_adapter)
        rc = merge_open(spec->convert.merge_adapter, j->c.config, &j->c.tensors, &j->c.merge, e);
    return rc;
}

static int open_job(struct convert_job *j, struct err *e)
{
    const struct jobspec *spec = j->c.spec;
    struct dev_info info;
    double parameters = 0;
    beat_phase(j->c.door->page, WIRE_PHASE_LOAD);
    int rc = output_check(spec, e);
    if (rc || (rc = open_source(j, e)))
        return rc;
    j->c.steps = spec->convert.format == CONVERT_GGUF ? convert_gguf_count(&j->c)
                                                      : convert_folder_count(&j->c);
    for (int i = 0; i < j->c.tensors.count; i++)
        parameters += (double)j->c.tensors.at[i].count;
    dev_describe(j->measure.dev, &info);
    return door_send_fields(j->c.door, WIRE_LOADED,
        (struct door_field[]){{"parameters", parameters, NULL}, {"resumed_step", 0, NULL},
            {"steps", (double)j->c.steps, NULL}, {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
}

static void close_job(struct convert_job *j)
{
    output_destroy(j->output);
    importance_destroy(j->c.importance);
    merge_close(j->c.merge);
    tensors_done(&j->c.tensors);
    weights_close(j->c.weights);
}

/* -- measuring -- */

static int measure(struct convert_job *j, struct weights *w, struct measured *out, struct err *e)
{
    int rc;
    out->bytes = measure_bytes(w);
    out->sparsity = -1;
    if (j->c.spec->convert.prune.pattern != SPARSITY_NONE &&
        (rc = measure_sparsity(&j->measure, w, &out->sparsity, e)))
        return rc;
    if (!j->c.spec->convert.evaluate.data)
        return 0;
    beat_phase(j->c.door->page, WIRE_PHASE_EVALUATE);
    if ((rc = measure_model(&j->measure, w, out, e)))
        return rc;
    return door_send_fields(j->c.door, WIRE_EVALUATED,
        (struct door_field[]){
            {"step", (double)j->c.step, NULL}, {"loss", out->loss, NULL}, {NULL, 0, NULL}},
        e);
}

static int calibrate(struct convert_job *j, struct err *e)
{
    if (!j->c.spec->convert.calibration)
        return 0;
    beat_phase(j->c.door->page, WIRE_PHASE_FORWARD);
    return importance_create(&j->measure, j->c.weights, &j->c.importance, e);
}

/* What was written opens as a model, and is measured as one. */
static int measure_output(struct convert_job *j, struct err *e)
{
    struct weights *w = NULL;
    int rc = weights_open(j->folder, NULL, &w, e);
    if (rc)
        return rc;
    rc = measure(j, w, &j->after, e);
    weights_close(w);
    return !rc && j->after.tokens ? tell_step(&j->c, j->after.tokens_per_second, e) : rc;
}

/* -- the report -- */

static void report_model(struct jsonw *w, const char *key, const struct measured *m)
{
    jsonw_open(w, key, '{');
    jsonw_int(w, "bytes", m->bytes);
    if (m->sparsity >= 0)
        jsonw_num(w, "sparsity", m->sparsity);
    if (m->tokens) {
        jsonw_num(w, "loss", m->loss);
        jsonw_num(w, "perplexity", exp(m->loss));
        jsonw_num(w, "tokensPerSecond", m->tokens_per_second);
    }
    jsonw_close(w);
}

static int write_report(const struct convert_job *j, struct err *e)
{
    const struct jobspec_convert *spec = &j->c.spec->convert;
    char path[LIMIT_PATH_BYTES + 16];
    buf_auto struct buf text;
    struct jsonw w;
    buf_init(&text, REPORT_LIMIT);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "format", convert_format_name(spec->format));
    jsonw_str(&w, "quantize", quantize_name(spec->quantize));
    if (spec->prune.pattern != SPARSITY_NONE)
        jsonw_str(&w, "prune", sparsity_name(spec->prune.pattern));
    report_model(&w, "source", &j->before);
    report_model(&w, "output", &j->after);
    if (j->after.tokens) {
        jsonw_open(&w, "evaluated", '{');
        jsonw_str(&w, "data", spec->evaluate.data);
        jsonw_int(&w, "sequenceLength", spec->evaluate.sequence_length);
        jsonw_int(&w, "sequences", j->after.sequences);
        jsonw_int(&w, "tokens", j->after.tokens);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory for a report");
    snprintf(path, sizeof path, "%s/report.json", output_folder(j->output));
    return io_write_new(path, text.data, text.len, 0644, e);
}

static void log_report(const struct convert_job *j)
{
    log_info("converted", LOG_S("output", j->c.spec->convert.output),
        LOG_I("source_bytes", j->before.bytes), LOG_I("output_bytes", j->after.bytes));
    if (j->after.sparsity >= 0)
        log_info("pruned", LOG_F("source_sparsity", j->before.sparsity),
            LOG_F("output_sparsity", j->after.sparsity));
    if (j->after.tokens)
        log_info("evaluated", LOG_I("tokens", j->after.tokens),
            LOG_F("source_perplexity", exp(j->before.loss)),
            LOG_F("output_perplexity", exp(j->after.loss)),
            LOG_F("source_tokens_per_second", j->before.tokens_per_second),
            LOG_F("output_tokens_per_second", j->after.tokens_per_second));
}

/* -- the job -- */

static int write_output(struct convert_job *j, struct err *e)
{
    bool gguf = j->c.spec->convert.format == CONVERT_GGUF;
    int rc = output_create(j->c.spec, &j->output, e);
    if (rc)
        return rc;
    const char *folder = output_folder(j->output);
    beat_phase(j->c.door->page, WIRE_PHASE_EXPORT);
    snprintf(j->folder, sizeof j->folder, "%s%s", folder, gguf ? "/model.gguf" : "");
    return gguf ? convert_to_gguf(&j->c, folder, e) : convert_to_folder(&j->c, folder, e);
}

static int run(struct convert_job *j, struct err *e)
{
    int rc;
    if ((rc = open_job(j, e)) || (rc = measure(j, j->c.weights, &j->before, e)) ||
        (rc = calibrate(j, e)) || (rc = write_output(j, e)) || (rc = measure_output(j, e)) ||
        (rc = write_report(j, e)) || (rc = output_commit(j->output, e)))
        return rc;
    log_report(j);
    return 0;
}

int convert_run(const struct convert_conf *c, struct err *e)
{
    const struct jobspec *spec = c->orders->spec;
    struct convert_job j = {
        .c = {.door = c->door, .spec = spec}, .measure = {c->door, spec, c->dev, c->budget_bytes}};
    int rc = run(&j, e);
    if (!rc)
        rc = door_send_done(c->door, j.c.step, spec->convert.output, e);
    else if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, j.c.step, NULL, NULL);
    close_job(&j);
    return rc;
}
