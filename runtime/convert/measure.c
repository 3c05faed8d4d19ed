/*
 * measure: windows of spec.convert.evaluate.sequenceLength tokens, spread evenly over the text,
 * each from an empty cache; each token is predicted from those before it in its window.
 */
#include "runtime/convert/measure.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/convert/meter.h"
#include "runtime/door/beat.h"
#include "runtime/model/prune.h"

#define NUMBERS  1048576 /* looked at for zeros at a time */
#define DECODED  64      /* tokens, at most, for the speed */
#define DECODE_S 10      /* seconds, about, at most */

int64_t measure_bytes(const struct weights *w)
{
    int64_t sum = 0;
    for (int i = 0; i < weights_count(w); i++)
        sum += weights_at(w, i)->bytes;
    return sum;
}

/* Adds a matrix's zeros, some rows at a time. */
static int add_zeros(const struct measure_conf *c, struct weights *w, const struct tensor *t,
    int64_t *zeros, struct err *e)
{
    int64_t columns = t->shape[1], chunk = columns < NUMBERS ? NUMBERS / columns : 1;
    mem_autofree float *x = mem_array((size_t)chunk, (size_t)columns * sizeof *x);
    if (!x)
        return err_set(e, ERR_MEMORY, "no memory to look for zeros");
    for (int64_t row = 0, n; row < t->shape[0]; row += n) {
        n = t->shape[0] - row < chunk ? t->shape[0] - row : chunk;
        int rc = weights_read(w, t->name, t->shape[0], columns, row, n, DTYPE_F32, x, e);
        if (rc)
            return rc;
        *zeros += prune_zeros(x, n * columns);
        beat(c->door->page);
    }
    return atomic_load(&c->door->stop) ? err_set(e, ERR_DRAINED, "stopped on request") : 0;
}

int measure_sparsity(const struct measure_conf *c, struct weights *w, double *out, struct err *e)
{
    struct tensors all;
    int64_t zeros = 0, count = 0;
    int rc = tensors_create(weights_config(w), &all, e);
    if (rc)
        return rc;
    for (int i = 0; i < all.count && !rc; i++) {
        if (!prune_takes(&all.at[i]))
            continue;
        count += all.at[i].count;
        rc = add_zeros(c, w, &all.at[i], &zeros, e);
    }
    tensors_done(&all);
    if (!rc)
        *out = (double)zeros / (double)count;
    return rc;
}

static int add_windows(struct meter *m, struct measured *out, struct err *e)
{
    int64_t have = data_samples(m->data), want = m->conf->spec->convert.evaluate.sequences;
    double sum = 0;
    out->sequences = want < have ? want : have;
    out->tokens = out->sequences * m->length;
    for (int64_t i = 0; i < out->sequences; i++) {
        double part = 0;
        int rc = meter_window(m, i * have / out->sequences, &part, e);
        if (rc)
            return rc;
        sum += part;
    }
    out->loss = sum / (double)out->tokens;
    return 0;
}

/* The window's second half once more, token by token. */
static int time_tokens(struct meter *m, struct measured *out, struct err *e)
{
    const struct sample_draw greedy = {0, 1, 0};
    int64_t half = m->length / 2, most = m->length - half < DECODED ? m->length - half : DECODED;
    int64_t begun = 0, n = 0;
    for (int64_t i = 0; i < most; i++) {
        int32_t drawn;
        int rc = engine_next(m->engine, m->inputs[half + i], half + i, &greedy, &drawn, e);
        if (rc)
            return rc;
        beat(m->conf->door->page);
        if (!i) { /* what is done once is done */
            begun = clock_ns();
            continue;
        }
        n++;
        double seconds = (double)(clock_ns() - begun) * 1e-9;
        out->tokens_per_second = seconds > 0 ? (double)n / seconds : 0;
        if (seconds > DECODE_S)
            return 0;
    }
    return 0;
}

int measure_model(
    const struct measure_conf *c, struct weights *w, struct measured *out, struct err *e)
{
    const struct model_config *config = weights_config(w);
    struct measured found = {.bytes = out->bytes, .sparsity = out->sparsity};
    struct meter m = {.conf = c, .length = c->spec->convert.evaluate.sequence_length};
    int rc;
    if (m.length > config->context)
        return err_set(e, ERR_USER,
            "spec.convert.evaluate.sequenceLength: %lld exceeds the model's context of %lld",
            (long long)m.length, (long long)config->context);
    if (!(rc = meter_open(
              &m, w, c->spec->convert.evaluate.data, c->spec->convert.evaluate.format, e)) &&
        !(rc = add_windows(&m, &found, e)))
        rc = time_tokens(&m, &found, e);
    meter_close(&m);
    if (!rc)
        *out = found;
    return rc;
}
