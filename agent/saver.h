/*
 * saver: one small file that is written behind the loop's back, since a disk that is busy may hold
 * a write up for a second. Of several texts that wait the newest is written. Putting is one
 * thread's; a file that cannot be written is logged, and tried again with the next text.
 */
#ifndef AGENT_SAVER_H
#define AGENT_SAVER_H

#include "base/err.h"

struct saver;

/* path: copied. */
int saver_create(const char *path, struct saver **out, struct err *e);
/* Waits until the last text is written. */
void saver_destroy(struct saver *s);
/* text: taken (mem_free); never waits for the disk. */
void saver_put(struct saver *s, char *text);

#endif
