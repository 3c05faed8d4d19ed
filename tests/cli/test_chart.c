/*
 * Goal: a chart shows its curves where they are, fits its size, and text from outside does no harm.
 * Method: small pictures compared whole, with corners that can be checked by hand; every size for
 * its widest line.
 */
#include "cli/chart.h"

#include "base/utf8.h"
#include "tests/unit.h"

#include <string.h>

static const char golden_text[] = "loss\n"
                                  "        4 ┤⠑⢄\n"
                                  "          │  ⠑⢄ ⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒b\n"
                                  "        2 ┤    ⠑⠤⣀\n"
                                  "          │       ⠉⠑⠢⠤⣀⡀\n"
                                  "        0 ┤            ⠈⠉⠒⠒⠤⠤⢄a\n"
                                  "          └────────────────────\n"
                                  "           0            step 40\n"
                                  "  a  a&<b>  0 at step 40\n"
                                  "  b  c\\u001b[2J  3 at step 40\n";

static const char golden_log[] = "loss, logarithmic\n"
                                 "        4 ┤⠉⠒⠤⣀\n"
                                 "          │    ⠉⠒⠤⣀\n"
                                 "    1.414 ┤        ⠉⠒⠤⣀\n"
                                 "          │            ⠉⠒⠤⣀\n"
                                 "      0.5 ┤                ⠉⠒⠤a\n"
                                 "          └────────────────────\n"
                                 "           0            step 30\n"
                                 "  a  a&<b>  0 at step 40\n";

static const char golden_svg[] =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"326\" font-family=\"sans-s"
    "erif\" font-size=\"12\">\n"
    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    "<text x=\"80\" y=\"18\" font-weight=\"bold\">loss</text>\n"
    "<path d=\"M80 250H840\" stroke=\"#ddd\"/>\n"
    "<text x=\"74\" y=\"254\" text-anchor=\"end\">0</text>\n"
    "<path d=\"M80 195H840\" stroke=\"#ddd\"/>\n"
    "<text x=\"74\" y=\"199\" text-anchor=\"end\">1</text>\n"
    "<path d=\"M80 140H840\" stroke=\"#ddd\"/>\n"
    "<text x=\"74\" y=\"144\" text-anchor=\"end\">2</text>\n"
    "<path d=\"M80 85H840\" stroke=\"#ddd\"/>\n"
    "<text x=\"74\" y=\"89\" text-anchor=\"end\">3</text>\n"
    "<path d=\"M80 30H840\" stroke=\"#ddd\"/>\n"
    "<text x=\"74\" y=\"34\" text-anchor=\"end\">4</text>\n"
    "<text x=\"80\" y=\"266\" text-anchor=\"middle\">step 0</text>\n"
    "<text x=\"270\" y=\"266\" text-anchor=\"middle\">10</text>\n"
    "<text x=\"460\" y=\"266\" text-anchor=\"middle\">20</text>\n"
    "<text x=\"650\" y=\"266\" text-anchor=\"middle\">30</text>\n"
    "<text x=\"840\" y=\"266\" text-anchor=\"middle\">40</text>\n"
    "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"#0077bb\" points=\"80.0,30.0 270.0,14"
    "0.0 460.0,195.0 650.0,222.5 840.0,250.0 \"/>\n"
    "<path d=\"M80 282h24\" stroke-width=\"3\" stroke=\"#0077bb\"/>\n"
    "<text x=\"112\" y=\"286\">a&amp;&lt;b&gt; (0 at step 40)</text>\n"
    "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"#ee7733\" points=\"270.0,85.0 840.0,8"
    "5.0 \"/>\n"
    "<path d=\"M80 300h24\" stroke-width=\"3\" stroke=\"#ee7733\"/>\n"
    "<text x=\"112\" y=\"304\">c\\u001b[2J (3 at step 40)</text>\n"
    "</svg>\n";

static struct curve_point falling[] = {{0, 4}, {10, 2}, {20, 1}, {30, 0.5}, {40, 0}};
static struct curve_point flat[] = {{10, 3}, {40, 3}};
static const struct curve curves[] = {
    {.points = falling, .count = 5}, {.points = flat, .count = 2}, {.count = 0}};

static struct chart two_lines(void)
{
    return (struct chart){
        .title = "loss", .lines = {{"a&<b>", &curves[0]}, {"c\033[2J", &curves[1]}}, .count = 2};
}

static const char *draw(const struct chart *c, int width, int height, bool colour)
{
    static struct buf out;
    const struct chart_style style = {.width = width, .height = height, .colour = colour};
    buf_done(&out);
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chart_draw(c, &style, &out), 0);
    return buf_cstr(&out);
}

START_TEST(a_picture_in_a_terminal)
{
    struct chart c = two_lines();
    ck_assert_str_eq(draw(&c, 31, 10, false), golden_text);
}
END_TEST

START_TEST(a_logarithm_leaves_out_what_has_none)
{
    struct chart c = two_lines();
    c.logarithmic = true;
    c.count = 1;
    ck_assert_str_eq(draw(&c, 31, 9, false), golden_log);
}
END_TEST

START_TEST(a_picture_fits)
{
    struct chart c = two_lines();
    for (int width = 30; width < 130; width += 7)
        for (int height = 9; height < 40; height += 3) {
            int lines = 0;
            for (const char *p = draw(&c, width, height, false); *p; lines++) {
                char line[1024];
                size_t n = strcspn(p, "\n");
                snprintf(line, sizeof line, "%.*s", (int)n, p);
                ck_assert_int_le((int)utf8_count(line), width);
                p += n + 1;
            }
            ck_assert_int_eq(lines, height);
        }
    ck_assert_ptr_nonnull(strstr(draw(&c, 40, 10, true), "\033[36m"));
    ck_assert_ptr_null(strstr(draw(&c, 40, 10, true), "\033[2J"));
}
END_TEST

START_TEST(nothing_to_show)
{
    struct chart c = {.title = "loss", .lines = {{"x", &curves[2]}}, .count = 1};
    ck_assert_str_eq(draw(&c, 40, 10, false), "loss\n  no figures\n");
}
END_TEST

START_TEST(a_picture_as_svg)
{
    buf_auto struct buf out;
    struct chart c = two_lines();
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chart_svg(&c, 1, &out), 0);
    ck_assert_str_eq(buf_cstr(&out), golden_svg);
}
END_TEST

UNIT_MAIN("chart", a_picture_in_a_terminal, a_logarithm_leaves_out_what_has_none, a_picture_fits,
    nothing_to_show, a_picture_as_svg)
