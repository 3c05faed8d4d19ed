/*
 * zero: a unit's elements are in the order of the flat range, as slices are, so what an owner has
 * of it is one piece, and a unit is one collective. All ranks walk through the same units in the
 * same order. Only enqueues.
 */
#include "runtime/model/zero.h"

#include "base/mem.h"
#include "runtime/model/batch.h"
#include "runtime/model/internal.h"

/* -- who keeps what -- */

static bool divides(const struct model_conf *c, int stage)
{
    return c->owners > 1 && c->slice_fn && c->zero_stage >= stage;
}

bool zero_divides_masters(const struct model_conf *c)
{
    bool copied = c->t != DTYPE_F32 || zero_divides_weights(c);
    return divides(c, 1) && copied && !c->whole_masters && !model_is_frozen(c);
}

bool zero_divides_gradient(const struct model_conf *c)
{
    return divides(c, 2);
}

bool zero_divides_weights(const struct model_conf *c)
{
    return divides(c, 3);
}

struct zero_slice zero_trained(const struct model_conf *c, const struct tensors *t, int owner)
{
    struct zero_slice s;
    c->slice_fn(c, t, owner, &s.first, &s.count);
    return s;
}

struct zero_slice zero_base(const struct model_conf *c, const struct tensors *t, int owner)
{
    int64_t lines = (t->elements + TENSORS_ALIGN - 1) / TENSORS_ALIGN, n = c->owners;
    int64_t from = lines / n * owner + lines % n * owner / n;
    int64_t to = lines / n * (owner + 1) + lines % n * (owner + 1) / n;
    struct zero_slice s = {from * TENSORS_ALIGN, to * TENSORS_ALIGN};
    s.count = (s.count < t->elements ? s.count : t->elements) - s.first;
    return model_is_frozen(c) ? s : zero_trained(c, t, owner);
}

/* What of [first, first + count) is in the slice. */
static struct zero_slice within(struct zero_slice s, int64_t first, int64_t count)
{
    int64_t end = s.first + s.count < first + count ? s.first + s.count : first + count;
    s.first = s.first > first ? s.first : first;
    s.count = end > s.first ? end - s.first : 0;
    return s;
}

/* -- windows -- */

static int unit_of(const struct tensor *x)
{
    return x->layer >= 0 ? 1 + x->layer : 0;
}

static int64_t aligned(int64_t elements)
{
    return (elements + TENSORS_ALIGN - 1) / TENSORS_ALIGN * TENSORS_ALIGN;
}

/* Tensors of several units are not joined, so that all spans but the last are aligned. */
static void find_spans(struct zero_window *w, const struct tensors *t, int64_t *sizes)
{
    for (int i = 0, end; i < t->count; i = end) {
        int unit = unit_of(&t->at[i]);
        for (end = i + 1; end < t->count && unit_of(&t->at[end]) == unit;)
            end++;
        int64_t first = t->at[i].offset;
        int64_t to = end < t->count ? t->at[end].offset : t->elements;
        w->spans[w->span_count++] = (struct zero_span){unit, first, to - first, sizes[unit]};
        sizes[unit] += to - first;
    }
    w->outer = aligned(sizes[0]);
    for (int unit = 1; unit < w->units; unit++)
        w->layer = aligned(sizes[unit]) > w->layer ? aligned(sizes[unit]) : w->layer;
}

static void count_owned(
    struct zero_window *w, const struct model_conf *c, const struct tensors *t, bool trained)
{
    for (int k = 0; k < w->owners; k++) {
        struct zero_slice s = trained ? zero_trained(c, t, k) : zero_base(c, t, k);
        for (int i = 0; i < w->span_count; i++) {
            const struct zero_span *x = &w->spans[i];
            w->counts[x->unit * w->owners + k] += within(s, x->first, x->count).count;
        }
    }
}

int zero_window_create(struct zero_window *w, const struct model_conf *c, const struct tensors *t,
    bool gradient, struct err *e)
{
    *w = (struct zero_window){
        .units = 1 + t->layers, .owners = c->owners, .slots = gradient ? 1 : 2};
    mem_autofree int64_t *sizes = mem_array((size_t)w->units, sizeof *sizes);
    w->spans = mem_array((size_t)t->count + 1, sizeof *w->spans);
    w->counts = mem_array((size_t)w->units * (size_t)w->owners, sizeof *w->counts);
    if (!sizes || !w->spans || !w->counts)
        return err_set(e, ERR_MEMORY, "no memory for the slices of %d ranks", c->owners);
    find_spans(w, t, sizes);
    count_owned(w, c, t, gradient);
    return 0;
}

void zero_window_done(struct zero_window *w)
{
    mem_free(w->spans);
    mem_free(w->counts);
    *w = (struct zero_window){0};
}

int64_t zero_window_elements(const struct zero_window *w)
{
    return carve_plus(w->outer, carve_times(w->slots, w->layer));
}

/* Where a unit begins. */
static int64_t begin_of(const struct zero_window *w, int unit)
{
    return unit ? w->outer + (unit - 1) % w->slots * w->layer : 0;
}

int64_t zero_window_place(const struct zero_window *w, const struct tensor *p)
{
    if (!w->units)
        return p->offset;
    const struct zero_span *x = w->spans;
    while (p->offset >= x->first + x->count)
        x++;
    return begin_of(w, x->unit) + x->at + (p->offset - x->first);
}

/* -- a pass -- */

static void failed(struct zero *z, int rc, const struct err *e)
{
    if (rc && z->failure.code == ERR_NONE)
        z->failure = *e;
}

static bool works(const struct zero *z)
{
    return z && z->failure.code == ERR_NONE;
}

static void join(struct zero *z)
{
    if (z->model->conf.coll)
        coll_reduce_join(z->model->conf.coll);
}

/* What this rank has of a span becomes its part of the window, of the compute type. */
static void place_own(struct model *m, const struct zero_span *x)
{
    const struct zero_window *w = &m->weights_window;
    enum dtype t = m->conf.t;
    struct zero_slice s = within(m->own_base, x->first, x->count);
    int64_t from = s.first - m->own_base.first;
    void *to = at_element(m->window, begin_of(w, x->unit) + x->at + (s.first - x->first), t);
    if (!s.count)
        return;
    if (m->frozen || t == DTYPE_F32)
        dev_copy(m->dev, to, at_element(m->frozen ? (void *)m->frozen : m->master, from, t),
            (size_t)(s.count * dtype_block_bytes(t)));
    else
        OP(m, convert, .count = s.count, .x = m->master + from, .x_type = DTYPE_F32, .y = to,
            .y_type = t);
}

static void gather(struct zero *z, int unit)
{
    struct model *m = z->model;
    const struct zero_window *w = &m->weights_window;
    struct err e;
    for (int i = 0; i < w->span_count; i++)
        if (w->spans[i].unit == unit)
            place_own(m, &w->spans[i]);
    if (m->conf.coll)
        failed(z,
            coll_all_gather_start(m->conf.coll, at_element(m->window, begin_of(w, unit), m->conf.t),
                w->counts + (ptrdiff_t)unit * w->owners, m->conf.t, &e),
            &e);
}

void zero_begin(struct zero *z)
{
    if (!works(z) || !z->model->window)
        return;
    z->standing[0] = z->standing[1] = 0;
    gather(z, 0);
    join(z);
}

/* Its slot is the one of its number. */
static bool fetch(struct zero *z, int64_t layer)
{
    int unit = 1 + (int)layer, slot = (unit - 1) % z->model->weights_window.slots;
    if (layer < 0 || unit >= z->model->weights_window.units || z->standing[slot] == unit)
        return false;
    gather(z, unit);
    z->standing[slot] = unit;
    return true;
}

void zero_enter(struct zero *z, int64_t layer, int64_t next)
{
    if (!works(z) || !z->model->window)
        return;
    fetch(z, layer);
    join(z);
    fetch(z, next);
}

static float *gradient_of(const struct zero *z, int unit)
{
    return z->gradient + begin_of(&z->model->gradient_window, unit);
}

void zero_clear_gradient(struct zero *z, int64_t layer)
{
    if (works(z) && z->gradient && 1 + layer < z->model->gradient_window.units)
        dev_zero(z->model->dev, gradient_of(z, 1 + (int)layer),
            (size_t)z->model->gradient_window.layer * sizeof(float));
}

/* The slice += what this rank has of the unit. */
static void add_own(struct zero *z, int unit)
{
    const struct zero_window *w = &z->model->gradient_window;
    const struct zero_slice own = z->model->own_gradient;
    for (int i = 0; i < w->span_count; i++) {
        const struct zero_span *x = &w->spans[i];
        struct zero_slice s = within(own, x->first, x->count);
        if (x->unit == unit && s.count)
            OP(z->model, axpby, .count = s.count,
                .x = gradient_of(z, unit) + x->at + (s.first - x->first), .x_type = DTYPE_F32,
                .y = z->slice + (s.first - own.first), .y_type = DTYPE_F32, .a = 1, .b = 1);
    }
}

static void reduce(struct zero *z, int unit)
{
    if (!works(z) || !z->gradient || unit >= z->model->gradient_window.units)
        return;
    const struct zero_window *w = &z->model->gradient_window;
    struct coll *c = z->model->conf.coll;
    struct err e;
    if (c)
        failed(z,
            coll_reduce_scatter_start(c, gradient_of(z, unit),
                w->counts + (ptrdiff_t)unit * w->owners, DTYPE_F32, COLL_SUM, &e),
            &e);
    join(z);
    add_own(z, unit);
}

void zero_reduce_gradient(struct zero *z, int64_t layer)
{
    reduce(z, 1 + (int)layer);
}

void zero_clear_all(struct zero *z)
{
    struct model *m = z->model;
    dev_zero(m->dev, z->gradient, (size_t)m->gradient_window.outer * sizeof(float));
    dev_zero(m->dev, z->slice, (size_t)m->own_gradient.count * sizeof(float));
}

void zero_reduce_rest(struct zero *z)
{
    reduce(z, 0);
}

int zero_check(struct zero *z, struct err *e)
{
    if (!z || z->failure.code == ERR_NONE)
        return z && z->model->conf.coll ? coll_reduce_wait(z->model->conf.coll, e) : 0;
    *e = z->failure;
    return -(int)e->code;
}
