/*
 * chart: curves as a picture, for a terminal (dots of Braille, two by four a character) or as SVG.
 * Pure: numbers in, text out. In a terminal each curve ends in its letter, so that they are told
 * apart without colours; the legend below says whose it is.
 */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include "base/buf.h"
#include "cli/curves.h"

#include <stdbool.h>

#define CHART_LINES 26 /* a letter each */

struct chart_line {
    const char *name; /* borrowed; shown as text from outside */
    const struct curve *curve;
};

struct chart {
    const char *title;
    struct chart_line lines[CHART_LINES];
    int count;
    bool logarithmic; /* in y; what is not above 0 is left out */
};

struct chart_style {
    int width, height; /* characters, of the whole picture: at least 30 and 8 are used */
    bool colour;
};

/* Appends; -ERR_MEMORY. A chart without a point says so. */
int chart_draw(const struct chart *c, const struct chart_style *style, struct buf *out);
/* One SVG document of all charts, one below the other. */
int chart_svg(const struct chart *charts, int count, struct buf *out);

#endif
