/*
 * saver: one small file that is written behind the loop's back (agent/aside), since a disk that is
 * busy may hold a write up for a second, and one of a network for good. Of several texts that wait
 * the newest is written. A file that cannot be written is logged, once until it can be, and tried
 * again with the next text.
 *
 * Where several processes may have the file, one of them has it, by a lock beside it: that one asks
 * for it (saver_claim) before it puts anything.
 */
#ifndef AGENT_SAVER_H
#define AGENT_SAVER_H

#include "base/err.h"

#include <stdint.h>

#define SAVER_BYTES  (1 << 20) /* of a text that was kept */
#define SAVER_END_MS 5000      /* that the last text may take when a saver ends */

struct saver;

/* path, and that of the lock, or NULL: none, are copied. */
int saver_create(const char *path, const char *lock, struct saver **out, struct err *e);
/* Waits until the last text is written, or SAVER_END_MS: then it is logged, and the thread left. */
void saver_destroy(struct saver *s);
/* Asks for the lock, and for what the file has. 1: it is there, *kept (mem_free; NULL: there is no
 * file), once; 0: not yet; or why it is not: it is asked for anew with the next call. Makes the
 * lock's folder. */
int saver_claim(struct saver *s, char **kept, struct err *e);
/* text: taken (mem_free); never waits for the disk. */
void saver_put(struct saver *s, char *text);
int64_t saver_late_ms(struct saver *s); /* as aside_late_ms */

#endif
