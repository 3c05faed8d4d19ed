/*
 * secret: OpenSSL's HMAC does the work; the parts are laid out here, each behind its
 * length as four bytes, and a list that does not fit is refused. Knows none of them.
 */
#include "base/secret.h"

#include "base/io.h"

#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

int secret_mac(const char *key, const struct secret_part *parts, size_t count,
    uint8_t out[SECRET_MAC_BYTES], struct err *e)
{
    uint8_t text[SECRET_PARTS_BYTES], mac[EVP_MAX_MD_SIZE];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t len = htole32((uint32_t)parts[i].len);
        if (parts[i].len > sizeof text || sizeof text - n < sizeof len + parts[i].len)
            return err_set(e, ERR_DATA, "a proof over more than %d bytes", SECRET_PARTS_BYTES);
        memcpy(text + n, &len, sizeof len);
        if (parts[i].len)
            memcpy(text + n + sizeof len, parts[i].data, parts[i].len);
        n += sizeof len + parts[i].len;
    }
    unsigned int size = 0;
    size_t key_len = strlen(key);
    if (key_len > INT32_MAX || !HMAC(EVP_sha256(), key, (int)key_len, text, n, mac, &size) ||
        size != SECRET_MAC_BYTES)
        return err_set(e, ERR_BUG, "OpenSSL cannot compute an HMAC");
    memcpy(out, mac, SECRET_MAC_BYTES);
    return 0;
}

bool secret_same(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

bool secret_equal(const char *given, const char *secret)
{
    size_t n = strlen(secret);
    return given && n && strlen(given) == n && secret_same(given, secret, n);
}

bool secret_bearer(const char *authorization, const char *secret)
{
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    return authorization && !strncasecmp(authorization, scheme, n) &&
        secret_equal(authorization + n, secret);
}

int secret_of_pod(
    const char *token, const char *pod_uid, char out[SECRET_TOKEN_BYTES], struct err *e)
{
    const struct secret_part parts[] = {SECRET_TEXT("llmjob pod"), SECRET_TEXT(pod_uid)};
    uint8_t mac[SECRET_MAC_BYTES];
    int rc = secret_mac(token, parts, 2, mac, e);
    if (rc)
        return rc;
    io_hex(mac, sizeof mac, out);
    return 0;
}
