/*
 * kept: embeddings that outlive the rank that made them, in a folder on storage that replicas and
 * jobs share: each by a digest of the tokens that the encoder read, in files (kept_file.h) of that
 * encoder alone. What is there is found, what is not is embedded and written before long, many in a
 * file; files are put together before there are many, and of what nobody here asked for only as
 * much is held as the bound leaves. A file or an embedding that is damaged is told in the log, made
 * anew and replaced; a folder that cannot be read or written is told, and then all is embedded. A
 * file that does not bear our name and mark is never touched. Thread: one.
 */
#ifndef RUNTIME_SERVE_KEPT_H
#define RUNTIME_SERVE_KEPT_H

#include "runtime/serve/reader.h"

#define KEPT_PENDING 256 /* that are not written yet, at most */
#define KEPT_FILES   16  /* of one encoder, before they are put together */

struct kept_folder;

/* folder: is made, if need be, and borrowed; asked: embeddings that this rank will ask for, at
   most; twice as many are held. ERR_MEMORY alone. */
int kept_open(const char *folder, const struct reader *reader, int64_t asked,
    struct kept_folder **out, struct err *e);
void kept_close(struct kept_folder *k);         /* NULL is fine; what is not written is lost */
int64_t kept_bytes(int64_t dim, int64_t asked); /* of memory, at most */

/* reader_embed, of up to ENCODER_TEXTS texts, but for those that are kept; *made: how many are not
   is added. k NULL: all are embedded. */
int kept_embed(struct kept_folder *k, struct reader *r, const struct encoder_text *texts, int n,
    float *out, int64_t *made, struct err *e);
/* What was made is written. */
void kept_write(struct kept_folder *k);

#endif
