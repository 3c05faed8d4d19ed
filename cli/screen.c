/*
 * screen: the live picture and the log lines of a job. A picture is built line by line into a
 * buffer that counts columns (UTF-8 aware, escape sequences not counted), so that nothing wraps
 * whatever the terminal's width, and stops at its height. What matters most stands first: state,
 * progress, verdict, ranks, then history. It must not ask for the time: screen.now_ms is the time.
 */
#include "cli/screen.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/utf8.h"

#include <math.h>

#define BOLD   "\033[1m"
#define DIM    "\033[2m"
#define RED    "\033[31m"
#define GREEN  "\033[32m"
#define YELLOW "\033[33m"
#define CYAN   "\033[36m"
#define RESET  "\033[0m"

struct canvas {
    struct buf *out;
    const struct screen_style *style;
    int column, lines;
    bool full; /* no further line fits */
};

/* Appends text as far as the line goes; a cut line ends with an ellipsis. What comes from outside
 * must not move the cursor. */
static void put_text(struct canvas *c, const char *colour, const char *text)
{
    if (c->full)
        return;
    if (*colour && c->style->colour)
        buf_str(c->out, colour);
    size_t left = strlen(text);
    for (const char *p = text; left && c->column < c->style->width;) {
        char shown[UTF8_SHOWN_BYTES] = " ";
        size_t n = strchr("\n\r\t", *p) ? 1 : utf8_show(p, left, shown);
        int columns = (int)utf8_count(shown);
        p += n;
        left -= n;
        if (c->column + columns + (left ? 1 : 0) > c->style->width) {
            buf_str(c->out, "…");
            c->column = c->style->width;
            break;
        }
        buf_str(c->out, shown);
        c->column += columns;
    }
    if (*colour && c->style->colour)
        buf_str(c->out, RESET);
}

static void putf(struct canvas *c, const char *colour, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void putf(struct canvas *c, const char *colour, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_text(c, colour, text);
}

static void end_line(struct canvas *c)
{
    if (c->full)
        return;
    buf_char(c->out, '\n');
    c->column = 0;
    c->full = ++c->lines >= c->style->height;
}

void screen_duration(int64_t ms, char *out, size_t size)
{
    int64_t s = ms < 0 ? 0 : ms / 1000;
    if (s < 60)
        snprintf(out, size, "%ds", (int)s);
    else if (s < 3600)
        snprintf(out, size, "%dm%02ds", (int)(s / 60), (int)(s % 60));
    else if (s < 86400)
        snprintf(out, size, "%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
    else
        snprintf(out, size, "%lldd", (long long)(s / 86400));
}

int screen_sparkline(const double *values, int count, struct buf *out)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < count; i++)
        if (isfinite(values[i])) {
            low = fmin(low, values[i]);
            high = fmax(high, values[i]);
        }
    for (int i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            buf_char(out, ' ');
            continue;
        }
        double part = high > low ? (values[i] - low) / (high - low) : 0;
        buf_str(out, blocks[(int)fmin(7, part * 8)]);
    }
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}

static const char *state_colour(const char *state)
{
    static const char *const good[] = {NAME_STATE_COMPLETE, NAME_REASON_RUNNING,
        NAME_REASON_TRAINING, NAME_REASON_SERVING, NAME_REASON_CONVERTING, NAME_REASON_SEARCHING,
        NAME_REASON_EVALUATING};
    if (!strcmp(state, NAME_STATE_FAILED))
        return BOLD RED;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!strcmp(state, good[i]))
            return BOLD GREEN;
    return BOLD YELLOW;
}

static void clock_of_day(int64_t wall_ms, char *out, size_t size)
{
    char stamp[32];
    clock_format(wall_ms, stamp, sizeof stamp);
    snprintf(out, size, "%.8s", strlen(stamp) > 11 ? stamp + 11 : stamp);
}

static void draw_head(struct canvas *c, const struct screen *s)
{
    const struct report *r = &s->report;
    put_text(c, BOLD CYAN, s->name);
    if (*s->namespace_)
        putf(c, DIM, " in %s", s->namespace_);
    putf(c, "", "  %s  ", s->task);
    put_text(c, state_colour(s->state), s->state);
    putf(c, "", "  %d/%d %s", s->ready, s->replicas, s->searches ? "trials over" : "ready");
    if (*s->layout)
        putf(c, "", "  layout %s", s->layout);
    if (r->memory_per_rank_bytes)
        putf(c, DIM, "  %lld MiB a rank", (long long)(r->memory_per_rank_bytes >> 20));
    if (r->restarts)
        putf(c, YELLOW, "  %d restart%s", r->restarts, r->restarts == 1 ? "" : "s");
    end_line(c);
    if (*r->layout_reason) {
        putf(c, DIM, "layout chosen: %s", r->layout_reason);
        end_line(c);
    }
    if (*r->layout_balance) {
        putf(c, DIM, "by measured speed: %s", r->layout_balance);
        end_line(c);
    }
    if (*s->why) {
        put_text(c, "", s->why);
        end_line(c);
    }
    if (*r->serve_address) {
        putf(c, BOLD, "http://%s/v1", r->serve_address);
        end_line(c);
    }
}

static void draw_bar(struct canvas *c, double part)
{
    int width = c->style->width / 3;
    int full = (int)(fmin(1, fmax(0, part)) * width);
    for (int i = 0; i < width; i++)
        put_text(c, i < full ? GREEN : DIM, i < full ? "█" : "░");
}

static void draw_progress(struct canvas *c, const struct screen *s)
{
    const struct report *r = &s->report;
    char text[32];
    if (r->steps <= 0)
        return;
    putf(c, "", "step  %5lld/%lld  ", (long long)r->step, (long long)r->steps);
    draw_bar(c, (double)r->step / (double)r->steps);
    putf(c, "", " %3d%%", (int)(100 * r->step / r->steps));
    if (r->eta_seconds > 0 && r->step < r->steps) {
        screen_duration(r->eta_seconds * 1000, text, sizeof text);
        putf(c, DIM, "  %s left", text);
    }
    end_line(c);
    if (isfinite(r->loss)) {
        buf_auto struct buf spark;
        buf_init(&spark, 1024);
        screen_sparkline(r->loss_history, r->loss_history_count, &spark);
        putf(c, BOLD, "loss  %.4f", r->loss);
        if (isfinite(r->first_loss))
            putf(c, DIM, "  from %.4f", r->first_loss);
        putf(c, CYAN, "  %s", buf_cstr(&spark));
        end_line(c);
    }
    if (isfinite(r->validation_loss)) {
        putf(c, "", "valid %.4f", r->validation_loss);
        if (isfinite(r->first_validation_loss))
            putf(c, DIM, "  from %.4f", r->first_validation_loss);
        if (isfinite(r->validation_f1))
            putf(c, BOLD, "  f1 %.4f", r->validation_f1);
        if (isfinite(r->validation_match))
            putf(c, BOLD, "  match %.4f", r->validation_match);
        end_line(c);
    }
    if (r->tokens_per_second > 0)
        putf(c, "", "rate  %.0f tokens/s  ", r->tokens_per_second);
    if (r->tokens > 0)
        putf(c, DIM, "%lld tokens  ", (long long)r->tokens);
    if (isfinite(r->loss_scale))
        putf(c, DIM, "loss scale %.0f, %lld skipped  ", r->loss_scale, (long long)r->skipped);
    if (r->checkpoint_step >= 0) {
        screen_duration(s->now_ms - r->checkpoint_ms, text, sizeof text);
        putf(c, "", "checkpoint at step %lld, %s ago", (long long)r->checkpoint_step, text);
    }
    end_line(c);
}

static void draw_verdict(struct canvas *c, const struct screen *s)
{
    const struct verdict *v = &s->report.verdict;
    char since[32];
    if (!*v->kind)
        return;
    screen_duration(s->now_ms - v->since_ms, since, sizeof since);
    putf(c, BOLD RED, "%s for %s: %s", v->kind, since, v->message);
    end_line(c);
}

static void draw_ranks(struct canvas *c, const struct screen *s)
{
    const struct report *r = &s->report;
    if (!r->rank_row_count)
        return;
    /* History below needs some lines: of many ranks the first are shown. */
    int room = c->style->height - c->lines - 8, shown = r->rank_row_count;
    if (shown > room)
        shown = room > 1 ? room : 1;
    end_line(c);
    putf(c, DIM, "%5s %7s  %-20s %-12s %8s", "RANK", "REPLICA", "NODE", "PHASE", "STEP");
    end_line(c);
    for (int i = 0; i < shown; i++) {
        const struct report_rank *k = &r->rank_rows[i];
        putf(c, "", "%5d %7d  %-20.20s ", k->rank, k->replica, k->node);
        putf(c, CYAN, "%-12.12s", k->phase);
        putf(c, "", " %8lld", (long long)k->step);
        if (k->share)
            putf(c, "", "  %lld of a step's sequences", (long long)k->share);
        if (k->silent_ms >= 5000)
            putf(c, YELLOW, "  silent for %ds", (int)(k->silent_ms / 1000));
        end_line(c);
    }
    if (shown < r->rank_row_count) {
        putf(c, DIM, "      and %d more", r->rank_row_count - shown);
        end_line(c);
    }
}

/* The newest, and the best in any case. */
static void draw_trials(struct canvas *c, const struct screen *s)
{
    int room = c->style->height - c->lines - 8, shown = 0;
    if (!s->trial_count)
        return;
    end_line(c);
    putf(c, DIM, "%5s %4s  %-10s %12s  %s", "TRIAL", "RUNG", "STATE", "VALUE", "PARAMETERS");
    end_line(c);
    int first = s->trial_count > room ? s->trial_count - (room > 1 ? room : 1) : 0;
    for (int i = 0; i < s->trial_count; i++) {
        const struct screen_trial *t = &s->trials[i];
        bool best = t->index == s->trial_best;
        char value[32] = "";
        if (i < first && !best)
            continue;
        if (isfinite(t->value))
            snprintf(value, sizeof value, "%.4f", t->value);
        putf(c, best ? BOLD GREEN : "", "%5d %4d  %-10.10s %12s  %s", t->index, t->rung, t->state,
            value, t->parameters);
        end_line(c);
        shown++;
    }
    if (shown < s->trial_count) {
        putf(c, DIM, "      and %d more", s->trial_count - shown);
        end_line(c);
    }
}

static void describe_attempt(const struct attempt *a, char *out, size_t size)
{
    char where[96] = "", lost[48] = "";
    if (a->replica >= 0 && a->rank >= 0)
        snprintf(where, sizeof where, " of rank %d on %.60s", a->rank, a->node);
    else if (a->replica >= 0)
        snprintf(where, sizeof where, " of replica %d on %.60s", a->replica, a->node);
    if (a->steps_lost > 0)
        snprintf(lost, sizeof lost, ", %lld lost", (long long)a->steps_lost);
    if (!a->ended_ms)
        snprintf(out, size, "world %lld runs", (long long)a->number);
    else
        snprintf(out, size, "world %lld ended at step %lld%s: %.60s%s", (long long)a->number,
            (long long)a->step, lost, a->cause, where);
}

static void draw_attempts(struct canvas *c, const struct screen *s)
{
    const struct report *r = &s->report;
    int first = r->attempt_count > 5 ? r->attempt_count - 5 : 0;
    if (!r->attempt_count)
        return;
    end_line(c);
    for (int i = first; i < r->attempt_count; i++) {
        const struct attempt *a = &r->attempts[i];
        char text[320], when[16];
        clock_of_day(a->ended_ms ? a->ended_ms : a->started_ms, when, sizeof when);
        describe_attempt(a, text, sizeof text);
        putf(c, DIM, "%s  ", when);
        put_text(c,
            a->ended_ms && strcmp(a->exit_class, "none") != 0 && *a->exit_class ? YELLOW : "",
            text);
        end_line(c);
    }
}

static void draw_events(struct canvas *c, const struct screen *s)
{
    int room = c->style->height - c->lines - 2 - (*s->hint ? 1 : 0);
    int first = s->event_count > room ? s->event_count - room : 0;
    if (!s->event_count || room <= 0)
        return;
    end_line(c);
    for (int i = first; i < s->event_count; i++) {
        const struct screen_event *v = &s->events[i];
        char when[16];
        clock_of_day(v->ms, when, sizeof when);
        putf(c, DIM, "%s  ", when);
        putf(c, v->warning ? YELLOW : GREEN, "%-16.40s ", v->reason);
        put_text(c, "", v->message);
        if (v->count > 1)
            putf(c, DIM, " (%d times)", v->count);
        end_line(c);
    }
}

int screen_draw(const struct screen *s, const struct screen_style *style, struct buf *out)
{
    struct canvas c = {.out = out, .style = style};
    draw_head(&c, s);
    draw_progress(&c, s);
    draw_verdict(&c, s);
    draw_ranks(&c, s);
    draw_trials(&c, s);
    draw_attempts(&c, s);
    draw_events(&c, s);
    if (*s->hint && !c.full) {
        end_line(&c);
        put_text(&c, DIM, s->hint);
        end_line(&c);
    }
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}

/* -- lines for a log -- */

static void tell_line(const struct screen *s, struct buf *out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void tell_line(const struct screen *s, struct buf *out, const char *fmt, ...)
{
    char when[16], text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clock_of_day(s->now_ms, when, sizeof when);
    buf_printf(out, "%s  ", when);
    for (const char *p = text; *p;) {
        char shown[UTF8_SHOWN_BYTES] = " ";
        p += strchr("\n\r\t", *p) ? 1 : utf8_show(p, strlen(p), shown);
        buf_str(out, shown);
    }
    buf_char(out, '\n');
}

static bool note_change(char *told, size_t size, const char *now)
{
    if (!strncmp(told, now, size - 1))
        return false;
    snprintf(told, size, "%s", now);
    return true;
}

static void tell_state(const struct screen *s, struct screen_told *t, struct buf *out)
{
    bool state = note_change(t->state, sizeof t->state, s->state);
    bool why = note_change(t->why, sizeof t->why, s->why);
    bool layout = note_change(t->layout, sizeof t->layout, s->layout);
    bool pods = !t->began || t->ready != s->ready || t->replicas != s->replicas;
    t->ready = s->ready;
    t->replicas = s->replicas;
    if (state || layout || pods)
        tell_line(s, out, "%s %s: %s, %d/%d %s%s%s", s->task, s->name, s->state, s->ready,
            s->replicas, s->searches ? "trials over" : "ready", *s->layout ? ", layout " : "",
            s->layout);
    if ((state || why) && *s->why)
        tell_line(s, out, "%s", s->why);
    if (note_change(t->layout_reason, sizeof t->layout_reason, s->report.layout_reason) &&
        *t->layout_reason)
        tell_line(s, out, "layout chosen: %s", t->layout_reason);
    if (note_change(t->layout_balance, sizeof t->layout_balance, s->report.layout_balance) &&
        *t->layout_balance)
        tell_line(s, out, "by measured speed: %s", t->layout_balance);
    if (note_change(t->address, sizeof t->address, s->report.serve_address) && *t->address)
        tell_line(s, out, "serving at http://%s/v1", t->address);
}

static void tell_attempts(const struct screen *s, struct screen_told *t, struct buf *out)
{
    for (int i = 0; i < s->report.attempt_count; i++) {
        const struct attempt *a = &s->report.attempts[i];
        bool begun = a->number > t->attempt, ended = a->ended_ms && a->number > t->ended;
        char text[320];
        describe_attempt(a, text, sizeof text);
        if (begun || ended)
            tell_line(s, out, "%s", text);
        t->attempt = begun ? a->number : t->attempt;
        t->ended = ended ? a->number : t->ended;
    }
}

static void tell_progress(const struct screen *s, struct screen_told *t, struct buf *out)
{
    const struct report *r = &s->report;
    char loss[48] = "", rate[48] = "", skipped[48] = "";
    bool last = r->step == r->steps;
    if (r->steps > 0 && r->step != t->step && (last || s->now_ms - t->step_ms >= 2000)) {
        if (isfinite(r->loss))
            snprintf(loss, sizeof loss, "  loss %.4f", r->loss);
        if (r->tokens_per_second > 0)
            snprintf(rate, sizeof rate, "  %.0f tokens/s", r->tokens_per_second);
        if (isfinite(r->loss_scale) && r->skipped)
            snprintf(skipped, sizeof skipped, "  %lld skipped", (long long)r->skipped);
        tell_line(s, out, "step %lld/%lld%s%s%s", (long long)r->step, (long long)r->steps, loss,
            rate, skipped);
        t->step = r->step;
        t->step_ms = s->now_ms;
    }
    if (isfinite(r->validation_loss) && r->validation_loss != t->validation_loss) {
        char score[48] = "";
        if (isfinite(r->validation_f1))
            snprintf(score, sizeof score, "  f1 %.4f", r->validation_f1);
        if (isfinite(r->validation_match))
            snprintf(score, sizeof score, "  match %.4f", r->validation_match);
        tell_line(s, out, "validation loss %.4f%s", r->validation_loss, score);
        t->validation_loss = r->validation_loss;
    }
    if (r->checkpoint_step > t->checkpoint_step) {
        tell_line(s, out, "checkpoint at step %lld in %s", (long long)r->checkpoint_step,
            r->checkpoint_path);
        t->checkpoint_step = r->checkpoint_step;
    }
    if (strcmp(r->checkpoint_damaged, t->damaged) != 0) {
        tell_line(s, out,
            "a checkpoint could not be read and the one before it was taken; it is "
            "kept as %s; what is kept so takes %lld MiB",
            r->checkpoint_damaged, (long long)r->damaged_bytes >> 20);
        snprintf(t->damaged, sizeof t->damaged, "%s", r->checkpoint_damaged);
    }
    if (*r->verdict.kind && r->verdict.since_ms != t->verdict_ms) {
        tell_line(s, out, "%s: %s", r->verdict.kind, r->verdict.message);
        t->verdict_ms = r->verdict.since_ms;
    }
}

/* Of a job whose report is read here; the other's Events tell of them. */
static void tell_alerts(const struct screen *s, struct screen_told *t, struct buf *out)
{
    for (int i = 0; i < s->report.alert_count && i < LIMIT_ALERTS; i++) {
        const struct report_alert *a = &s->report.alerts[i];
        if (a->fired_ms > t->fired_ms[i])
            tell_line(s, out, NAME_REASON_ALERT_FIRING ": alert %s", a->name);
        if (a->resolved_ms > t->resolved_ms[i])
            tell_line(s, out, NAME_REASON_ALERT_RESOLVED ": alert %s", a->name);
        t->fired_ms[i] = a->fired_ms;
        t->resolved_ms[i] = a->resolved_ms;
    }
}

/* Events have whole seconds and come again with a greater count, so they are known by all they
 * hold. */
static uint64_t event_hash(const struct screen_event *v)
{
    uint64_t h = HASH_START ^ (uint64_t)v->ms ^ (uint64_t)v->count << 48;
    h = hash_bytes(h, v->reason, strlen(v->reason));
    return hash_bytes(h, v->message, strlen(v->message));
}

static void tell_events(const struct screen *s, struct screen_told *t, struct buf *out)
{
    const unsigned size = sizeof t->events / sizeof *t->events;
    for (int i = 0; i < s->event_count; i++) {
        const struct screen_event *v = &s->events[i];
        uint64_t hash = event_hash(v);
        bool known = false;
        for (unsigned k = 0; k < size && !known; k++)
            known = t->events[k] == hash;
        if (known)
            continue;
        tell_line(s, out, "%s: %s", v->reason, v->message);
        t->events[t->event_next++ % size] = hash;
    }
}

int screen_tell(const struct screen *s, struct screen_told *told, struct buf *out)
{
    tell_state(s, told, out);
    tell_attempts(s, told, out);
    tell_progress(s, told, out);
    tell_alerts(s, told, out);
    tell_events(s, told, out);
    told->began = true;
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}
