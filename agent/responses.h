/*
 * responses: OpenAI's Responses API as another way to ask for a chat and to tell its answer
 * (https://platform.openai.com/docs/api-reference/responses). A request becomes the chat completion
 * that asks the same, which openai.c then reads. Nothing is kept: each request says all. Pure.
 */
#ifndef AGENT_RESPONSES_H
#define AGENT_RESPONSES_H

#include "agent/openai.h"
#include "agent/openai_answer.h"
#include "base/buf.h"
#include "base/json.h"

/* The chat completion that v asks for; v's own fields are checked. -1 and *r when it is refused. */
int responses_as_chat(const struct json *v, struct buf *out, struct openai_refusal *r);

/* Events of a stream: of text as it comes; what else there is follows with the last, where c has
 * the whole text. */
void responses_chunk(struct buf *out, struct openai_answer *a, const struct openai_choice *c);
void responses_last(
    struct buf *out, struct openai_answer *a, const struct openai_choice *c, struct openai_usage u);
void responses_error_event(
    struct buf *out, struct openai_answer *a, const struct openai_refusal *r);
/* A whole body. */
void responses_whole(struct buf *out, const struct openai_answer *a, const struct openai_choice *c,
    struct openai_usage u);

#endif
