/*
 * keys: who may ask a served model: its API keys, a line each of what the Secret's key `apiKey`
 * holds, "KEY" or "KEY weight=N": of what the model can do a key has a share by its weight when
 * others wait, too. Without any everybody may ask, and is one. What a key asked for is found in the
 * cache again under a salt of its own, which nobody can guess.
 */
#ifndef AGENT_KEYS_H
#define AGENT_KEYS_H

#include "base/err.h"
#include "base/secret.h"
#include "api/limits.h"

#include <stddef.h>
#include <stdint.h>

#define KEYS_SALT_BYTES 17 /* 16 hex digits and the NUL */

struct api_keys { /* plain data; one that is all 0 has no key */
    int count;
    struct key {
        char text[LIMIT_API_KEY_BYTES];
        int weight; /* 1 to LIMIT_KEY_WEIGHT */
    } key[LIMIT_API_KEYS];
    char secret[SECRET_TOKEN_BYTES]; /* of this process, that salts are made with */
};

/* Empty lines count for nothing. ERR_USER: no key, too many, one that is too long or there twice,
   a weight that is none. */
int keys_read(const char *text, size_t len, struct api_keys *out, struct err *e);
/* Values of headers, or NULL: of Authorization, and of x-api-key. Which key it is, in a time that
   does not tell; -1: none. Without keys: 0. */
int keys_find(const struct api_keys *k, const char *authorization, const char *plain);
/* 1 without keys. */
int keys_weight(const struct api_keys *k, int key);
/* Of what is shared by those who name `shared`, whatever their key; NULL: of the key alone. "":
   everybody's, which is so without keys and without a name. */
int keys_salt(const struct api_keys *k, int key, const char *shared, char out[KEYS_SALT_BYTES],
    struct err *e);

#endif
