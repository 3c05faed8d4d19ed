/*
 * dialect: a switch a function; nothing else.
 */
#include "agent/dialect.h"

#include "agent/anthropic.h"
#include "agent/openai_items.h"
#include "agent/responses.h"

#define ANTHROPIC (OPENAI_MESSAGES | OPENAI_COUNT)

bool dialect_keeps_text(enum openai_place place)
{
    return place == OPENAI_RESPONSES;
}

void dialect_chunk(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *choice)
{
    if (place & ANTHROPIC)
        anthropic_chunk(out, a, choice);
    else if (place == OPENAI_RESPONSES)
        responses_chunk(out, a, choice);
    else
        openai_chunk(out, a, choice);
}

void dialect_last(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *first, struct openai_usage u)
{
    if (place & ANTHROPIC)
        anthropic_last(out, first, u);
    else if (place == OPENAI_RESPONSES)
        responses_last(out, a, first, u);
    else
        openai_last(out, a, u);
}

void dialect_whole(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_choice *choices, int count, struct openai_usage u)
{
    if (place == OPENAI_COUNT)
        anthropic_count(out, choices->text, choices->len);
    else if (place & OPENAI_RENDERED)
        buf_add(out, choices->text, choices->len);
    else if (place & OPENAI_ITEMS)
        openai_items(out, a, place, choices->text, choices->len, u);
    else if (place == OPENAI_MESSAGES)
        anthropic_whole(out, a, choices, u);
    else if (place == OPENAI_RESPONSES)
        responses_whole(out, a, choices, u);
    else
        openai_whole(out, a, choices, count, u);
}

void dialect_error(struct buf *out, enum openai_place place, const struct openai_refusal *r)
{
    if (place & ANTHROPIC)
        anthropic_error(out, r);
    else
        openai_error(out, r);
}

void dialect_error_event(struct buf *out, enum openai_place place, struct openai_answer *a,
    const struct openai_refusal *r)
{
    if (place & ANTHROPIC)
        anthropic_error_event(out, r);
    else if (place == OPENAI_RESPONSES)
        responses_error_event(out, a, r);
    else
        openai_error_event(out, r);
}
