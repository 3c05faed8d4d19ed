/*
 * scores: one column is averaged at a time, as numpy does. Ordered pairs are counted in whole
 * numbers along the sorted scores.
 */
#include "runtime/train/scores.h"

#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double scores_divide(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* numpy's pairwise summation (PW_BLOCKSIZE). */
#define SUM_LANES 8
#define SUM_BLOCK 128

static double sum(const double *x, int64_t n)
{
    if (n > SUM_BLOCK) {
        int64_t half = n / 2;
        half -= half % SUM_LANES;
        return sum(x, half) + sum(x + half, n - half);
    }
    double total = 0, lane[SUM_LANES];
    int64_t i = 0;
    if (n >= SUM_LANES) {
        memcpy(lane, x, sizeof lane);
        for (i = SUM_LANES; i < n - n % SUM_LANES; i++)
            lane[i % SUM_LANES] += x[i];
        total = ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
            ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    }
    for (; i < n; i++)
        total += x[i];
    return total;
}

enum part { PART_PRECISION, PART_RECALL, PART_F1 };

static double part_of(const struct score *s, enum part part)
{
    return part == PART_PRECISION ? s->precision : part == PART_RECALL ? s->recall : s->f1;
}

static double average(
    const struct score *rows, int64_t n, enum part part, bool weighted, double *column)
{
    double weights = (double)n;
    if (weighted) {
        for (int64_t i = 0; i < n; i++)
            column[i] = (double)rows[i].support;
        weights = sum(column, n);
    }
    for (int64_t i = 0; i < n; i++) {
        double value = part_of(&rows[i], part);
        column[i] = weighted ? value * (double)rows[i].support : value;
    }
    return scores_divide(sum(column, n), weights);
}

struct score scores_average(const struct score *rows, int64_t n, bool weighted, double *column)
{
    struct score s = {average(rows, n, PART_PRECISION, weighted, column),
        average(rows, n, PART_RECALL, weighted, column),
        average(rows, n, PART_F1, weighted, column), 0};
    for (int64_t i = 0; i < n; i++)
        s.support += rows[i].support;
    return s;
}

static int by_score(const void *a, const void *b)
{
    const struct scores_point *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

double scores_auc(struct scores_point *points, int64_t n)
{
    int64_t of[2] = {0, 0}, ordered = 0; /* pairs, twice */
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(points[i].score))
            return NAN;
    qsort(points, (size_t)n, sizeof *points, by_score);
    for (int64_t i = 0, end; i < n; i = end) {
        int64_t tied[2] = {0, 0};
        for (end = i; end < n && points[end].score == points[i].score; end++)
            if (points[end].truth > 0)
                tied[points[end].truth > 1]++;
        ordered += tied[1] * (2 * of[0] + tied[0]);
        of[0] += tied[0];
        of[1] += tied[1];
    }
    return of[0] && of[1] ? (double)ordered / (2 * (double)of[0] * (double)of[1]) : NAN;
}

static void indent(struct buf *out, size_t width, const char *name)
{
    for (size_t n = utf8_count(name); n < width; n++)
        buf_char(out, ' ');
    buf_str(out, name);
}

void scores_print_head(struct buf *out, size_t width)
{
    indent(out, width, "");
    buf_printf(out, "  %9s %9s %9s %9s\n\n", "precision", "recall", "f1-score", "support");
}

void scores_print(struct buf *out, size_t width, const char *name, const struct score *s)
{
    indent(out, width, name);
    buf_printf(
        out, "  %9.4f %9.4f %9.4f %9lld\n", s->precision, s->recall, s->f1, (long long)s->support);
}

void scores_json(struct jsonw *w, const char *key, const struct score *s)
{
    jsonw_open(w, key, '{');
    jsonw_num(w, "precision", s->precision);
    jsonw_num(w, "recall", s->recall);
    jsonw_num(w, "f1-score", s->f1);
    jsonw_int(w, "support", s->support);
    jsonw_close(w);
}
