/*
 * progress: after a restart steps repeat: the history forgets what lies beyond the
 * checkpoint that the new incarnation resumed from, so the curve that a person sees is the curve of
 * the model that lives.
 */
#include "agent/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void progress_init(struct progress *p)
{
    *p = (struct progress){.loss = NAN,
        .first_loss = NAN,
        .validation_loss = NAN,
        .first_validation_loss = NAN,
        .validation_f1 = NAN,
        .validation_match = NAN,
        .loss_scale = NAN,
        .history_stride = 1,
        .checkpoint_step = -1,
        .resumed_step = 0};
}

void progress_incarnation(struct progress *p)
{
    p->last_step_ms = 0;
    p->step_count = 0;
    p->tokens_per_second = 0;
    p->tensor = p->pipeline = p->zero_stage = 0; /* not known until it has loaded */
    p->layout_reason[0] = p->layout_balance[0] = 0;
}

void progress_loaded(struct progress *p, const struct json *payload)
{
    int64_t memory = json_int(payload, "memory_bytes", 0);
    if (memory > p->memory_bytes)
        p->memory_bytes = memory;
    p->steps = json_int(payload, "steps", p->steps);
    p->tensor = json_int(payload, "tensor", 0);
    p->pipeline = json_int(payload, "pipeline", 0);
    p->zero_stage = json_int(payload, "zero_stage", 0);
    snprintf(
        p->layout_reason, sizeof p->layout_reason, "%s", json_str(payload, "layout_reason", ""));
    p->held_out = json_int(payload, "held_out", 0);
    p->resumed_step = json_int(payload, "resumed_step", 0);
    p->step = p->resumed_step;
    const char *damaged = json_str(payload, "damaged", "");
    if (*damaged)
        snprintf(p->checkpoint_damaged, sizeof p->checkpoint_damaged, "%s", damaged);
    p->damaged_bytes = json_int(payload, "damaged_bytes", 0);
    snprintf(p->checkpoint_in_memory, sizeof p->checkpoint_in_memory, "%s",
        json_str(payload, "copies", ""));
    while (p->history_count && p->history_step[p->history_count - 1] > p->resumed_step)
        p->history_count--;
}

static void keep_point(struct progress *p)
{
    int n = p->history_count;
    if (n && p->step < p->history_step[n - 1] + p->history_stride)
        return;
    if (n == LIMIT_LOSS_HISTORY) {
        for (int i = 0; i < n / 2; i++) {
            p->history[i] = p->history[2 * i];
            p->history_step[i] = p->history_step[2 * i];
        }
        n /= 2;
        p->history_stride *= 2;
    }
    p->history[n] = p->loss;
    p->history_step[n] = p->step;
    p->history_count = n + 1;
}

void progress_step(struct progress *p, const struct json *payload, int64_t now_ms, int64_t wall_ms)
{
    p->step = json_int(payload, "step", p->step);
    p->loss = json_num(payload, "loss", NAN);
    if (isnan(p->first_loss))
        p->first_loss = p->loss;
    p->tokens = json_int(payload, "tokens", p->tokens);
    p->tokens_per_second = json_num(payload, "tokens_per_second", 0);
    p->loss_scale = json_num(payload, "loss_scale", NAN);
    p->skipped = json_int(payload, "skipped_steps", 0);
    /* Several frames may come at once: the rank knows best how long a step took. */
    double seconds = json_num(payload, "seconds", 0);
    if (p->last_step_ms)
        p->step_ms[p->step_count++ % PROGRESS_STEP_TIMES] =
            seconds > 0 ? (int64_t)(seconds * 1000) : now_ms - p->last_step_ms;
    p->last_step_ms = now_ms;
    p->last_step_wall_ms = wall_ms;
    if (!isnan(p->loss))
        keep_point(p);
}

void progress_evaluated(struct progress *p, const struct json *payload)
{
    p->validation_loss = json_num(payload, "loss", NAN);
    p->validation_f1 = json_num(payload, "f1", NAN);
    p->validation_match = json_num(payload, "match", NAN);
    if (isnan(p->first_validation_loss))
        p->first_validation_loss = p->validation_loss;
}

void progress_balanced(struct progress *p, const struct json *payload)
{
    snprintf(p->layout_balance, sizeof p->layout_balance, "%s", json_str(payload, "text", ""));
}

void progress_saved(struct progress *p, const struct json *payload, int64_t wall_ms)
{
    p->checkpoint_step = json_int(payload, "step", p->checkpoint_step);
    p->checkpoint_wall_ms = wall_ms;
    snprintf(p->checkpoint_path, sizeof p->checkpoint_path, "%s", json_str(payload, "path", ""));
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t progress_median_step_ms(const struct progress *p)
{
    int n = p->step_count < PROGRESS_STEP_TIMES ? p->step_count : PROGRESS_STEP_TIMES;
    if (!n)
        return 0;
    int64_t sorted[PROGRESS_STEP_TIMES];
    memcpy(sorted, p->step_ms, sizeof *sorted * (size_t)n);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[n / 2];
}

void progress_report(const struct progress *p, struct report *r)
{
    int64_t median_ms = progress_median_step_ms(p);
    r->step = p->step;
    r->steps = p->steps;
    r->tokens = p->tokens;
    r->held_out = p->held_out;
    r->loss = p->loss;
    r->first_loss = p->first_loss;
    r->validation_loss = p->validation_loss;
    r->first_validation_loss = p->first_validation_loss;
    r->validation_f1 = p->validation_f1;
    r->validation_match = p->validation_match;
    r->tokens_per_second = p->tokens_per_second;
    r->loss_scale = p->loss_scale;
    r->skipped = p->skipped;
    r->last_step_ms = p->last_step_wall_ms;
    r->eta_seconds = median_ms && p->steps > p->step ? (p->steps - p->step) * median_ms / 1000 : -1;
    memcpy(r->loss_history, p->history, sizeof r->loss_history);
    r->loss_history_count = p->history_count;
    r->checkpoint_step = p->checkpoint_step;
    r->checkpoint_ms = p->checkpoint_wall_ms;
    r->checkpoint_path = p->checkpoint_path;
    r->checkpoint_damaged = p->checkpoint_damaged;
    r->damaged_bytes = p->damaged_bytes;
    r->checkpoint_in_memory = p->checkpoint_in_memory;
    r->memory_per_rank_bytes = p->memory_bytes;
    r->zero_stage = (int)p->zero_stage;
    r->layout_reason = p->layout_reason;
    r->layout_balance = p->layout_balance;
    int64_t told = (int64_t)(r->expert > 1 ? r->expert : 1) * (r->context > 1 ? r->context : 1);
    int64_t together = p->tensor * p->pipeline * told;
    if (together < 1 || r->ranks % together)
        return;
    r->tensor = (int)p->tensor;
    r->pipeline = (int)p->pipeline;
    r->data_parallel = (int)(r->ranks / together);
}

void progress_recover(struct progress *p, const struct report *r)
{
    p->step = r->step;
    p->steps = r->steps;
    p->tokens = r->tokens;
    p->held_out = r->held_out;
    p->loss = r->loss;
    p->first_loss = r->first_loss;
    p->validation_loss = r->validation_loss;
    p->first_validation_loss = r->first_validation_loss;
    p->validation_f1 = r->validation_f1;
    p->validation_match = r->validation_match;
    p->loss_scale = r->loss_scale;
    p->skipped = r->skipped;
    p->last_step_wall_ms = r->last_step_ms;
    p->checkpoint_step = r->checkpoint_step;
    p->checkpoint_wall_ms = r->checkpoint_ms;
    snprintf(p->checkpoint_path, sizeof p->checkpoint_path, "%s", r->checkpoint_path);
    snprintf(p->checkpoint_damaged, sizeof p->checkpoint_damaged, "%s", r->checkpoint_damaged);
    p->damaged_bytes = r->damaged_bytes;
    snprintf(
        p->checkpoint_in_memory, sizeof p->checkpoint_in_memory, "%s", r->checkpoint_in_memory);
    int n = r->loss_history_count;
    int64_t stride = n > 1 && r->step > n ? r->step / n : 1;
    for (int i = 0; i < n; i++) {
        p->history[i] = r->loss_history[i];
        p->history_step[i] = (i + 1) * stride; /* the report does not say: spread evenly */
    }
    p->history_count = n;
    p->history_stride = stride;
}
