/*
 * keys: a salt is the beginning of an HMAC by a secret that is drawn when the keys are read: one
 * that is asked for by name never equals a key's, and none can be computed outside.
 */
#include "agent/keys.h"

#include "base/io.h"

#include <stdlib.h>
#include <string.h>

static bool knows(const struct api_keys *k, const char *text)
{
    for (int i = 0; i < k->count; i++)
        if (!strcmp(k->key[i].text, text))
            return true;
    return false;
}

/* What stands behind a key: "" or "weight=N"; 0: neither. */
static int read_weight(const char *text)
{
    static const char name[] = "weight=";
    size_t n = sizeof name - 1;
    char *end;
    if (!*text)
        return 1;
    if (strncmp(text, name, n) != 0 || text[n] < '1' || text[n] > '9')
        return 0;
    long weight = strtol(text + n, &end, 10);
    return *end || weight > LIMIT_KEY_WEIGHT ? 0 : (int)weight;
}

/* line: without its end. */
static int read_line(char *line, int number, struct api_keys *out, struct err *e)
{
    struct key *k = &out->key[out->count];
    size_t n = strlen(line);
    while (n && (line[n - 1] == ' ' || line[n - 1] == '\t'))
        line[--n] = 0;
    size_t len = strcspn(line, " \t");
    if (!n)
        return 0;
    if (out->count == LIMIT_API_KEYS)
        return err_set(e, ERR_USER, "the API keys: there may be %d", LIMIT_API_KEYS);
    if (!len || len >= sizeof k->text)
        return err_set(e, ERR_USER, "the API keys, line %d: a key has 1 to %d bytes", number,
            LIMIT_API_KEY_BYTES - 1);
    k->weight = read_weight(line + len + strspn(line + len, " \t"));
    if (!k->weight)
        return err_set(e, ERR_USER,
            "the API keys, line %d: behind a key stands nothing, or weight= and 1 to %d", number,
            LIMIT_KEY_WEIGHT);
    line[len] = 0;
    if (knows(out, line))
        return err_set(e, ERR_USER, "the API keys, line %d: the key is there twice", number);
    memcpy(k->text, line, len + 1);
    out->count++;
    return 0;
}

int keys_read(const char *text, size_t len, struct api_keys *out, struct err *e)
{
    struct api_keys k = {0};
    uint8_t secret[(SECRET_TOKEN_BYTES - 1) / 2];
    size_t at = 0;
    int rc = io_random(secret, sizeof secret, e);
    for (int number = 1; !rc && at < len; number++) {
        char line[LIMIT_API_KEY_BYTES + 32];
        size_t n = 0;
        while (at + n < len && !memchr("\r\n", text[at + n], 2))
            n++;
        if (n >= sizeof line || memchr(text + at, 0, n))
            return err_set(
                e, ERR_USER, "the API keys, line %d: it is too long, or no text", number);
        memcpy(line, text + at, n);
        line[n] = 0;
        at += n;
        at += at < len && text[at] == '\r';
        at += at < len && text[at] == '\n';
        rc = read_line(line, number, &k, e);
    }
    if (!rc && !k.count)
        rc = err_set(e, ERR_USER, "the API keys: there is none");
    if (rc)
        return rc;
    io_hex(secret, sizeof secret, k.secret);
    *out = k;
    return 0;
}

int keys_find(const struct api_keys *k, const char *authorization, const char *plain)
{
    int found = k->count ? -1 : 0;
    for (int i = 0; i < k->count; i++)
        if (secret_bearer(authorization, k->key[i].text) | secret_equal(plain, k->key[i].text))
            found = i;
    return found;
}

int keys_weight(const struct api_keys *k, int key)
{
    return k->count ? k->key[key].weight : 1;
}

int keys_salt(
    const struct api_keys *k, int key, const char *shared, char out[KEYS_SALT_BYTES], struct err *e)
{
    uint8_t mac[SECRET_MAC_BYTES];
    const char *of = shared ? shared : k->count ? k->key[key].text : NULL;
    *out = 0;
    if (!of)
        return 0;
    const struct secret_part parts[] = {SECRET_TEXT(shared ? "shared" : "key"), SECRET_TEXT(of)};
    int rc = secret_mac(k->secret, parts, 2, mac, e);
    if (!rc)
        io_hex(mac, (KEYS_SALT_BYTES - 1) / 2, out);
    return rc;
}
