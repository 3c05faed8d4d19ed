/*
 * parity: the error of an element is relative to its
 * size plus the root mean square of its tensor, so that small elements of a sum are not overrated.
 */
#include "tests/kernels/parity.h"

#include "base/mem.h"
#include "base/random.h"

#include <check.h>
#include <math.h>

/* Outputs that are zero but for rounding (the gradient of a softmax over one key) have no scale of
 * their own. */
#define FLOOR 1e-2

void parity_begin(struct parity_run *r, struct dev *d, enum dtype t, uint64_t seed)
{
    *r = (struct parity_run){.d = d, .ops = dev_ops(d), .t = t, .seed = seed};
}

void parity_end(struct parity_run *r)
{
    for (int i = 0; i < r->buffers; i++)
        dev_free(r->d, r->buffer[i]);
    for (int i = 0; i < r->outputs; i++)
        mem_free(r->output[i].value);
    r->buffers = r->outputs = 0;
}

static void *parity_upload(struct parity_run *r, const void *host, int64_t bytes)
{
    struct err e = {0};
    void *p;
    ck_assert_int_lt(r->buffers, PARITY_BUFFERS);
    ck_assert_msg(!dev_alloc(r->d, (size_t)bytes, &p, &e), "%s", e.text);
    dev_upload(r->d, p, host, (size_t)bytes);
    return r->buffer[r->buffers++] = p;
}

void *parity_input(struct parity_run *r, int64_t count, enum dtype t, float range)
{
    int64_t bytes = dtype_bytes(t, count);
    mem_autofree char *host = mem_alloc((size_t)bytes + 1);
    for (int64_t i = 0; i < count; i++) {
        float v = range * ((float)(random_next(&r->seed) >> 40) * 0x1p-23f - 1);
        uint16_t h = t == DTYPE_BF16 ? f32_to_bf16(v) : f32_to_f16(v);
        if (t == DTYPE_F32)
            memcpy(host + 4 * i, &v, 4);
        else if (t == DTYPE_U8)
            host[i] = (char)(h & 0xff);
        else
            memcpy(host + 2 * i, &h, 2);
    }
    return parity_upload(r, host, bytes);
}

int32_t *parity_ids(struct parity_run *r, int64_t count, int32_t below)
{
    mem_autofree int32_t *host = mem_array((size_t)count + 1, sizeof *host);
    for (int64_t i = 0; i < count; i++)
        host[i] = (int32_t)(random_next(&r->seed) % (uint64_t)below);
    return parity_upload(r, host, count * 4);
}

/* Offsets of the f16 fields of a block, whose random bits would be NaN or huge. */
static void parity_fix_scales(struct parity_run *r, uint8_t *block, enum dtype t)
{
    int at[2] = {t == DTYPE_Q6_K ? 208 : 0,
        t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K ? 2 : -1};
    for (int i = 0; i < 2; i++) {
        uint16_t h = f32_to_f16(0.01f * ((float)(random_next(&r->seed) >> 40) * 0x1p-23f - 1));
        if (at[i] >= 0)
            memcpy(block + at[i], &h, 2);
    }
}

void *parity_blocks(struct parity_run *r, int64_t count, enum dtype t)
{
    if (dtype_block(t) == 1)
        return parity_input(r, count, t, 1);
    int64_t bytes = dtype_bytes(t, count), step = dtype_block_bytes(t);
    mem_autofree uint8_t *host = mem_alloc((size_t)bytes);
    for (int64_t i = 0; i < bytes; i++)
        host[i] = (uint8_t)random_next(&r->seed);
    for (int64_t i = 0; i < bytes; i += step)
        parity_fix_scales(r, host + i, t);
    return parity_upload(r, host, bytes);
}

void *parity_space(struct parity_run *r, int64_t count, enum dtype t)
{
    int64_t bytes = dtype_bytes(t, count);
    mem_autofree char *host = mem_alloc((size_t)bytes + 1);
    memset(host, 0xff, (size_t)bytes);
    return parity_upload(r, host, bytes);
}

void parity_output(
    struct parity_run *r, const void *p, int64_t count, enum dtype t, double tolerance)
{
    struct err e = {0};
    int64_t bytes = dtype_bytes(t, count);
    mem_autofree char *host = mem_alloc((size_t)bytes + 1);
    float *value = mem_alloc((size_t)count * sizeof(float) + 1);
    ck_assert_msg(!dev_sync(r->d, &e), "%s", e.text);
    dev_download(r->d, host, p, (size_t)bytes);
    for (int64_t i = 0; i < count; i++) {
        uint16_t h;
        int32_t whole;
        memcpy(&h, host + (t == DTYPE_U8 ? 0 : 2 * i), t == DTYPE_U8 ? 0 : 2);
        if (t == DTYPE_F32)
            memcpy(&value[i], host + 4 * i, 4);
        else if (t == DTYPE_U8)
            value[i] = (float)(uint8_t)host[i];
        else if (t == DTYPE_I32)
            value[i] = (float)*(int32_t *)memcpy(&whole, host + 4 * i, 4);
        else
            value[i] = t == DTYPE_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
    }
    r->output[r->outputs++] = (struct parity_output){value, count, tolerance};
}

double parity_error(const struct parity_run *want, const struct parity_run *got)
{
    double worst = 0;
    if (want->outputs != got->outputs)
        return INFINITY;
    for (int o = 0; o < want->outputs; o++) {
        const struct parity_output *a = &want->output[o], *b = &got->output[o];
        double square = 0;
        if (a->count != b->count)
            return INFINITY;
        for (int64_t i = 0; i < a->count; i++)
            square += (double)a->value[i] * a->value[i];
        double rms = a->count ? sqrt(square / (double)a->count) : 0;
        rms = rms > FLOOR ? rms : FLOOR;
        for (int64_t i = 0; i < a->count; i++) {
            double off = fabs((double)a->value[i] - b->value[i]);
            double error = off ? off / (fabs(a->value[i]) + rms) / a->tolerance : 0;
            if (!(error <= worst))
                worst = isnan(error) ? INFINITY : error;
        }
    }
    return worst;
}

bool parity_equal(const struct parity_run *a, const struct parity_run *b)
{
    if (a->outputs != b->outputs)
        return false;
    for (int o = 0; o < a->outputs; o++)
        if (a->output[o].count != b->output[o].count ||
            memcmp(
                a->output[o].value, b->output[o].value, (size_t)a->output[o].count * sizeof(float)))
            return false;
    return true;
}
