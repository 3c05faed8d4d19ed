/*
 * Goal: a table of characters is applied as it is written, and whatever a file holds in its place,
 * nothing outside it is read. Method: a table made by hand; the same cut off at each length and
 * with each bit turned; random ones, in memory that ends where they do (AddressSanitizer looks).
 * That real tables have the reference's effect is test_tok_unigram's affair.
 */
#include "runtime/text/tok_charsmap.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "tests/unit.h"

#include <time.h>

#define UNITS 256
#define LEAF  (1u << 8)
#define VALUE (1u << 31)

static void put_unit(char *data, uint32_t at, uint32_t unit)
{
    for (int k = 0; k < 4; k++)
        data[4 * at + (uint32_t)k] = (char)(unit >> 8 * k);
}

/* a: "x"; ab: "yz"; c: nothing; by offsets 0, 2, 5. Copied into memory of that size. */
static char *make_table(size_t *size)
{
    static const char texts[] = "x\0yz\0"; /* and a NUL */
    size_t n = 4 + 4 * UNITS + sizeof texts;
    char *data = mem_zalloc(n);
    put_unit(data, 0, 4 * UNITS);
    char *units = data + 4;
    put_unit(units, 0, 1u << 10);                       /* children at 1 ^ c */
    put_unit(units, 1 ^ 'a', 'a' | LEAF | 0x42u << 10); /* at 0x60 ^ 0x42: 0x22 */
    put_unit(units, 1 ^ 'a' ^ 0x42, VALUE | 0);
    put_unit(units, 1 ^ 'a' ^ 0x42 ^ 'b', 'b' | LEAF | 0x81u << 10);
    put_unit(units, 1 ^ 'a' ^ 0x42 ^ 'b' ^ 0x81, VALUE | 2);
    put_unit(units, 1 ^ 'c', 'c' | LEAF | 0x91u << 10);
    put_unit(units, 1 ^ 'c' ^ 0x91, VALUE | 5);
    memcpy(units + 4 * UNITS, texts, sizeof texts);
    *size = n;
    return data;
}

/* What s becomes; NULL: itself. */
static const char *find(const struct tok_charsmap *map, const char *s)
{
    static char out[16];
    struct tok_text to;
    if (!tok_charsmap_find(map, s, strlen(s), &to))
        return NULL;
    ck_assert_uint_lt(to.len, sizeof out);
    memcpy(out, to.s, to.len);
    out[to.len] = 0;
    return out;
}

START_TEST(the_shortest_key_counts)
{
    size_t size;
    mem_autofree char *data = make_table(&size);
    struct tok_charsmap map;
    ck_assert(tok_charsmap_check((struct tok_text){data, size}));
    ck_assert(tok_charsmap_init(&map, (struct tok_text){data, size}));
    ck_assert_uint_eq(map.count, UNITS);
    ck_assert_str_eq(find(&map, "a"), "x");
    ck_assert_str_eq(find(&map, "ab"), "x");
    ck_assert_str_eq(find(&map, "c"), "");
    ck_assert_ptr_null(find(&map, ""));
    ck_assert_ptr_null(find(&map, "b"));
    ck_assert_ptr_null(find(&map, "\xff\xff"));
    struct tok_text to;
    ck_assert(!tok_charsmap_find(&map, "\0a", 2, &to));
    /* Without a value at "a" the longer one is found. */
    put_unit(data + 4, 1 ^ 'a', 'a' | 0x42u << 10);
    ck_assert_str_eq(find(&map, "ab"), "yz");
    ck_assert_ptr_null(find(&map, "a"));
    /* An offset may count 256 times. */
    put_unit(data + 4, 0, 1u << 9 | 1u << 10);
    ck_assert_ptr_null(find(&map, "a"));
}
END_TEST

/* Looks everything up, and all found must be within. */
static void look_up_all(struct tok_text data)
{
    struct tok_charsmap map;
    if (!tok_charsmap_init(&map, data))
        return;
    bool whole = tok_charsmap_check(data);
    for (uint32_t c = 0; c < 0x300; c++) {
        struct tok_text to;
        char s[9];
        size_t n = utf8_encode(c, s);
        memcpy(s + n, "ab\xcc\x81", 4);
        if (!tok_charsmap_find(&map, s, n + 4, &to))
            continue;
        ck_assert(to.s >= map.texts.s && to.s + to.len <= data.s + data.len);
        ck_assert(!whole || utf8_valid_prefix(to.s, to.len) == to.len);
        size_t used = tok_charsmap_longest(&map, s, n + 4, &to);
        ck_assert(used <= n + 4);
        ck_assert(to.s >= map.texts.s && to.s + to.len <= data.s + data.len);
    }
}

START_TEST(damaged_tables_are_not_left)
{
    size_t size;
    mem_autofree char *data = make_table(&size);
    for (size_t n = 0; n <= size; n++) {
        mem_autofree char *cut = mem_alloc(n ? n : 1);
        memcpy(cut, data, n);
        struct tok_charsmap map;
        ck_assert_int_eq(tok_charsmap_init(&map, (struct tok_text){cut, n}), n >= 4 + 4 * UNITS);
        look_up_all((struct tok_text){cut, n});
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        look_up_all((struct tok_text){data, size});
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    put_unit(data, 0, 6); /* no whole units */
    ck_assert(!tok_charsmap_check((struct tok_text){data, size}));
    put_unit(data, 0, 0);
    ck_assert(!tok_charsmap_check((struct tok_text){data, size}));
    put_unit(data, 0, UINT32_MAX - 3);
    ck_assert(!tok_charsmap_check((struct tok_text){data, size}));
    put_unit(data, 0, 4 * UNITS);
    data[size - 2] = '\xff';
    ck_assert(!tok_charsmap_check((struct tok_text){data, size}));
}
END_TEST

START_TEST(random_tables_are_not_left)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    for (int round = 0; round < 300; round++) {
        uint32_t units = 1 + (uint32_t)rand_r(&seed) % 64;
        size_t size = 4 + 4 * units + (size_t)rand_r(&seed) % 8;
        mem_autofree char *data = mem_alloc(size);
        put_unit(data, 0, 4 * units);
        for (size_t i = 4; i < size; i++)
            data[i] = (char)rand_r(&seed);
        for (uint32_t i = 1; i <= units; i++) /* small offsets and fitting labels, to get far */
            if (rand_r(&seed) % 4)
                put_unit(data, i,
                    (i - 1) % 256 | (rand_r(&seed) % 2 ? LEAF : 0) |
                        (uint32_t)(rand_r(&seed) % 64) << 10);
        look_up_all((struct tok_text){data, size});
    }
}
END_TEST

UNIT_MAIN("tok_charsmap", the_shortest_key_counts, damaged_tables_are_not_left,
    random_tables_are_not_left)
