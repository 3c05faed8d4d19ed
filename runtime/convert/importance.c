/*
 * importance: sums of squares by layer, kind of product and column, in double while they gather; an
 * engine shows what its products read.
 */
#include "runtime/convert/importance.h"

#include "base/mem.h"
#include "runtime/convert/meter.h"

#define WINDOWS 16 /* of the text, spread evenly */
#define LENGTH  256

struct gathered { /* of a layer and a kind */
    int64_t in, rows;
    double *sums; /* (in) */
    float *mean;  /* (in) */
};

struct importance {
    const struct model_config *config;
    struct gathered *at; /* (layers, LINEARS) */
    float *host;         /* (ENGINE_ROWS, widest input) */
    bool failed;         /* a layer that there is not, or no memory */
};

static struct gathered *gathered_of(
    const struct importance *m, int64_t layer, enum linear_kind kind)
{
    return &m->at[layer * LINEARS + kind];
}

static int make(struct importance *m, struct err *e)
{
    int64_t widest = 0;
    m->at = mem_array((size_t)(m->config->layers * LINEARS), sizeof *m->at);
    for (int64_t i = 0; m->at && i < m->config->layers * LINEARS; i++) {
        struct linear_shape s;
        linear_shape(m->config, (enum linear_kind)(i % LINEARS), &s);
        m->at[i].in = s.in;
        m->at[i].sums = mem_array((size_t)s.in, sizeof *m->at[i].sums);
        m->at[i].mean = mem_array((size_t)s.in, sizeof *m->at[i].mean);
        m->failed |= !m->at[i].sums || !m->at[i].mean;
        widest = s.in > widest ? s.in : widest;
    }
    m->host = mem_array((size_t)(ENGINE_ROWS * widest), sizeof *m->host);
    return m->at && m->host && !m->failed ? 0 : err_set(e, ERR_MEMORY, "no memory to calibrate");
}

static void add_input(
    void *user, struct dev *dev, enum linear_kind kind, int64_t layer, const float *x, int64_t n)
{
    struct importance *m = user;
    struct gathered *g = gathered_of(m, layer, kind);
    dev_download(dev, m->host, x, (size_t)(n * g->in) * sizeof *x);
    g->rows += n;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g->in; i++)
        for (int64_t r = 0; r < n; r++)
            g->sums[i] += (double)m->host[r * g->in + i] * (double)m->host[r * g->in + i];
}

static int run_windows(struct meter *t, struct err *e)
{
    int64_t have = data_samples(t->data), n = have < WINDOWS ? have : WINDOWS;
    int32_t length;
    for (int64_t i = 0; i < n; i++) {
        data_sample(t->data, i * have / n, t->length, t->inputs, t->targets, &length);
        int rc = engine_extend(t->engine, t->inputs, t->length, 0, false, NULL, e);
        if (rc)
            return rc;
        if (atomic_load(&t->conf->door->stop))
            return err_set(e, ERR_DRAINED, "stopped on request");
    }
    return 0;
}

static int gather(
    struct importance *m, const struct measure_conf *c, struct weights *w, struct err *e)
{
    int64_t context = m->config->context;
    struct meter t = {.conf = c, .length = context < LENGTH ? context : LENGTH};
    int rc = meter_open(&t, w, c->spec->convert.calibration, FORMAT_AUTO, e);
    if (!rc) {
        engine_watch(t.engine, add_input, m);
        rc = run_windows(&t, e);
    }
    meter_close(&t);
    return rc;
}

int importance_create(
    const struct measure_conf *c, struct weights *w, struct importance **out, struct err *e)
{
    struct importance *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory to calibrate");
    m->config = weights_config(w);
    int rc = make(m, e);
    if (rc || (rc = gather(m, c, w, e))) {
        importance_destroy(m);
        return rc;
    }
    for (int64_t i = 0; i < m->config->layers * LINEARS; i++)
        for (int64_t k = 0; k < m->at[i].in; k++)
            m->at[i].mean[k] = (float)(m->at[i].sums[k] / (double)m->at[i].rows);
    *out = m;
    return 0;
}

void importance_destroy(struct importance *m)
{
    if (!m)
        return;
    for (int64_t i = 0; m->at && i < m->config->layers * LINEARS; i++) {
        mem_free(m->at[i].sums);
        mem_free(m->at[i].mean);
    }
    mem_free(m->at);
    mem_free(m->host);
    mem_free(m);
}

const float *importance_of(const struct importance *m, const struct tensor *t)
{
    if (!m || t->layer < 0 || t->dims != 2)
        return NULL;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(m->config, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (s.role[i] == t->role)
                return gathered_of(m, t->layer, k)->mean;
    }
    return NULL;
}
