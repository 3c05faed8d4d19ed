/*
 * status: the status of an LLMJob as a struct, and its encodings.
 *
 * Decoding is lenient: a status that someone else has damaged reads as empty and is written anew. A
 * condition that is not the controller's is kept. Decoded strings live in the arena; optional
 * strings are NULL when absent, numbers NaN or -1, times 0.
 */
#ifndef CONTROLLER_PLAN_STATUS_H
#define CONTROLLER_PLAN_STATUS_H

#include "api/report.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define STATUS_CONDITIONS 16
#define STATUS_TRIALS     512 /* rows of the table: SEARCH_RUNS */

struct condition {
    const char *type, *status, *reason, *message;
    int64_t generation, transition_ms;
};

struct status_alert { /* of streams that are watched */
    const char *name, *state;
    int64_t fired_ms, resolved_ms;
    const char *message; /* or NULL */
};

struct status_trial { /* a run of a search */
    int index, rung;
    const char *state, *parameters;
    double value;
};

struct status {
    int64_t generation; /* observedGeneration */
    const char *task, *state, *ready, *selector, *address;
    int replicas, ready_replicas, restarts;
    int updated_replicas; /* of a replicated job: ready, and of its present version */
    struct condition conditions[STATUS_CONDITIONS];
    int condition_count;
    struct {
        const char *summary, *memory_per_rank, *reason, *balance;
        int ranks, data, tensor, pipeline, context, expert, zero_stage;
    } layout;
    struct {
        int64_t step, steps, tokens, held_out, eta_ms, last_step_ms, skipped;
        double loss, first_loss, validation_loss, first_validation_loss, validation_f1;
        double validation_match, tokens_per_second, loss_scale;
    } progress;
    struct {
        int64_t step, ms, damaged_bytes;
        const char *path, *damaged, *in_memory;
    } checkpoint;
    struct {
        int64_t term;
        const char *pod_uid;
        int restarts;
    } coordinator; /* who has the term */
    struct verdict verdict;
    struct status_alert *alerts;
    int alert_count;
    struct {
        int total, running, succeeded, failed;
        struct {
            int index;
            double value;
            const char *parameters, *output;
        } best;
        struct status_trial *table; /* by rung, then index */
        int count;
    } trials;                 /* of a search */
    struct attempt *attempts; /* oldest first */
    int attempt_count;
};

void status_init(struct status *s); /* nothing known */
void status_decode(const struct json *v, struct arena *a, struct status *out);
int status_encode(const struct status *s, struct buf *out, struct err *e);
uint64_t status_hash(const struct status *s); /* of what status_encode would write */

const struct condition *status_condition(const struct status *s, const char *type); /* or NULL */
bool status_is_true(const struct status *s, const char *type);
/* Complete or Failed is True; *since_ms (or NULL) when it became so. */
bool status_finished(const struct status *s, int64_t *since_ms);

#endif
