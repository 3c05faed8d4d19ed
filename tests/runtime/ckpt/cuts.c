/*
 * cuts: of a length n in k parts, part i goes from n i / k to n (i + 1) / k. Parts without an
 * element are left out.
 */
#include "tests/runtime/ckpt/cuts.h"

#include "base/random.h"

int64_t cuts_below(int64_t n, uint64_t *state)
{
    return (int64_t)(random_next(state) % (uint64_t)n);
}

static void add(struct cuts *c, const struct ckpt_piece *p)
{
    if (p->height > 0 && p->width > 0 && c->count < CUTS_MOST)
        c->at[c->count++] = *p;
}

static void add_flat(struct cuts *c, int64_t total, int64_t from, int64_t to, int parts)
{
    int64_t n = to - from;
    for (int i = 0; i < parts; i++) {
        int64_t first = from + n * i / parts, end = from + n * (i + 1) / parts;
        const struct ckpt_piece p = ckpt_piece_flat(total, first, end - first);
        add(c, &p);
    }
}

/* Rows [0, height) of the matrix. */
static void add_grid(
    struct cuts *c, int64_t rows, int64_t columns, int64_t height, int down, int across)
{
    for (int i = 0; i < down; i++)
        for (int k = 0; k < across; k++) {
            int64_t row = height * i / down, column = columns * k / across;
            const struct ckpt_piece p = {rows, columns, row, column, height * (i + 1) / down - row,
                columns * (k + 1) / across - column};
            add(c, &p);
        }
}

void cuts_make(struct cuts *c, enum cuts_way way, int64_t rows, int64_t columns)
{
    int64_t total = rows * columns, half = rows / 2;
    c->count = 0;
    switch (way) {
    case CUTS_ROWS:
        add_grid(c, rows, columns, rows, 3, 1);
        break;
    case CUTS_COLUMNS:
        add_grid(c, rows, columns, rows, 1, 4);
        break;
    case CUTS_2_BY_2:
        add_grid(c, rows, columns, rows, 2, 2);
        break;
    case CUTS_3_BY_2:
        add_grid(c, rows, columns, rows, 3, 2);
        break;
    case CUTS_MIXED:
        add_grid(c, rows, columns, half, 1, 2);
        add_flat(c, total, half * columns, total, 3);
        break;
    default:
        add_flat(c, total, 0, total, (int)way - CUTS_WHOLE + 1);
        break;
    }
}

/* Cuts in two, and what comes of it, until chance is content. */
static void draw_rectangles(struct cuts *c, const struct ckpt_piece *p, uint64_t *state)
{
    struct ckpt_piece a = *p, b = *p;
    bool across = cuts_below(2, state);
    int64_t n = across ? p->width : p->height;
    if (n < 2 || !cuts_below(4, state)) {
        add(c, p);
        return;
    }
    int64_t cut = 1 + cuts_below(n - 1, state);
    if (across) {
        a.width = cut;
        b.column += cut;
        b.width -= cut;
    } else {
        a.height = cut;
        b.row += cut;
        b.height -= cut;
    }
    draw_rectangles(c, &a, state);
    draw_rectangles(c, &b, state);
}

static void draw_flat(struct cuts *c, int64_t total, int64_t from, int64_t to, uint64_t *state)
{
    while (from < to) {
        int64_t n = 1 + cuts_below(to - from, state);
        const struct ckpt_piece p = ckpt_piece_flat(total, from, n);
        add(c, &p);
        from += n;
    }
}

static void shuffle(struct cuts *c, uint64_t *state)
{
    for (int i = c->count - 1; i > 0; i--) {
        int64_t k = cuts_below(i + 1, state);
        struct ckpt_piece p = c->at[i];
        c->at[i] = c->at[k];
        c->at[k] = p;
    }
}

void cuts_draw(struct cuts *c, int64_t rows, int64_t columns, uint64_t *state)
{
    c->count = 0;
    for (int64_t row = 0, n; row < rows; row += n) {
        n = 1 + cuts_below(rows - row, state);
        const struct ckpt_piece band = {rows, columns, row, 0, n, columns};
        if (cuts_below(3, state))
            draw_rectangles(c, &band, state);
        else
            draw_flat(c, rows * columns, row * columns, (row + n) * columns, state);
    }
    shuffle(c, state);
}

struct ckpt_piece cuts_any(int64_t rows, int64_t columns, uint64_t *state)
{
    if (!cuts_below(3, state)) {
        int64_t total = rows * columns, from = cuts_below(total, state);
        return ckpt_piece_flat(total, from, 1 + cuts_below(total - from, state));
    }
    int64_t row = cuts_below(rows, state), column = cuts_below(columns, state);
    return (struct ckpt_piece){rows, columns, row, column, 1 + cuts_below(rows - row, state),
        1 + cuts_below(columns - column, state)};
}
