/*
 * offload: an optimizer's state in a file that is mapped, for state that does not fit into memory.
 * An update goes over it from the beginning to the end, window by window: the next one is read
 * ahead, those behind are written back and let go of, so no more than OFFLOAD_BYTES are here. What
 * the kernel keeps of the file beside is its cache, which it takes back when memory is wanted; of
 * that we let go, too.
 *
 * The file has no name: it is gone when the process is, however that ends, and nothing of it is
 * read by another (state is saved in checkpoints). Its room is taken when it is opened, so that a
 * full disk is a sentence then, and no signal in a step. One thread.
 */
#ifndef RUNTIME_TRAIN_OFFLOAD_H
#define RUNTIME_TRAIN_OFFLOAD_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Of a window of one state, and what is here at most: of two states this one, that which is read
   ahead, and that which is being written. */
#define OFFLOAD_WINDOW_BYTES (4LL << 20)
#define OFFLOAD_BYTES        (6 * OFFLOAD_WINDOW_BYTES)

struct offload;

/* folder: of the user's, which must be there. Zeros. ERR_USER: it cannot have such a file, is
   memory itself, or has no room; the sentence has figures. */
int offload_open(const char *folder, int64_t bytes, struct offload **out, struct err *e);
/* NULL is well. */
void offload_close(struct offload *o);
void *offload_data(struct offload *o); /* at a page's beginning; good until it is closed */

/* Of bytes [at, at + n) of it, any: they will be wanted soon; they have been looked at, or changed,
   and are not wanted for long. */
void offload_expect(struct offload *o, const void *at, int64_t n);
void offload_leave(struct offload *o, const void *at, int64_t n);
/* ERR_USER: something that was left could not be written. Waits for what is being written. */
int offload_settle(struct offload *o, struct err *e);

#endif
