/*
 * secret: proofs that somebody knows a secret, without telling it, in one place: HMAC-SHA-256 over
 * parts whose lengths are part of what is proved (so that no two lists of parts read alike), a
 * comparison in constant time, and the token of one pod. The handshakes of the mesh (agent/proof)
 * and of the ranks (runtime/coll/meet) are made of these. Stateless, any thread.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECRET_MAC_BYTES   32
#define SECRET_NONCE_BYTES 16
#define SECRET_PARTS_BYTES 1024 /* of all parts, 4 of length before each */
#define SECRET_TOKEN_BYTES 65   /* a token as hex, the NUL included */

struct secret_part {
    const void *data;
    size_t len;
};
#define SECRET_TEXT(s) ((struct secret_part){(s), strlen(s)})

int secret_mac(const char *key, const struct secret_part *parts, size_t count,
    uint8_t out[SECRET_MAC_BYTES], struct err *e);
/* In a time that does not tell where they differ. */
bool secret_same(const void *a, const void *b, size_t len);
/* Likewise for texts; the secret's length is none. given may be NULL; an empty secret equals
 * nothing. */
bool secret_equal(const char *given, const char *secret);
/* authorization: the header's value, "Bearer <secret>", or NULL */
bool secret_bearer(const char *authorization, const char *secret);
/* What the agent of one pod asks for and whoever speaks to it presents, made of the job's token: of
 * no use anywhere else, should another have the pod's address by now. */
int secret_of_pod(
    const char *token, const char *pod_uid, char out[SECRET_TOKEN_BYTES], struct err *e);

#endif
