/*
 * hash: XXH3 by xxHash; SHA-256 by OpenSSL's EVP interface, which takes the processor's SHA
 * instructions where there are some. Stateless, any thread.
 */
#include "runtime/files/hash.h"

#include "base/io.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <xxhash.h>

#define PIECE        (1 << 20) /* bytes read at once */
/* Close enough to meet every matrix of a model, few enough for a file on a network. */
#define SAMPLES      4096
#define SAMPLE_BYTES 4096

uint64_t hash_xxh3(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

void hash_xxh3_hex(const void *data, size_t size, char out[HASH_XXH3_HEX])
{
    snprintf(out, HASH_XXH3_HEX, "%016llx", (unsigned long long)hash_xxh3(data, size));
}

struct hash_stream { /* XXH3's own state stands behind a name of the house */
    XXH3_state_t *state;
};

int hash_stream_create(struct hash_stream **out, struct err *e)
{
    struct hash_stream *s = mem_zalloc(sizeof *s);
    if (s)
        s->state = XXH3_createState();
    if (!s || !s->state || XXH3_64bits_reset(s->state) != XXH_OK) {
        hash_stream_destroy(s);
        return err_set(e, ERR_MEMORY, "no memory to hash a file");
    }
    *out = s;
    return 0;
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t size)
{
    XXH3_64bits_update(s->state, data, size);
}

uint64_t hash_stream_xxh3(const struct hash_stream *s)
{
    return XXH3_64bits_digest(s->state);
}

void hash_stream_destroy(struct hash_stream *s)
{
    if (!s)
        return;
    XXH3_freeState(s->state);
    mem_free(s);
}

uint64_t hash_sample(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t h = size;
    if (size <= (size_t)SAMPLES * SAMPLE_BYTES)
        return hash_xxh3(data, size);
    for (uint64_t i = 0; i < SAMPLES; i++)
        h = XXH3_64bits_withSeed(
            bytes + (size - SAMPLE_BYTES) * i / (SAMPLES - 1), SAMPLE_BYTES, h);
    return h;
}

static int hash_pieces(int fd, int64_t size, XXH3_state_t *state, uint8_t *piece, struct err *e)
{
    for (int64_t at = 0, n; at < size; at += n) {
        n = size - at < PIECE ? size - at : PIECE;
        int rc = io_pread_full(fd, piece, (size_t)n, at, e);
        if (rc)
            return rc;
        XXH3_64bits_update(state, piece, (size_t)n);
    }
    return 0;
}

int hash_xxh3_file(int fd, int64_t size, char out[HASH_XXH3_HEX], struct err *e)
{
    XXH3_state_t *state = XXH3_createState();
    mem_autofree uint8_t *piece = mem_alloc(PIECE);
    int rc = !state || !piece || XXH3_64bits_reset(state) != XXH_OK
        ? err_set(e, ERR_MEMORY, "no memory to hash a file")
        : hash_pieces(fd, size, state, piece, e);
    if (!rc)
        snprintf(out, HASH_XXH3_HEX, "%016llx", (unsigned long long)XXH3_64bits_digest(state));
    XXH3_freeState(state);
    return rc;
}

int hash_sha256_hex(const void *data, size_t size, char out[HASH_SHA256_HEX], struct err *e)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    if (!EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL) || n != 32)
        return err_set(e, ERR_BUG, "OpenSSL cannot compute a SHA-256");
    io_hex(digest, n, out);
    return 0;
}
