/*
 * kept: embeddings that outlive the rank that made them, in a folder on storage that replicas and
 * jobs share: each by a digest of the tokens that the encoder read, in files (kept_file.h) of that
 * encoder alone. What is there is found, what is not is embedded and written before long, many in a
 * file, on a thread beside the owner's; files are put together before there are many, and of what
 * nobody here asked for only as much is held as the bound leaves. A file or an embedding that is
 * damaged is told in the log, made anew and replaced; a folder that cannot be read or written is
 * told, and then all is embedded; so it is while storage has not answered a write for KEPT_LATE_MS.
 * Of several that begin with the same folder one embeds what is missing first, under a lock of a
 * file that storage gives back with its owner, and the others find it.
 * A file that does not bear our name and mark is never touched. All functions are the owner's, one
 * thread.
 */
#ifndef RUNTIME_SERVE_KEPT_H
#define RUNTIME_SERVE_KEPT_H

#include "runtime/serve/reader.h"

#define KEPT_TOGETHER 256 /* that are written together, at least while there are more to come */
#define KEPT_PENDING  (KEPT_TOGETHER + ENCODER_TEXTS) /* that are not written yet, at most */
#define KEPT_FILES    16 /* of one encoder, before they are put together */
#define KEPT_LATE_MS  30000
#define KEPT_END_MS   5000   /* of what is being written when all ends: then it is left behind */
#define KEPT_TURN_MS  300000 /* without a new file, for which what another embeds is waited for */

struct kept_folder;

/* folder: is made, if need be; asked: embeddings that this rank will ask for, at
   most; twice as many are held. ERR_MEMORY alone. */
int kept_open(const char *folder, const struct reader *reader, int64_t asked,
    struct kept_folder **out, struct err *e);
/* NULL is fine; of what kept_write has begun the end is waited for, what else there is is lost. */
void kept_close(struct kept_folder *k);
/* Whoever embeds until kept_write does so alone, each in its turn: the first that is missing is
   waited for until no other of this encoder does, for wait_ms without a change of the folder at
   most. Where no lock can be had nobody waits. NULL is fine. */
void kept_take_turns(struct kept_folder *k, int64_t wait_ms);
int64_t kept_bytes(int64_t dim, int64_t asked); /* of memory, at most */

/* reader_embed, of up to ENCODER_TEXTS texts, but for those that are kept; *made: how many are not
   is added. k NULL: all are embedded. Waits for what is being written, which kept_rests spares. */
int kept_embed(struct kept_folder *k, struct reader *r, const struct encoder_text *texts, int n,
    float *out, int64_t *made, struct err *e);
/* What was made begins to be written, and then others have their turn. */
void kept_write(struct kept_folder *k);
/* For at most wait_ms: is nothing being written, or not waited for any more? */
bool kept_rests(struct kept_folder *k, int64_t wait_ms);

#endif
