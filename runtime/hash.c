/*
 * hash: XXH3 by xxHash; SHA-256 by OpenSSL's EVP interface, which takes the processor's SHA
 * instructions where there are some. Stateless, any thread; allocates nothing of its own. Called by
 * ckpt (files), weights (pinned models) and coll (proof of the incarnation's secret).
 */
#include "runtime/hash.h"

#include "base/io.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <xxhash.h>

uint64_t hash_xxh3(const void *data, size_t size)
{
	return XXH3_64bits(data, size);
}

void hash_xxh3_hex(const void *data, size_t size, char out[HASH_XXH3_HEX])
{
	snprintf(out, HASH_XXH3_HEX, "%016llx", (unsigned long long)hash_xxh3(data, size));
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

int hash_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
		     uint8_t out[32], struct err *e)
{
	unsigned int n = 0;
	if (key_size > INT32_MAX || !HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &n) ||
	    n != 32)
		return err_set(e, ERR_BUG, "OpenSSL cannot compute an HMAC");
	return 0;
}
