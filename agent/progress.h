/*
 * progress: what rank 0 says about the training, kept across incarnations: step, losses, rate,
 * checkpoint, and the thinned loss history of the report. Pure: the payload of a frame and the time
 * in, fields out. The coordinator feeds it; agent/world.c asks it for the median step and the steps
 * that a restart lost.
 */
#ifndef AGENT_PROGRESS_H
#define AGENT_PROGRESS_H

#include "base/json.h"
#include "api/limits.h"
#include "api/report.h"

#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_STEP_TIMES 16

struct progress {
    int64_t step, steps, tokens, held_out;
    double loss, first_loss, validation_loss, first_validation_loss, validation_f1,
        validation_match;
    double tokens_per_second;
    double loss_scale; /* of FP16; NaN: none */
    int64_t skipped;   /* steps, by that */
    int64_t last_step_wall_ms,
        last_step_ms;                     /* the second is monotonic, 0: none in this incarnation */
    int64_t step_ms[PROGRESS_STEP_TIMES]; /* durations of the newest steps, a ring */
    int step_count;
    double history[LIMIT_LOSS_HISTORY];
    int64_t history_step[LIMIT_LOSS_HISTORY];
    int history_count;
    int64_t history_stride; /* steps between kept points; doubles when the history is full */
    int64_t checkpoint_step, checkpoint_wall_ms;
    char checkpoint_path[LIMIT_PATH_BYTES];
    char checkpoint_damaged[LIMIT_NAME_BYTES]; /* folder of the newest that was passed over */
    int64_t damaged_bytes;                     /* of all that were */
    char checkpoint_in_memory[LIMIT_REASON_BYTES];
    int64_t memory_bytes, resumed_step, zero_stage;
    int64_t tensor, pipeline; /* 0: none was told */
    char layout_reason[LIMIT_REASON_BYTES], layout_balance[LIMIT_REASON_BYTES];
};

void progress_init(struct progress *p);
void progress_incarnation(struct progress *p); /* ranks start anew: step durations begin again */
void progress_loaded(struct progress *p, const struct json *payload);
void progress_step(struct progress *p, const struct json *payload, int64_t now_ms, int64_t wall_ms);
void progress_evaluated(struct progress *p, const struct json *payload);
void progress_balanced(struct progress *p, const struct json *payload);
void progress_saved(struct progress *p, const struct json *payload, int64_t wall_ms);
int64_t progress_median_step_ms(const struct progress *p);        /* 0: unknown */
void progress_report(const struct progress *p, struct report *r); /* borrows p */
/* After a restart of the agent: what its last report knew. */
void progress_recover(struct progress *p, const struct report *r);

#endif
