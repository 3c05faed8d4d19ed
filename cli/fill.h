/*
 * fill: turns what programs say (an LLMJob object, a report, a list of events) into a struct
 * screen. Pure; strings are borrowed from the JSON trees and the arena, which must outlive the
 * screen.
 */
#ifndef CLI_FILL_H
#define CLI_FILL_H

#include "base/json.h"
#include "base/mem.h"
#include "cli/screen.h"

void fill_init(struct screen *s, int64_t now_ms);
/* An LLMJob as the API server sends it: everything that status holds. ERR_DATA when it is no
 * LLMJob. */
int fill_object(struct screen *s, const struct json *object, struct arena *a, struct err *e);
/* A coordinator's report, fresher than status and with a row a rank. */
void fill_report(struct screen *s, const struct report *r);
/* An EventList: the newest SCREEN_EVENTS, oldest first. */
void fill_events(struct screen *s, const struct json *list);

#endif
