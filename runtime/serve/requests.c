/*
 * requests: the frames WIRE_REQUEST, WIRE_CANCEL and WIRE_LISTED. A request stays text (see
 * runtime/serve/sched.h); one that is refused is answered, for else its client would wait for ever.
 */
#include "runtime/serve/requests.h"

#include "api/limits.h"
#include "base/json.h"
#include "base/log.h"

static void refuse_request(struct door *d, uint64_t id, const struct err *why)
{
    struct err e = {0};
    log_warn("request refused", LOG_I("id", id), LOG_ERR(why));
    if (door_send_fields(d, WIRE_FINISHED,
            (struct door_field[]){{"id", (double)id, NULL}, {"reason", 0, "error"},
                {"message", 0, why->text}, {NULL, 0, NULL}},
            &e))
        log_warn("the refusal was not sent", LOG_ERR(&e));
}

static void take_request(const struct requests *r, const struct wire_frame *f)
{
    uint64_t id = wire_request_id(f);
    struct err e = {0};
    if (!id)
        err_set(&e, ERR_BUG, "it does not begin with an id");
    else if (!r->inbox)
        err_set(&e, ERR_BUG, "this rank does not serve");
    if (e.code || inbox_push(r->inbox, id, f->data, f->len, &e))
        refuse_request(r->door, id, &e);
}

static void take_cancel(const struct requests *r, const struct wire_frame *f)
{
    json_auto struct json *body = NULL;
    if (!json_parse_within(f->data, f->len, LIMIT_FRAME_VALUES, &body, NULL) && r->inbox)
        inbox_cancel(r->inbox, (uint64_t)json_int(body, "id", 0));
}

static void take_list(const struct requests *r, const struct wire_frame *f)
{
    struct err e = {0};
    if (r->inbox && inbox_list(r->inbox, f->data, f->len, &e))
        log_warn("a list of adapters is not taken", LOG_ERR(&e));
}

bool requests_take(void *user, const struct wire_frame *f)
{
    const struct requests *r = user;
    switch (f->type) {
    case WIRE_REQUEST:
        take_request(r, f);
        return true;
    case WIRE_CANCEL:
        take_cancel(r, f);
        return true;
    case WIRE_LISTED:
        take_list(r, f);
        return true;
    case WIRE_STOP:
        if (r->inbox)
            inbox_wake(r->inbox);
        return true;
    default:
        return false;
    }
}
