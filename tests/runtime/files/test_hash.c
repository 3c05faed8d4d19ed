/*
 * Goal: digests are those of their specifications. Method: published vectors (FIPS 180-4 for
 * SHA-256; xxHash's own for XXH3); files against their bytes in memory.
 */
#include "runtime/files/hash.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
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

START_TEST(xxh3_of_nothing)
{
    char hex[HASH_XXH3_HEX];
    ck_assert_uint_eq(hash_xxh3("", 0), 0x2d06800538d394c2u);
    hash_xxh3_hex("", 0, hex);
    ck_assert_str_eq(hex, "2d06800538d394c2");
    ck_assert_uint_ne(hash_xxh3("a", 1), hash_xxh3("b", 1));
}
END_TEST

START_TEST(a_file_is_hashed_as_its_bytes)
{
    static const int64_t sizes[] = {0, 1, 1 << 20, (3 << 20) + 5};
    char folder[64], path[100], want[HASH_XXH3_HEX], hex[HASH_XXH3_HEX];
    struct err e = {0};
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/file", folder);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mem_autofree uint8_t *bytes = mem_alloc((size_t)sizes[i] + 1);
        for (int64_t j = 0; j < sizes[i]; j++)
            bytes[j] = (uint8_t)(j * j >> 3);
        golden_write(path, bytes, (size_t)sizes[i]);
        io_auto_fd int fd = io_open_read(path, &e);
        hash_xxh3_hex(bytes, (size_t)sizes[i], want);
        ck_assert_msg(!hash_xxh3_file(fd, sizes[i], hex, &e), "%s", e.text);
        ck_assert_str_eq(hex, want);
        /* shorter than it was said to be: an error that names it, and no signal */
        ck_assert_int_eq(hash_xxh3_file(fd, sizes[i] + 1, hex, &e), -ERR_DATA);
        ck_assert_ptr_nonnull(strstr(e.text, path));
    }
    golden_remove(folder);
}
END_TEST

START_TEST(pieces_are_hashed_as_the_whole)
{
    uint8_t bytes[5000];
    struct hash_stream *s = NULL;
    struct err e = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i >> 3);
    ck_assert_msg(!hash_stream_create(&s, &e), "%s", e.text);
    ck_assert_uint_eq(hash_stream_xxh3(s), hash_xxh3("", 0));
    for (size_t at = 0, n = 0; at < sizeof bytes; at += n, n = n % 700 + 13) {
        n = n < sizeof bytes - at ? n : sizeof bytes - at;
        hash_stream_add(s, bytes + at, n);
        ck_assert_uint_eq(hash_stream_xxh3(s), hash_xxh3(bytes, at + n));
    }
    hash_stream_destroy(s);
    hash_stream_destroy(NULL);
}
END_TEST

/* Of a large file a sample counts, which meets its ends and whatever is as large as a matrix. */
START_TEST(a_sample_sees_what_is_large)
{
    enum { SIZE = 256 << 20, MATRIX = 64 << 10 };
    mem_autofree uint8_t *bytes = mem_zalloc(SIZE);
    ck_assert_ptr_nonnull(bytes);
    uint64_t h = hash_sample(bytes, SIZE);
    ck_assert_uint_ne(h, hash_sample(bytes, SIZE - 1));
    for (int i = 0; i < 20; i++) {
        size_t at = (size_t)i * ((SIZE - MATRIX) / 19);
        memset(bytes + at, 1, MATRIX);
        ck_assert_msg(hash_sample(bytes, SIZE) != h, "at %zu", at);
        memset(bytes + at, 0, MATRIX);
    }
    bytes[0] = 1;
    ck_assert_uint_ne(h, hash_sample(bytes, SIZE));
    bytes[0] = 0;
    bytes[SIZE - 1] = 1;
    ck_assert_uint_ne(h, hash_sample(bytes, SIZE));
    bytes[SIZE - 1] = 0;
    ck_assert_uint_eq(h, hash_sample(bytes, SIZE));
    /* a small one counts to the byte */
    ck_assert_uint_eq(hash_sample(bytes, 1 << 24), hash_xxh3(bytes, 1 << 24));
}
END_TEST

UNIT_MAIN("hash", sha256_of_the_standard, xxh3_of_nothing, a_file_is_hashed_as_its_bytes,
    pieces_are_hashed_as_the_whole, a_sample_sees_what_is_large)
