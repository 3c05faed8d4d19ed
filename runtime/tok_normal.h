/*
 * tok_normal: Unicode normalisation form C (UAX #15), which some tokenizers apply to text before
 * they cut it. The only file that includes utf8proc. Thread: reentrant.
 */
#ifndef RUNTIME_TOK_NORMAL_H
#define RUNTIME_TOK_NORMAL_H

#include "base/err.h"

#include <stddef.h>

/* text: valid UTF-8. *out is the normal form, *out_len bytes: text itself when it is ASCII, else
   memory that the caller frees with mem_free (*owned, NULL otherwise). */
int tok_normal_nfc(const char *text, size_t len, const char **out, size_t *out_len, void **owned,
		   struct err *e);

#endif
