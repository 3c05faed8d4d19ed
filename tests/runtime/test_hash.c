/*
 * Goal: digests are those of their specifications. Method: published vectors (FIPS 180-4 and RFC
 * 4231 for SHA-256; xxHash's own for XXH3).
 */
#include "runtime/hash.h"

#include "base/io.h"
#include "tests/unit.h"

START_TEST(sha256_of_the_standard)
{
	char hex[HASH_SHA256_HEX];
	struct err e = {0};
	ck_assert_int_eq(hash_sha256_hex("abc", 3, hex, &e), 0);
	ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	ck_assert_int_eq(hash_sha256_hex("", 0, hex, &e), 0);
	ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

START_TEST(hmac_of_rfc_4231)
{
	uint8_t out[32];
	char hex[65];
	struct err e = {0};
	ck_assert_int_eq(hash_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out, &e),
			 0);
	io_hex(out, 32, hex);
	ck_assert_str_eq(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

START_TEST(xxh3_of_nothing)
{
	char hex[HASH_XXH3_HEX];
	ck_assert_uint_eq(hash_xxh3("", 0), 0x2d06800538d394c2u);
	hash_xxh3_hex("", 0, hex);
	ck_assert_str_eq(hex, "2d06800538d394c2");
	ck_assert_uint_ne(hash_xxh3("a", 1), hash_xxh3("b", 1));
}
END_TEST

UNIT_MAIN("hash", sha256_of_the_standard, hmac_of_rfc_4231, xxh3_of_nothing)
