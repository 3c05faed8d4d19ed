/*
 * chart: a frame (what of the plane is seen) is common to both pictures. In a terminal a cell keeps
 * eight dots and the curve that drew there last. In SVG a curve of many points is thinned, so that
 * a picture stays small. Neither must depend on the locale: %g and a point.
 */
#include "cli/chart.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GUTTER     11   /* columns left of the plot: a figure, a space, the axis */
#define SVG_POINTS 2000 /* of a curve, at most about so many */
#define SVG_WIDTH  860
#define SVG_LEFT   80
#define SVG_RIGHT  840
#define SVG_TOP    30 /* of the plot, in its chart */
#define SVG_BOTTOM 250
#define SVG_LINE   18 /* of the legend */
#define RESET      "\033[0m"

static const char *const colours[] = {
    "\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[34m", "\033[31m"};
static const char *const inks[] = {
    "#0077bb", "#ee7733", "#009988", "#cc3311", "#33bbee", "#ee3377", "#bbbbbb", "#000000"};
#define COUNT(a) (sizeof a / sizeof *(a))

struct chart_frame {
    double x0, x1, y0, y1; /* y as it is drawn: its logarithm, if that is asked for */
    bool logarithmic, empty;
};

static double height_of(const struct chart_frame *f, double value)
{
    return f->logarithmic ? log10(value) : value;
}

static bool is_seen(const struct chart *c, double value)
{
    return isfinite(value) && (!c->logarithmic || value > 0);
}

static struct chart_frame frame_of(const struct chart *c)
{
    struct chart_frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY, c->logarithmic, true};
    for (int i = 0; i < c->count; i++)
        for (size_t k = 0; k < c->lines[i].curve->count; k++) {
            const struct curve_point *p = &c->lines[i].curve->points[k];
            if (!is_seen(c, p->value))
                continue;
            f.empty = false;
            f.x0 = fmin(f.x0, p->step);
            f.x1 = fmax(f.x1, p->step);
            f.y0 = fmin(f.y0, height_of(&f, p->value));
            f.y1 = fmax(f.y1, height_of(&f, p->value));
        }
    if (f.x0 == f.x1)
        f.x1 = f.x0 + 1;
    if (f.y0 == f.y1) {
        f.y0 -= 0.5;
        f.y1 += 0.5;
    }
    return f;
}

/* Of a height, from 0 at the bottom to 1. */
static double figure_at(const struct chart_frame *f, double part)
{
    double y = f->y0 + part * (f->y1 - f->y0);
    return f->logarithmic ? pow(10, y) : y;
}

/* Text from outside; in SVG its special characters are entities. */
static void add_name(struct buf *out, const char *name, bool svg)
{
    for (size_t left = strlen(name); left;) {
        char shown[UTF8_SHOWN_BYTES];
        size_t n = utf8_show(name, left, shown);
        const char *entity = !svg ? NULL
            : *shown == '<'       ? "&lt;"
            : *shown == '>'       ? "&gt;"
            : *shown == '&'       ? "&amp;"
                                  : NULL;
        buf_str(out, entity ? entity : shown);
        name += n;
        left -= n;
    }
}

/* -- in a terminal -- */

struct chart_cell {
    unsigned char dots;
    signed char line; /* which drew here last */
    char letter;      /* 0: none */
};

struct chart_grid {
    struct chart_cell *cells; /* (rows, columns) */
    int rows, columns;
};

static void set_dot(struct chart_grid *g, int x, int y, int line)
{
    static const unsigned char bits[4][2] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    struct chart_cell *cell = &g->cells[y / 4 * g->columns + x / 2];
    cell->dots |= bits[y % 4][x % 2];
    cell->line = (signed char)line;
}

static void draw_segment(struct chart_grid *g, int x0, int y0, int x1, int y1, int line)
{
    int dx = abs(x1 - x0), dy = abs(y1 - y0), n = dx > dy ? dx : dy;
    for (int i = 0; i <= n; i++) {
        double part = n ? (double)i / n : 0;
        set_dot(g, x0 + (int)lround(part * (x1 - x0)), y0 + (int)lround(part * (y1 - y0)), line);
    }
}

static void draw_line(
    struct chart_grid *g, const struct chart *c, const struct chart_frame *f, int line)
{
    const struct curve *curve = c->lines[line].curve;
    int x = -1, y = -1;
    for (size_t k = 0; k < curve->count; k++) {
        const struct curve_point *p = &curve->points[k];
        if (!is_seen(c, p->value))
            continue;
        double across = (p->step - f->x0) / (f->x1 - f->x0);
        double down = (f->y1 - height_of(f, p->value)) / (f->y1 - f->y0);
        int to_x = (int)lround(across * (2 * g->columns - 1));
        int to_y = (int)lround(down * (4 * g->rows - 1));
        draw_segment(g, x < 0 ? to_x : x, y < 0 ? to_y : y, to_x, to_y, line);
        x = to_x;
        y = to_y;
    }
    if (x >= 0) {
        struct chart_cell *cell = &g->cells[y / 4 * g->columns + x / 2];
        cell->letter = (char)('a' + line);
        cell->line = (signed char)line;
    }
}

static void write_cell(const struct chart_cell *cell, bool colour, struct buf *out)
{
    bool drawn = cell->dots || cell->letter;
    if (drawn && colour)
        buf_str(out, colours[(size_t)cell->line % COUNT(colours)]);
    if (cell->letter) {
        buf_char(out, cell->letter);
    } else if (cell->dots) { /* U+2800 and the dots */
        buf_char(out, (char)0xe2);
        buf_char(out, (char)(0xa0 + (cell->dots >> 6)));
        buf_char(out, (char)(0x80 + (cell->dots & 63)));
    } else {
        buf_char(out, ' ');
    }
    if (drawn && colour)
        buf_str(out, RESET);
}

static bool has_figure(int row, int rows)
{
    int figures = rows >= 9 ? 4 : 2;
    for (int k = 0; k <= figures; k++)
        if (row == (k * (rows - 1) + figures / 2) / figures)
            return true;
    return false;
}

static void write_grid(
    const struct chart_grid *g, const struct chart_frame *f, bool colour, struct buf *out)
{
    for (int row = 0; row < g->rows; row++) {
        bool figure = has_figure(row, g->rows);
        if (figure)
            buf_printf(out, "%*.4g ┤", GUTTER - 2, figure_at(f, 1 - (double)row / (g->rows - 1)));
        else
            buf_printf(out, "%*s │", GUTTER - 2, "");
        int last = g->columns;
        while (last && !g->cells[row * g->columns + last - 1].dots &&
            !g->cells[row * g->columns + last - 1].letter)
            last--;
        for (int i = 0; i < last; i++)
            write_cell(&g->cells[row * g->columns + i], colour, out);
        buf_char(out, '\n');
    }
    buf_printf(out, "%*s └", GUTTER - 2, "");
    for (int i = 0; i < g->columns; i++)
        buf_str(out, "─");
    char left[24], right[32];
    snprintf(left, sizeof left, "%.10g", f->x0);
    snprintf(right, sizeof right, "step %.10g", f->x1);
    int room = g->columns - (int)strlen(left) - (int)strlen(right);
    buf_printf(out, "\n%*s%s%*s%s\n", GUTTER, "", left, room > 1 ? room : 1, "", right);
}

static void write_legend(const struct chart *c, const struct chart_style *style, struct buf *out)
{
    for (int i = 0; i < c->count; i++) {
        const struct curve *curve = c->lines[i].curve;
        const struct curve_point *last = curve->count ? &curve->points[curve->count - 1] : NULL;
        buf_printf(out, "  %s%c%s  ", style->colour ? colours[(size_t)i % COUNT(colours)] : "",
            'a' + i, style->colour ? RESET : "");
        add_name(out, c->lines[i].name, false);
        if (last)
            buf_printf(out, "  %.5g at step %.10g", last->value, last->step);
        buf_char(out, '\n');
    }
}

int chart_draw(const struct chart *c, const struct chart_style *style, struct buf *out)
{
    struct chart_frame f = frame_of(c);
    buf_printf(out, "%s%s\n", c->title, c->logarithmic ? ", logarithmic" : "");
    if (f.empty) {
        buf_str(out, "  no figures\n");
        return buf_ok(out) ? 0 : -ERR_MEMORY;
    }
    int columns = style->width - GUTTER, rows = style->height - 3 - c->count;
    struct chart_grid g = {.columns = columns < 19 ? 19 : columns, .rows = rows < 4 ? 4 : rows};
    mem_autofree struct chart_cell *cells = mem_array((size_t)(g.columns * g.rows), sizeof *cells);
    if (!cells)
        return -ERR_MEMORY;
    g.cells = cells;
    for (int i = 0; i < c->count; i++)
        draw_line(&g, c, &f, i);
    write_grid(&g, &f, style->colour, out);
    write_legend(c, style, out);
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}

/* -- as SVG -- */

static int svg_height(const struct chart *c)
{
    return SVG_BOTTOM + 40 + SVG_LINE * c->count;
}

static void svg_axes(const struct chart_frame *f, int top, struct buf *out)
{
    for (int i = 0; i <= 4; i++) {
        int y = top + SVG_BOTTOM - i * (SVG_BOTTOM - SVG_TOP) / 4;
        buf_printf(out, "<path d=\"M%d %dH%d\" stroke=\"#ddd\"/>\n", SVG_LEFT, y, SVG_RIGHT);
        buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>\n", SVG_LEFT - 6,
            y + 4, figure_at(f, i / 4.0));
    }
    for (int i = 0; i <= 4; i++)
        buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s%.10g</text>\n",
            SVG_LEFT + i * (SVG_RIGHT - SVG_LEFT) / 4, top + SVG_BOTTOM + 16, i ? "" : "step ",
            f->x0 + i / 4.0 * (f->x1 - f->x0));
}

static void svg_line(
    const struct chart *c, const struct chart_frame *f, int line, int top, struct buf *out)
{
    const struct curve *curve = c->lines[line].curve;
    size_t stride = curve->count / SVG_POINTS + 1;
    buf_printf(out, "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"%s\" points=\"",
        inks[(size_t)line % COUNT(inks)]);
    for (size_t k = 0; k < curve->count; k++) {
        const struct curve_point *p = &curve->points[k];
        if (!is_seen(c, p->value) || (k % stride && k + 1 < curve->count))
            continue;
        double across = (p->step - f->x0) / (f->x1 - f->x0);
        double down = (f->y1 - height_of(f, p->value)) / (f->y1 - f->y0);
        buf_printf(out, "%.1f,%.1f ", SVG_LEFT + across * (SVG_RIGHT - SVG_LEFT),
            top + SVG_TOP + down * (SVG_BOTTOM - SVG_TOP));
    }
    buf_str(out, "\"/>\n");
}

static void svg_legend(const struct chart *c, int line, int top, struct buf *out)
{
    const struct curve *curve = c->lines[line].curve;
    int y = top + SVG_BOTTOM + 36 + line * SVG_LINE;
    buf_printf(out, "<path d=\"M%d %dh24\" stroke-width=\"3\" stroke=\"%s\"/>\n", SVG_LEFT, y - 4,
        inks[(size_t)line % COUNT(inks)]);
    buf_printf(out, "<text x=\"%d\" y=\"%d\">", SVG_LEFT + 32, y);
    add_name(out, c->lines[line].name, true);
    if (curve->count)
        buf_printf(out, " (%.5g at step %.10g)", curve->points[curve->count - 1].value,
            curve->points[curve->count - 1].step);
    buf_str(out, "</text>\n");
}

int chart_svg(const struct chart *charts, int count, struct buf *out)
{
    int height = 0, top = 0;
    for (int i = 0; i < count; i++)
        height += svg_height(&charts[i]);
    buf_printf(out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"white\"/>\n",
        SVG_WIDTH, height);
    for (int i = 0; i < count; i++) {
        const struct chart *c = &charts[i];
        struct chart_frame f = frame_of(c);
        buf_printf(out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s%s</text>\n", SVG_LEFT,
            top + 18, c->title, c->logarithmic ? ", logarithmic" : "");
        if (!f.empty)
            svg_axes(&f, top, out);
        for (int k = 0; k < c->count; k++) {
            if (!f.empty)
                svg_line(c, &f, k, top, out);
            svg_legend(c, k, top, out);
        }
        top += svg_height(c);
    }
    buf_str(out, "</svg>\n");
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}
