/*
 * anthropic: Anthropic's Messages API as another way to ask for a chat and to tell its answer
 * (https://docs.anthropic.com/en/api/messages). A request becomes the chat completion that asks the
 * same, which openai.c then reads: what may be asked of a model is decided there alone. Pure.
 */
#ifndef AGENT_ANTHROPIC_H
#define AGENT_ANTHROPIC_H

#include "agent/openai.h"
#include "agent/openai_answer.h"
#include "base/buf.h"
#include "base/json.h"

/* The chat completion, or for OPENAI_COUNT the request for tokens, that v asks for; v's own fields
 * are checked. -1 and *r when it is refused. */
int anthropic_as_chat(
    const struct json *v, enum openai_place place, struct buf *out, struct openai_refusal *r);

/* Events of a stream: what a's told says was not told yet. */
void anthropic_chunk(struct buf *out, struct openai_answer *a, const struct openai_choice *c);
void anthropic_last(struct buf *out, const struct openai_choice *c, struct openai_usage u);
void anthropic_error_event(struct buf *out, const struct openai_refusal *r);
/* Whole bodies. */
void anthropic_whole(struct buf *out, const struct openai_answer *a, const struct openai_choice *c,
    struct openai_usage u);
void anthropic_count(struct buf *out, const char *tokens, size_t len); /* as /tokenize has them */
void anthropic_error(struct buf *out, const struct openai_refusal *r);

#endif
