/*
 * beat: the rank's side of the heartbeat page (api/wire.h), and all that is stored in it. The page
 * may be NULL (tests, benches): every function then does nothing. One thread at a time: the one
 * that owns the model. Costs a few stores and a clock read, never a system call.
 */
#ifndef RUNTIME_DOOR_BEAT_H
#define RUNTIME_DOOR_BEAT_H

#include "api/wire.h"
#include "base/err.h"

/* Maps the page that the agent passed as fd; fills magic and the first beat. */
int beat_map(int fd, struct wire_page **out, struct err *e);

/* At every layer; each of the others beats, too, but for beat_wait and beat_note. */
void beat(struct wire_page *p);
void beat_phase(struct wire_page *p, enum wire_phase phase);
void beat_step(struct wire_page *p, int64_t step);
void beat_share(struct wire_page *p, int64_t sequences);

/* A collective begins, goes on, ends. One that failed does not end: the page keeps what it was
 * stuck in. An exchange of messages is not all ranks', and none of the collectives that the page
 * counts, by which it is told who is behind. waiting_for: the rank whose data is awaited, -1:
 * nobody in particular. */
void beat_enter(struct wire_page *p, enum wire_operation operation, int64_t bytes);
void beat_progress(struct wire_page *p, int waiting_for);
void beat_leave(struct wire_page *p);
/* Nothing came yet. */
void beat_wait(struct wire_page *p, int waiting_for);
/* What is known of a wait that lasts; "" when it is over. */
void beat_note(struct wire_page *p, const char *text);

#endif
