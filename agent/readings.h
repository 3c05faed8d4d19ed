/*
 * readings: what of a served model is only looked at, which the agent knows by itself: models,
 * vector stores, the description of the API, whether requests are taken.
 */
#ifndef AGENT_READINGS_H
#define AGENT_READINGS_H

#include "agent/openai.h"
#include "agent/stores.h"
#include "base/web.h"

#include <stdbool.h>

struct readings {
    struct openai_conf api; /* as whoever asks has it */
    const struct stores *stores;
    bool serving;
};

/* Is there something to look at? */
bool readings_has(const char *path);
/* Answers GET or HEAD of such a path; false: *why it is refused. */
bool readings_answer(const struct readings *r, struct web_exchange *x, struct openai_refusal *why);

#endif
