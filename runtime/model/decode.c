/*
 * model_decode: decoding one sequence, a token at a time, without logits on the host. What a token
 * runs depends on nothing that the host knows: id, position, length and how to draw stand in one
 * block on the device (struct model_token), and so does the result. Where the device can record,
 * it is recorded once, and a token is an upload of six words, a launch and a download of one.
 */
#include "runtime/model/internal.h"

#include <stddef.h>

static void enqueue_token(struct model *m)
{
    struct model_token *t = m->token;
    struct batch s = {.b = 1,
        .tokens = 1,
        .cached = true,
        .ids = &t->id,
        .position = &t->position,
        .length = &t->length};

    model_forward(m, &s);
    model_logits(m, 0, 1);
    m->ops->sample(m->dev,
        &(struct op_sample){.n = 1,
            .v = m->conf.config.vocab,
            .logits = m->logits,
            .temperature = &t->draw.temperature,
            .top_p = &t->draw.top_p,
            .u = &t->draw.u,
            .token = &t->next});
}

/* The first run is of token 0 at position 0, which the first prompt overwrites. */
int model_decode_prepare(struct model *m, struct err *e)
{
    const struct model_token first = {.length = 1};
    int rc;

    if (!dev_can_record(m->dev))
        return dev_sync(m->dev, e);
    dev_upload(m->dev, m->token, &first, sizeof first);
    enqueue_token(m);
    rc = dev_sync(m->dev, e);
    if (!rc)
        rc = dev_record_begin(m->dev, e);
    if (rc)
        return rc;
    enqueue_token(m);
    return dev_record_end(m->dev, &m->recording, e);
}

int model_next(struct model *m, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e)
{
    const struct model_token t = {
        .id = id, .position = (int32_t)past, .length = (int32_t)past + 1, .draw = *draw};
    int32_t drawn;
    int rc = model_check_extend(m, &id, 1, past, e);

    if (rc)
        return rc;
    dev_upload(m->dev, m->token, &t, offsetof(struct model_token, next));
    if (m->recording)
        dev_record_launch(m->dev, m->recording);
    else
        enqueue_token(m);
    dev_download(m->dev, &drawn, &m->token->next, sizeof drawn);
    rc = dev_sync(m->dev, e);
    if (!rc)
        *next = drawn;
    return rc;
}
