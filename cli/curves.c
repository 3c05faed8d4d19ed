/*
 * curves: one pass over the lines; a curve is cut back when a line goes back in steps. Beyond
 * reading the file it touches nothing.
 */
#include "cli/curves.h"

#include "api/limits.h"
#include "api/names.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <sys/stat.h>

#define FILE_BYTES ((size_t)256 << 20)

static const char *const names[CURVE_KINDS] = {"loss", "validationLoss", "validationF1",
    "validationMatch", "learningRate", "gradientNorm", "tokensPerSecond"};

const char *curves_name(enum curve_kind k)
{
    return names[k];
}

void curves_free(struct curves *m)
{
    for (int i = 0; i < CURVE_KINDS; i++)
        mem_free(m->of[i].points);
    *m = (struct curves){0};
}

double curves_last(const struct curves *m, enum curve_kind k)
{
    const struct curve *c = &m->of[k];
    return c->count ? c->points[c->count - 1].value : NAN;
}

static int add_point(struct curve *c, double step, double value, struct err *e)
{
    while (c->count && c->points[c->count - 1].step >= step)
        c->count--;
    if (c->count == c->room) {
        size_t room = c->room ? c->room * 2 : 256;
        struct curve_point *points = mem_grow(c->points, room, sizeof *points);
        if (!points)
            return err_set(e, ERR_MEMORY, "out of memory reading " NAME_METRICS_FILE);
        c->points = points;
        c->room = room;
    }
    c->points[c->count++] = (struct curve_point){step, value};
    return 0;
}

static int add_line(struct curves *m, const char *line, size_t len, struct err *e)
{
    json_auto struct json *v = NULL;
    struct err why = {.text = ""};
    int rc = len ? json_parse(line, len, &v, &why) : 0;
    if (rc == -ERR_MEMORY)
        return err_set(e, ERR_MEMORY, "out of memory reading " NAME_METRICS_FILE);
    double step = json_num(v, "step", NAN);
    for (int i = 0; i < CURVE_KINDS && step >= 0; i++) {
        double value = json_num(v, names[i], NAN);
        if (isfinite(value) && (rc = add_point(&m->of[i], step, value, e)))
            return rc;
    }
    return 0;
}

static int read_lines(const char *text, size_t len, struct curves *m, struct err *e)
{
    int rc = 0;
    for (const char *end = text + len; text < end && !rc;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        rc = add_line(m, text, (size_t)(stop - text), e);
        text = stop + 1;
    }
    return rc;
}

int curves_read(const char *path, struct curves *out, struct err *e)
{
    struct stat st;
    char file[LIMIT_PATH_BYTES + 32];
    bool folder = !stat(path, &st) && S_ISDIR(st.st_mode);
    if (snprintf(file, sizeof file, "%s%s", path, folder ? "/" NAME_METRICS_FILE : "") >=
        (int)sizeof file)
        return err_set(e, ERR_USER, "%.60s...: path too long", path);
    buf_auto struct buf text;
    buf_init(&text, FILE_BYTES + 1);
    int rc = io_read_file(file, FILE_BYTES, &text, e);
    if (rc)
        return rc;
    struct curves m = {0};
    rc = read_lines(buf_cstr(&text), text.len, &m, e);
    size_t points = 0;
    for (int i = 0; i < CURVE_KINDS; i++)
        points += m.of[i].count;
    if (!rc && !points)
        rc = err_set(e, ERR_DATA, "%s: no step in it", file);
    if (rc) {
        curves_free(&m);
        return rc;
    }
    *out = m;
    return 0;
}
