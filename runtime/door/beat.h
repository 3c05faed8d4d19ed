/*
 * beat: the rank's side of the heartbeat page (api/wire.h). The page may be NULL (tests, benches):
 * every function then does nothing. Called at every phase change, layer and step by the thread that
 * owns the model; coll beats for itself. Costs two stores and a clock read, never a system call.
 */
#ifndef RUNTIME_DOOR_BEAT_H
#define RUNTIME_DOOR_BEAT_H

#include "base/err.h"
#include "api/wire.h"

/* Maps the page that the agent passed as fd; fills magic and the first beat. */
int beat_map(int fd, struct wire_page **out, struct err *e);

void beat(struct wire_page *p);
void beat_phase(struct wire_page *p, enum wire_phase phase);
void beat_step(struct wire_page *p, int64_t step);

#endif
