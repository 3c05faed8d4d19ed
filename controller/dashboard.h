/*
 * dashboard: /healthz, /readyz and /metrics on a thread of its own, so that a probe is answered
 * even while the loop works; health then says whether the loop still turns.
 */
#ifndef CONTROLLER_DASHBOARD_H
#define CONTROLLER_DASHBOARD_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct dashboard;

/* listen: "host:port"; port 0 binds any, see dashboard_port. */
int dashboard_start(const char *listen, struct dashboard **out, struct err *e);
void dashboard_stop(struct dashboard *d);
uint16_t dashboard_port(const struct dashboard *d);

/* From the loop, each turn. ready: the caches are complete. */
void dashboard_beat(struct dashboard *d, bool ready);

#endif
