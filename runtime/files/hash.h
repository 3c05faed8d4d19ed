/*
 * hash: the digests of the runtime in one place: XXH3 for checkpoint files (it finds damage, not
 * malice), SHA-256 for pinned model files. The only file that includes xxHash.
 */
#ifndef RUNTIME_FILES_HASH_H
#define RUNTIME_FILES_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define HASH_XXH3_HEX   17 /* characters with the NUL */
#define HASH_SHA256_HEX 65

uint64_t hash_xxh3(const void *data, size_t size);
void hash_xxh3_hex(const void *data, size_t size, char out[HASH_XXH3_HEX]);
/* The same of data that comes piece by piece. */
struct hash_stream;
int hash_stream_create(struct hash_stream **out, struct err *e);
void hash_stream_add(struct hash_stream *s, const void *data, size_t size);
uint64_t hash_stream_xxh3(const struct hash_stream *s); /* of what was added */
void hash_stream_destroy(struct hash_stream *s);        /* NULL is fine */
/* All bytes up to 16 MiB, of more as many, in pieces spread evenly from the first to the last. */
uint64_t hash_sample(const void *data, size_t size);
/* Of the first size bytes of a file, by pread: a file that shrank or a device that fails is an
 * error here, where a mapping would end the process. */
int hash_xxh3_file(int fd, int64_t size, char out[HASH_XXH3_HEX], struct err *e);
int hash_sha256_hex(const void *data, size_t size, char out[HASH_SHA256_HEX], struct err *e);

#endif
