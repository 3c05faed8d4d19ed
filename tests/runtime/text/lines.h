/*
 * lines: random lines of a vocabulary's pieces and of characters of many scripts, each following
 * from its number alone, and what a generator of golden files says of a block of them: a hash. A
 * fixture.
 */
#ifndef TESTS_RUNTIME_TEXT_LINES_H
#define TESTS_RUNTIME_TEXT_LINES_H

#include "base/buf.h"
#include "base/json.h"

#include <stdint.h>

#define LINES_BLOCK 50
#define LINES_HASH  2166136261u /* of nothing */

struct lines_pieces { /* of a vocabulary, by their ids */
    const char **text;
    uint32_t count;
};

/* Of [["piece", score], ...] or ["piece", ...]; text: mem_free. */
struct lines_pieces lines_pieces_of(const struct json *vocab);
/* Line i in place of what out has. */
void lines_make(uint64_t i, const struct lines_pieces *p, struct buf *out);
uint32_t lines_fold(uint32_t h, const void *data, size_t size);
/* That of a block: eight digits each. */
uint32_t lines_hash_at(const char *hashes, int64_t block);

#endif
