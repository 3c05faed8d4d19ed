/*
 * canary: the likeliest token behind a word, whatever it is. It ends no turn, so that there is one.
 * A model that reads whole texts reads that word.
 */
#include "agent/canary.h"

#include "api/limits.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static void ask_to_go_on(struct jsonw *w)
{
    jsonw_bool(w, "chat", false);
    jsonw_str(w, "prompt", "Hello");
    jsonw_int(w, "max_tokens", 1);
    jsonw_int(w, "temperature", 0);
    jsonw_bool(w, "ignore_eos", true);
}

static void ask_to_read(enum wire_does does, struct jsonw *w)
{
    bool embeds = does == WIRE_DOES_EMBED || does == WIRE_DOES_RECOMMEND;
    jsonw_str(w, "read", embeds ? "embed" : "classify");
    jsonw_open(w, "input", '[');
    jsonw_str(w, NULL, "Hello");
    jsonw_close(w);
}

int canary_write(enum wire_does does, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "id", (int64_t)CANARY_ID);
    if (does == WIRE_DOES_GENERATE)
        ask_to_go_on(&w);
    else
        ask_to_read(does, &w);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "out of memory") : 0;
}

enum canary_says canary_hear(const struct wire_frame *frame, char why[256])
{
    struct wire_token head;
    struct err e = {0};
    if (frame->type != WIRE_FINISHED)
        return wire_take_token(frame, &head) && head.request == CANARY_ID ? CANARY_MORE
                                                                          : CANARY_NOTHING;
    json_auto struct json *v = NULL;
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e) ||
        json_int(v, "id", 0) != (int64_t)CANARY_ID)
        return CANARY_NOTHING;
    bool token = json_int(v, "completion_tokens", 0) > 0 || json_int(v, "items", 0) > 0;
    snprintf(why, 256, "%s", json_str(v, "message", "no token came"));
    return token && strcmp(json_str(v, "reason", "error"), "error") != 0 ? CANARY_ANSWERED
                                                                         : CANARY_REFUSED;
}
