/*
 * terminal: the person's terminal: is there one, how large, and redrawing it without flicker on the
 * alternate screen. terminal_leave brings the old screen back; main's exit paths all pass it.
 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include "base/buf.h"
#include "cli/screen.h"

#include <stdbool.h>

struct terminal {
    int fd;
    bool live; /* redraws; otherwise lines are appended */
    bool entered;
    struct screen_style style;
    struct screen_told told;
};

/* live is true when fd is a terminal that can move its cursor and plain is not asked for. */
void terminal_init(struct terminal *t, int fd, bool plain);
void terminal_resize(struct terminal *t); /* asks for the size again */
/* Shows the screen in the way of this terminal. */
int terminal_show(struct terminal *t, const struct screen *s, struct err *e);
/* Ends redrawing; the last picture, when not NULL, stays on the ordinary screen. */
void terminal_leave(struct terminal *t, const struct screen *last);

#endif
