/*
 * train/tell: what a training tells: frames to the agent, points to TensorBoard and lines to
 * <checkpoint.path>/metrics.jsonl from rank 0, and from every rank a line a step of the samples
 * that it consumed (<checkpoint.path>/samples). A training that goes on from a checkpoint writes
 * the lines of the steps after it once more.
 */
#include "runtime/train/internal.h"

#include "api/names.h"
#include "base/io.h"
#include "base/json.h"

#include <math.h>

int train_tell_metric(struct train *t, const char *name, double value, struct err *e)
{
    return t->board ? tensorboard_scalar(t->board, name, t->state.step, value, e) : 0;
}

int train_tell_figure(
    struct train *t, const char *name, const char *of, double value, struct err *e)
{
    char tag[64];
    snprintf(tag, sizeof tag, "%s/%s", name, of);
    return train_tell_metric(t, tag, value, e);
}

/* To TensorBoard first: what the agent has heard of is there to be read, whatever ends this
   rank. */
int train_tell(struct train *t, enum wire_type type, const struct door_field *fields, struct err *e)
{
    int rc = t->board ? tensorboard_flush(t->board, e) : 0;
    return rc ? rc : door_send_fields(t->door, type, fields, e);
}

int train_log_metrics(struct train *t, const struct door_field *fields, struct err *e)
{
    struct jsonw w;
    if (t->metrics_fd < 0)
        return 0;
    buf_reset(&t->line);
    jsonw_init(&w, &t->line);
    jsonw_open(&w, NULL, '{');
    for (const struct door_field *f = fields; f->name; f++)
        if (isfinite(f->value))
            jsonw_num(&w, f->name, f->value);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory for " NAME_METRICS_FILE);
    buf_char(&t->line, '\n');
    return buf_ok(&t->line) ? io_write_full(t->metrics_fd, t->line.data, t->line.len, e)
                            : err_set(e, ERR_MEMORY, "no memory for " NAME_METRICS_FILE);
}

int train_tell_step(struct train *t, const struct step *s, struct err *e)
{
    if (!train_leads(t))
        return train_generate(t, e);
    const struct objective_loop *loop = t->objective->loop;
    double speed = (double)train_tokens(t, t->state.step) / s->seconds;
    double rate = optim_rate(&t->optim_conf, t->state.step);
    const struct ckpt_scale *scale = &t->state.scale;
    bool scaled = scale->scale > 0;
    int64_t sent = coll_sent_bytes(t->coll);
    double sent_now = sent < 0 ? NAN : (double)(sent - t->sent_bytes);
    t->sent_bytes = sent;
    double of_loss = scaled ? scale->scale : NAN, skipped = scaled ? (double)scale->skipped : NAN;
    int rc;
    if ((rc = train_tell_metric(t, "loss/train", s->loss, e)) ||
        (rc = train_tell_metric(t, "learning_rate", rate, e)) ||
        (!isnan(s->grad_norm) && (rc = train_tell_metric(t, "gradient_norm", s->grad_norm, e))) ||
        (scaled && (rc = train_tell_metric(t, "loss_scale", of_loss, e))) ||
        (scaled && (rc = train_tell_metric(t, "skipped_steps", skipped, e))) ||
        (rc = train_tell_metric(t, "tokens_per_second", speed, e)) ||
        (s->busiest_expert > 0 &&
            (rc = train_tell_metric(t, "expert_load/busiest", s->busiest_expert, e))) ||
        (loop->sums > 1 && (rc = loop->tell_fn(t, "train", s->means, e))) ||
        (!isnan(s->grad_norm) && (rc = train_tell_spread(t, e))) || (rc = train_generate(t, e)) ||
        (rc = train_log_metrics(t,
             (struct door_field[]){{"step", (double)t->state.step, NULL}, {"loss", s->loss, NULL},
                 {"learningRate", rate, NULL}, {"gradientNorm", s->grad_norm, NULL},
                 {"tokens", (double)t->state.tokens, NULL}, {"tokensPerSecond", speed, NULL},
                 {"seconds", s->seconds, NULL}, {"lossScale", of_loss, NULL},
                 {"skippedSteps", skipped, NULL}, {"sentBytes", sent_now, NULL}, {NULL, 0, NULL}},
             e)))
        return rc;
    return train_tell(t, WIRE_STEP,
        (struct door_field[]){{"step", (double)t->state.step, NULL}, {"loss", s->loss, NULL},
            {"tokens", (double)t->state.tokens, NULL}, {"tokens_per_second", speed, NULL},
            {"grad_norm", s->grad_norm, NULL}, {"learning_rate", rate, NULL},
            {"seconds", s->seconds, NULL}, {"loss_scale", of_loss, NULL},
            {"skipped_steps", skipped, NULL}, {NULL, 0, NULL}},
        e);
}

/* "step first count s0 s1 ..." */
int train_log_samples(struct train *t, int64_t step, struct err *e)
{
    int64_t first, count;
    const struct place p = train_place(t), sees = {.dp = p.dp, .ep = p.ep};
    if (t->orders->rank != layout_rank(&t->plan.layout, &sees))
        return 0;
    train_share(t, step, &first, &count);
    buf_reset(&t->line);
    buf_printf(&t->line, "%lld %lld %lld", (long long)step, (long long)first, (long long)count);
    for (int64_t i = 0; i < count; i++)
        buf_printf(&t->line, " %lld",
            (long long)data_sample_at(t->train_samples, t->spec->train.seed, first + i));
    buf_char(&t->line, '\n');
    if (!buf_ok(&t->line))
        return err_set(e, ERR_MEMORY, "no memory for the sample log");
    return io_write_full(t->log_fd, t->line.data, t->line.len, e);
}
