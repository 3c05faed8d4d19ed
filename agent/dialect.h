/*
 * dialect: which of the APIs an answer is told in follows from the path that was asked: OpenAI's
 * chat and text completions (openai_answer) and its responses, Anthropic's messages (anthropic).
 * Each adds to out, whose own state tells of failure.
 */
#ifndef AGENT_DIALECT_H
#define AGENT_DIALECT_H

#include "agent/openai.h"
#include "agent/openai_answer.h"
#include "base/buf.h"

#include <stdbool.h>

/* Whether a stream ends with all its text once more, as dialect_last is to have it in `first`. */
bool dialect_keeps_text(enum openai_place place);
/* The next events of a choice. */
void dialect_chunk(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *choice);
/* What follows the last of them; first: the first choice as it ended. */
void dialect_last(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *first, struct openai_usage u);
/* A whole body; of a place that the rank renders, its text is what the rank said. */
void dialect_whole(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *choices, int count, struct openai_usage u);
/* place: 0 where the path is none of those. */
void dialect_error(struct buf *out, enum openai_place place, const struct openai_refusal *r);
void dialect_error_event(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_refusal *r);

#endif
