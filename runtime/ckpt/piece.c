/*
 * ckpt_piece: two views of a part. As runs, one for each of its rows, in the order of the flattened
 * tensor: what two parts share is what their runs share. As rectangles, for the question whether
 * parts tile the matrix: a line goes down the rows and keeps the columns that are covered, sorted,
 * so n parts cost n log n where few of them lie side by side.
 */
#include "runtime/ckpt/piece.h"

#include "base/mem.h"
#include "base/number.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* -- parts -- */

struct ckpt_piece ckpt_piece_flat(int64_t total, int64_t offset, int64_t count)
{
    return (struct ckpt_piece){
        .rows = 1, .columns = total, .column = offset, .height = 1, .width = count};
}

bool ckpt_piece_is_flat(const struct ckpt_piece *p)
{
    return p->rows == 1;
}

struct ckpt_piece ckpt_piece_simplest(const struct ckpt_piece *p)
{
    if (p->width != p->columns)
        return *p;
    return ckpt_piece_flat(ckpt_piece_total(p), p->row * p->columns, ckpt_piece_count(p));
}

bool ckpt_piece_fits(const struct ckpt_piece *p)
{
    return p->rows > 0 && p->columns > 0 && p->columns <= NUMBER_EXACT / p->rows && p->row >= 0 &&
        p->column >= 0 && p->height >= 0 && p->width >= 0 && p->height <= p->rows &&
        p->width <= p->columns && p->row <= p->rows - p->height &&
        p->column <= p->columns - p->width;
}

int64_t ckpt_piece_total(const struct ckpt_piece *p)
{
    return p->rows * p->columns;
}

int64_t ckpt_piece_count(const struct ckpt_piece *p)
{
    return p->height * p->width;
}

bool ckpt_piece_join(struct ckpt_piece *p, const struct ckpt_piece *next)
{
    if (p->rows != next->rows || p->columns != next->columns)
        return false;
    if (ckpt_piece_is_flat(p)) {
        if (next->column != p->column + p->width)
            return false;
        p->width += next->width;
        return true;
    }
    if (next->column != p->column || next->width != p->width || next->row != p->row + p->height)
        return false;
    p->height += next->height;
    return true;
}

/* -- where two meet -- */

struct runs { /* run i: elements [first + i stride, + width) of the flattened tensor */
    int64_t first, width, stride, count;
};

static struct runs runs_of(const struct ckpt_piece *part)
{
    const struct ckpt_piece p = ckpt_piece_simplest(part);
    return (struct runs){p.row * p.columns + p.column, p.width, p.columns, p.width ? p.height : 0};
}

/* The first run that ends behind an element. */
static int64_t first_behind(const struct runs *r, int64_t element)
{
    int64_t ends = r->first + r->width;
    return element < ends ? 0 : (element - ends) / r->stride + 1;
}

int ckpt_piece_meet(const struct ckpt_piece *from, const struct ckpt_piece *to, ckpt_piece_fn *fn,
    void *user, struct err *e)
{
    const struct runs f = runs_of(from), t = runs_of(to);
    if (!f.count || !t.count)
        return 0;
    int64_t end = f.first + (f.count - 1) * f.stride + f.width;
    for (int64_t i = first_behind(&t, f.first); i < t.count; i++) {
        int64_t here = t.first + i * t.stride;
        if (here >= end)
            return 0;
        for (int64_t k = first_behind(&f, here); k < f.count; k++) {
            int64_t there = f.first + k * f.stride;
            int64_t low = here > there ? here : there;
            int64_t high = here + t.width < there + f.width ? here + t.width : there + f.width;
            if (low >= high)
                break;
            int rc = fn(user, k * f.width + low - there, i * t.width + low - here, high - low, e);
            if (rc)
                return rc;
        }
    }
    return 0;
}

/* -- whether many are the whole -- */

struct edge { /* of a rectangle, at its first row or behind its last */
    int64_t row, column, width;
    bool begins;
};

struct span {
    int64_t column, width;
};

struct tiling {
    int64_t rows, columns;
    struct edge *edges; /* by row; those that end first */
    int edge_count;
    struct span *spans; /* what covers the row of the line, by column */
    int span_count;
    int64_t covered; /* columns of that row */
};

static int edge_compare(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    if (x->begins != y->begins)
        return x->begins ? 1 : -1;
    return (x->column > y->column) - (x->column < y->column);
}

static void add_rectangle(
    struct tiling *t, int64_t row, int64_t height, int64_t column, int64_t width)
{
    if (height < 1 || width < 1)
        return;
    t->edges[t->edge_count++] = (struct edge){row, column, width, true};
    t->edges[t->edge_count++] = (struct edge){row + height, column, width, false};
}

/* A range is the end of a row, whole rows, and the beginning of one. */
static void add_range(struct tiling *t, int64_t from, int64_t to)
{
    int64_t row = from / t->columns, column = from % t->columns;
    int64_t last = to / t->columns, rest = to % t->columns;
    if (row == last) {
        add_rectangle(t, row, 1, column, rest - column);
        return;
    }
    if (column)
        add_rectangle(t, row++, 1, column, t->columns - column);
    add_rectangle(t, row, last - row, 0, t->columns);
    add_rectangle(t, last, 1, 0, rest);
}

/* Of the first span that does not begin before a column. */
static int find_span(const struct tiling *t, int64_t column)
{
    int low = 0, high = t->span_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (t->spans[middle].column < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int fail_at(
    const struct tiling *t, const char *what, int64_t row, int64_t column, struct err *e)
{
    if (t->rows == 1)
        return err_set(e, ERR_CORRUPT, "%s at %" PRId64, what, column);
    return err_set(e, ERR_CORRUPT, "%s at row %" PRId64 ", column %" PRId64, what, row, column);
}

static int cross_edge(struct tiling *t, const struct edge *x, struct err *e)
{
    int i = find_span(t, x->column);
    struct span *at = t->spans + i;
    size_t behind = (size_t)(t->span_count - i);
    if (!x->begins) {
        memmove(at, at + 1, (behind - 1) * sizeof *at);
        t->span_count--;
        t->covered -= x->width;
        return 0;
    }
    if (i && at[-1].column + at[-1].width > x->column)
        return fail_at(t, "two pieces", x->row, x->column, e);
    if (behind && at->column < x->column + x->width)
        return fail_at(t, "two pieces", x->row, at->column, e);
    memmove(at + 1, at, behind * sizeof *at);
    *at = (struct span){x->column, x->width};
    t->span_count++;
    t->covered += x->width;
    return 0;
}

/* The first column that nothing covers. */
static int64_t find_gap(const struct tiling *t)
{
    int64_t column = 0;
    for (int i = 0; i < t->span_count && t->spans[i].column == column; i++)
        column += t->spans[i].width;
    return column;
}

static int go_down(struct tiling *t, struct err *e)
{
    int64_t row = 0; /* above it all is covered */
    for (int i = 0; i < t->edge_count;) {
        if (t->edges[i].row > row && t->covered < t->columns)
            break;
        row = t->edges[i].row;
        for (; i < t->edge_count && t->edges[i].row == row; i++) {
            int rc = cross_edge(t, &t->edges[i], e);
            if (rc)
                return rc;
        }
    }
    return row < t->rows ? fail_at(t, "a gap", row, find_gap(t), e) : 0;
}

int ckpt_piece_tile(const struct ckpt_piece *parts, int count, struct err *e)
{
    if (!count)
        return err_set(e, ERR_CORRUPT, "a gap at 0");
    struct tiling t = {.rows = 1, .columns = ckpt_piece_total(&parts[0])};
    for (int i = 0; i < count && t.rows == 1; i++)
        if (!ckpt_piece_is_flat(&parts[i])) {
            t.rows = parts[i].rows;
            t.columns = parts[i].columns;
        }
    mem_autofree struct edge *edges = mem_array((size_t)count, 6 * sizeof *edges);
    mem_autofree struct span *spans = mem_array((size_t)count, 3 * sizeof *spans);
    if (!edges || !spans)
        return err_set(e, ERR_MEMORY, "no memory for %d pieces of a tensor", count);
    t.edges = edges;
    t.spans = spans;
    for (int i = 0; i < count; i++) {
        const struct ckpt_piece *p = &parts[i];
        if (ckpt_piece_is_flat(p))
            add_range(&t, p->column, p->column + p->width);
        else
            add_rectangle(&t, p->row, p->height, p->column, p->width);
    }
    qsort(t.edges, (size_t)t.edge_count, sizeof *t.edges, edge_compare);
    return go_down(&t, e);
}
