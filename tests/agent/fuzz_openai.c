/*
 * Goal: whatever a client sends is taken or refused in words, and what is taken is a request that
 * the rank can decode within its budget. Method: the input is read as the body of each request;
 * the frame, or the refusal as it is sent, is parsed again.
 */
#include "agent/openai.h"
#include "agent/openai_answer.h"

#include "base/json.h"
#include "api/limits.h"
#include "api/wire.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void read_as(enum openai_place place, const char *body, size_t size)
{
    enum wire_does does = place == OPENAI_CLASSIFY ? WIRE_DOES_CLASSIFY
        : place & OPENAI_ITEMS                     ? WIRE_DOES_RECOMMEND
                                                   : WIRE_DOES_GENERATE;
    const struct openai_conf conf = {.model = "m",
        .context_length = 4096,
        .most_choices = LIMIT_CHOICES,
        .calls = WIRE_CALLS_HERMES,
        .does = does};
    buf_auto struct buf out;
    json_auto struct json *again = NULL;
    struct openai_refusal no;
    struct openai_request took;
    struct err e = {0};
    buf_init(&out, LIMIT_FRAME_BYTES);
    if (openai_read(&conf, 7, place, 0, body, size, &took, &out, &no)) {
        must((no.status == 400 || no.status == 404) && no.message[0]);
        buf_reset(&out);
        openai_error(&out, &no);
        must(!json_parse(buf_cstr(&out), out.len, &again, &e));
        return;
    }
    must(took.choices >= 1 && took.choices <= LIMIT_CHOICES);
    buf_reset(&out); /* the last is one like the first */
    must(!openai_read(&conf, 7, place, took.choices - 1, body, size, &took, &out, &no));
    must(!json_parse_within(out.data, out.len, JSON_VALUES + LIMIT_AGENT_VALUES, &again, &e));
    must(wire_request_id(&(struct wire_frame){WIRE_REQUEST, out.data, (uint32_t)out.len}) == 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum openai_place places[] = {OPENAI_CHAT, OPENAI_TEXT, OPENAI_TOKENIZE,
        OPENAI_DETOKENIZE, OPENAI_TEMPLATE, OPENAI_EMBED, OPENAI_CLASSIFY, OPENAI_SCORE,
        OPENAI_RERANK, OPENAI_MESSAGES, OPENAI_COUNT, OPENAI_RESPONSES, OPENAI_RECOMMEND};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        read_as(places[i], (const char *)data, size);
    return 0;
}
