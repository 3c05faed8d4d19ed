/*
 * hooks: tells webhooks that an alert fires, or has resolved, in the form in which Alertmanager
 * tells them (version 4, https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).
 *
 * Of each alert HOOKS_WAITING changes wait, one is being told, in their order: what comes beyond
 * that takes the place of the oldest that waits. A receiver that does not answer, or with 408, 429
 * or 5xx, is asked again after half a second, then after twice as long each time up to a minute, or
 * as long as it says; after HOOKS_MS, or another answer than 2xx, the change is dropped, counted
 * and logged. The URL is the job's, never a client's; nothing is followed to another one. One loop.
 */
#ifndef AGENT_HOOKS_H
#define AGENT_HOOKS_H

#include "agent/alerts.h"
#include "api/jobspec.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define HOOKS_WAITING 8
#define HOOKS_MS      600000 /* that a change is told again and again */

struct hooks;

struct hooks_view { /* of one alert's */
    int waiting;    /* that which is being told among them */
    int64_t delivered, dropped, retried;
    int64_t told_ms; /* the stream's time of the change that waits for nobody any more; -1: none */
};

/* spec is borrowed. job_dir: in its folder NAME_WEBHOOK_DIR is, by the name of its webhookKey, what
 * a webhook is sent as Authorization: read once, sent to that URL alone, and never logged. */
int hooks_create(
    const struct jobspec *spec, const char *job_dir, struct hooks **out, struct err *e);
void hooks_destroy(struct hooks *h);
/* Nothing, of an alert without a webhook. */
void hooks_add(struct hooks *h, const struct alerts_change *c, int64_t now_ms);
void hooks_tick(struct hooks *h, int64_t now_ms);
struct hooks_view hooks_view(const struct hooks *h, int alert);

/* The body: one alert. */
void hooks_write(const struct jobspec *spec, const struct alerts_change *c, struct buf *out);

#endif
