/*
 * plot: the command that draws the curves of trainings, from the metrics.jsonl beside their
 * checkpoints: a chart a metric, a line a training. A folder of trials (spec.search) stands for all
 * of them. It reads, and writes the file of --svg alone.
 */
#include "base/io.h"
#include "base/mem.h"
#include "cli/chart.h"
#include "cli/command.h"
#include "cli/curves.h"
#include "cli/terminal.h"

#include "api/limits.h"
#include "api/names.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#define PICTURE_BYTES ((size_t)64 << 20)

struct plot_conf {
    const char *metrics, *svg;
    int64_t width, height;
    bool logarithmic;
};

static const struct conf_item plot_items[] = {
    {"metric", CONF_STR, offsetof(struct plot_conf, metrics), NULL, "loss,validationLoss",
        "what to draw: loss, validationLoss, validationF1, validationMatch, learningRate, "
        "gradientNorm, tokensPerSecond"},
    {"svg", CONF_STR, offsetof(struct plot_conf, svg), NULL, "", "write the charts to this file"},
    {"width", CONF_INT, offsetof(struct plot_conf, width), NULL, "0",
        "columns; 0: the terminal's, or 100"},
    {"height", CONF_INT, offsetof(struct plot_conf, height), NULL, "0",
        "lines of a chart; 0: the terminal's, but 20 at most"},
    {"log", CONF_BOOL, offsetof(struct plot_conf, logarithmic), NULL, NULL,
        "the logarithm of what is drawn"},
    {0},
};

struct plot {
    struct plot_conf conf;
    char names[CHART_LINES][LIMIT_PATH_BYTES];
    struct curves runs[CHART_LINES];
    int count;
    struct chart charts[CURVE_KINDS];
    int chart_count;
};

static bool has_metrics(const char *folder)
{
    char path[LIMIT_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/" NAME_METRICS_FILE, folder);
    return !access(path, F_OK);
}

static int add_run(struct plot *p, const char *path, struct err *e)
{
    if (p->count == CHART_LINES)
        return err_set(e, ERR_USER, "%.80s: more than %d trainings", path, CHART_LINES);
    if (snprintf(p->names[p->count], LIMIT_PATH_BYTES, "%s", path) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_USER, "%.60s...: path too long", path);
    int rc = curves_read(path, &p->runs[p->count], e);
    p->count += !rc;
    return rc;
}

static int is_trial(const struct dirent *f)
{
    return *f->d_name == 't' && f->d_name[1] >= '0' && f->d_name[1] <= '9';
}

/* Those that have begun, in order of their numbers. */
static int add_trials(struct plot *p, const char *folder, struct err *e)
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, is_trial, versionsort), rc = 0, before = p->count;
    if (n < 0)
        return err_sys(e, ERR_USER, errno, "%s", folder);
    for (int i = 0; i < n; i++) {
        char path[LIMIT_PATH_BYTES];
        bool fits =
            snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name) < (int)sizeof path;
        if (!rc && fits && has_metrics(path))
            rc = add_run(p, path, e);
        free(names[i]);
    }
    free(names);
    if (!rc && p->count == before)
        rc = err_set(e, ERR_USER, "%s: no " NAME_METRICS_FILE, folder);
    return rc;
}

static int add_operand(struct plot *p, const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return err_sys(e, ERR_USER, errno, "%s", path);
    return S_ISDIR(st.st_mode) && !has_metrics(path) ? add_trials(p, path, e) : add_run(p, path, e);
}

static int kind_of(const char *name, size_t n)
{
    for (int i = 0; i < CURVE_KINDS; i++)
        if (strlen(curves_name((enum curve_kind)i)) == n &&
            !strncmp(curves_name((enum curve_kind)i), name, n))
            return i;
    return -1;
}

/* What no training has told is left out, unless it was all that was asked for. */
static int make_charts(struct plot *p, struct err *e)
{
    for (const char *at = p->conf.metrics; *at;) {
        size_t n = strcspn(at, ",");
        int kind = kind_of(at, n);
        if (kind < 0 || p->chart_count == CURVE_KINDS)
            return err_set(e, ERR_USER, "--metric: %.*s is none, or one too many", (int)n, at);
        struct chart *c = &p->charts[p->chart_count];
        *c = (struct chart){
            .title = curves_name((enum curve_kind)kind), .logarithmic = p->conf.logarithmic};
        for (int i = 0; i < p->count; i++)
            if (p->runs[i].of[kind].count)
                c->lines[c->count++] = (struct chart_line){p->names[i], &p->runs[i].of[kind]};
        at += n + (at[n] == ',');
        p->chart_count += c->count > 0;
    }
    return p->chart_count ? 0 : err_set(e, ERR_DATA, "no figures of %s", p->conf.metrics);
}

static int print_charts(struct plot *p, struct err *e)
{
    struct terminal t;
    buf_auto struct buf text;
    terminal_init(&t, STDOUT_FILENO, false);
    struct chart_style style = {
        .width = t.style.width, .height = t.style.height, .colour = t.style.colour};
    if (style.height > 20)
        style.height = 20;
    if (p->conf.width)
        style.width = (int)p->conf.width;
    if (p->conf.height)
        style.height = (int)p->conf.height;
    buf_init(&text, PICTURE_BYTES);
    for (int i = 0; i < p->chart_count; i++)
        if (chart_draw(&p->charts[i], &style, &text))
            return err_set(e, ERR_MEMORY, "out of memory drawing");
    fputs(buf_cstr(&text), stdout);
    return 0;
}

static int write_svg(struct plot *p, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, PICTURE_BYTES);
    if (chart_svg(p->charts, p->chart_count, &text))
        return err_set(e, ERR_MEMORY, "out of memory drawing");
    return io_write_file(p->conf.svg, text.data, text.len, 0644, e);
}

static int check_size(const struct plot_conf *c, struct err *e)
{
    if (c->width && (c->width < 30 || c->width > 1000))
        return err_set(e, ERR_USER, "--width: wanted 30 to 1000");
    if (c->height && (c->height < 8 || c->height > 1000))
        return err_set(e, ERR_USER, "--height: wanted 8 to 1000");
    return 0;
}

int command_plot(int argc, char **argv, int *status, struct err *e)
{
    mem_autofree struct plot *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "out of memory");
    argv[0] = (char *)"llmjob plot [flags] RUN...\n\n"
                      "Draws the curves of trainings. RUN is a folder of checkpoints "
                      "(spec.checkpoint.path),\nwhich holds a " NAME_METRICS_FILE
                      ", or one of a search, which holds its trials.";
    *status = 0;
    int first = conf_load(plot_items, argc, argv, &p->conf, e);
    if (first <= 0)
        return first;
    int rc = first < argc ? check_size(&p->conf, e) : err_set(e, ERR_USER, "no folder given");
    for (int i = first; i < argc && !rc; i++)
        rc = add_operand(p, argv[i], e);
    if (!rc && !(rc = make_charts(p, e)))
        rc = *p->conf.svg ? write_svg(p, e) : print_charts(p, e);
    for (int i = 0; i < p->count; i++)
        curves_free(&p->runs[i]);
    return rc;
}
