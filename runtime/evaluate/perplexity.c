/*
 * evaluate/perplexity: windows of a text, each from an empty cache; each token is predicted from
 * those before it in its window. Bits per byte are of the bytes that the predicted tokens stand
 * for: special tokens, which stand between documents, are none.
 */
#include "runtime/evaluate/internal.h"

#include "base/log.h"

#include <math.h>

#define TOKEN_BYTES (1 << 16)

enum { EXTRA_BYTES };

static int count_bytes(const struct meter *m, double *out, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, TOKEN_BYTES);
    for (int64_t i = 0; i < m->length; i++) {
        buf_reset(&text);
        if (tok_decode(m->tok, m->targets[i], true, &text))
            return err_set(e, ERR_MEMORY, "no memory for the text of a token");
        *out += (double)text.len;
    }
    return 0;
}

static int look_at_window(void *user, int64_t item, struct rounds_item *out, struct err *e)
{
    struct evaluation *v = user;
    struct rounds_item found = {.labels = (double)v->meter.length};
    int rc = meter_window(&v->meter, evaluation_item(v, item), &found.loss, e);
    if (rc || (rc = count_bytes(&v->meter, &found.extra[EXTRA_BYTES], e)))
        return rc;
    found.tokens = found.labels;
    *out = found;
    return 0;
}

int evaluate_perplexity(struct evaluation *v, struct jsonw *w, struct err *e)
{
    const struct jobspec_evaluate *s = &v->spec->evaluate;
    int rc = meter_text(&v->meter, s->data, s->format, e);
    if (rc || (rc = evaluation_share(v, data_samples(v->meter.data), look_at_window, v, e)) ||
        !evaluation_leads(v))
        return rc;
    struct rounds_item all = rounds_sum(v->found, v->items);
    double loss = all.loss / all.labels, bytes = all.extra[EXTRA_BYTES];
    double bits = bytes > 0 ? all.loss / log(2) / bytes : NAN;
    jsonw_int(w, "sequences", v->items);
    jsonw_int(w, "tokens", (int64_t)all.labels);
    jsonw_int(w, "bytes", (int64_t)bytes);
    jsonw_num(w, "loss", loss);
    jsonw_num(w, "perplexity", exp(loss));
    jsonw_num(w, "bitsPerByte", bits);
    log_info("evaluated", LOG_S("objective", evaluated_name(s->objective)),
        LOG_I("sequences", v->items), LOG_I("tokens", (int64_t)all.labels), LOG_F("loss", loss),
        LOG_F("perplexity", exp(loss)), LOG_F("bits_per_byte", bits));
    return 0;
}
