/*
 * openai_items: the part of the API that models answer which read whole texts: embeddings (OpenAI),
 * classify and score (vLLM), rerank (Jina, Cohere, vLLM). What a client sends becomes lists of
 * texts for the rank (runtime/serve/items.h), whose elements become a body. Pure.
 */
#ifndef AGENT_OPENAI_ITEMS_H
#define AGENT_OPENAI_ITEMS_H

#include "agent/openai_answer.h"
#include "base/json.h"

/* -1 and *r: no model of that kind answers what is asked at this place. */
int openai_check_does(
    const struct openai_conf *conf, enum openai_place place, struct openai_refusal *r);
/* v: a body of one of OPENAI_ITEMS whose fields were checked; -1 and *r when it is refused. */
int openai_copy_items(
    const struct json *v, enum openai_place place, struct jsonw *w, struct openai_refusal *r);
/* A whole body. elements (len): JSON with commas between them. */
void openai_items(struct buf *out, const struct openai_answer *a, enum openai_place place,
    const char *elements, size_t len, struct openai_usage u);

#endif
