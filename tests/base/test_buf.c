/*
 * Goal: a buffer holds exactly what was added, never more than its limit, and a failure cannot go
 * unseen. Method: a random sequence of operations beside a plain array; the limit approached from
 * both sides; faults.
 * needs: faults
 */
#include "base/buf.h"

#include "base/err.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

START_TEST(empty_is_usable)
{
    struct buf b;
    buf_init(&b, 10);
    ck_assert_str_eq(buf_cstr(&b), "");
    ck_assert(buf_ok(&b));
    buf_drop(&b, 5);
    mem_autofree char *s = buf_take(&b);
    ck_assert_str_eq(s, "");
    buf_done(&b);
    buf_done(&b);
    buf_done(NULL);
}
END_TEST

START_TEST(limit_is_exact)
{
    for (size_t limit = 0; limit < 300; limit++) {
        struct buf b;
        buf_init(&b, limit);
        for (size_t i = 0; i < limit; i++)
            ck_assert_int_eq(buf_char(&b, 'x'), 0);
        ck_assert_uint_eq(b.len, limit);
        ck_assert_int_eq(buf_printf(&b, "%s", ""), 0);
        ck_assert_int_eq(buf_char(&b, 'x'), -ERR_MEMORY);
        ck_assert(!buf_ok(&b));
        buf_done(&b);
    }
}
END_TEST

START_TEST(printf_at_the_limit)
{
    for (int limit = 0; limit < 200; limit++) {
        for (int n = 1; n < 200; n += 3) {
            struct buf b;
            buf_init(&b, (size_t)limit);
            int rc = buf_printf(&b, "%0*d", n, 0);
            ck_assert_int_eq(rc, n <= limit ? 0 : -ERR_MEMORY);
            ck_assert_uint_eq(b.len, n <= limit ? (size_t)n : 0);
            buf_done(&b);
        }
    }
}
END_TEST

START_TEST(failure_is_sticky_until_reset)
{
    struct buf b;
    buf_init(&b, 4);
    ck_assert_int_eq(buf_str(&b, "abc"), 0);
    ck_assert_int_eq(buf_str(&b, "de"), -ERR_MEMORY);
    ck_assert_str_eq(buf_cstr(&b), "");
    ck_assert_int_eq(buf_str(&b, "a"), -ERR_MEMORY);
    ck_assert_int_eq(buf_add(&b, NULL, 0), -ERR_MEMORY);
    ck_assert_int_eq(buf_printf(&b, "%s", ""), -ERR_MEMORY);
    ck_assert_ptr_null(buf_take(&b));
    buf_reset(&b);
    ck_assert_int_eq(buf_str(&b, "xy"), 0);
    buf_reset(&b);
    ck_assert_str_eq(buf_cstr(&b), "");
    ck_assert_int_eq(buf_str(&b, "abcd"), 0);
    ck_assert_str_eq(buf_cstr(&b), "abcd");
    ck_assert_int_eq(buf_fill(&b, 'e', 1), -ERR_MEMORY);
    ck_assert_int_eq(buf_fill(&b, 'e', 0), -ERR_MEMORY);
    buf_done(&b);
}
END_TEST

START_TEST(take_moves)
{
    struct buf b;
    buf_init(&b, 100);
    buf_str(&b, "one");
    mem_autofree char *s = buf_take(&b);
    ck_assert_str_eq(s, "one");
    ck_assert_uint_eq(b.len, 0);
    ck_assert_int_eq(buf_str(&b, "two"), 0);
    ck_assert_str_eq(buf_cstr(&b), "two");
    buf_done(&b);
}
END_TEST

/* One random operation on b, mirrored in the plain array. */
static void step(struct buf *b, char *plain, size_t *len, unsigned *seed)
{
    char piece[300];
    size_t n = (size_t)rand_r(seed) % sizeof piece;
    switch (rand_r(seed) % 6) {
    case 0:
        buf_drop(b, n);
        n = n > *len ? *len : n;
        memmove(plain, plain + n, *len - n);
        *len -= n;
        return;
    case 1:
        buf_printf(b, "%0*d", (int)n, 7);
        *len += (size_t)snprintf(plain + *len, 400, "%0*d", (int)n, 7);
        return;
    case 2:
        buf_char(b, (char)n);
        plain[(*len)++] = (char)n;
        return;
    case 3:
        buf_fill(b, (char)n, n);
        memset(plain + *len, (int)n, n);
        *len += n;
        return;
    default:
        memset(piece, (int)n, n);
        buf_add(b, piece, n);
        memcpy(plain + *len, piece, n);
        *len += n;
    }
}

START_TEST(random_operations_match_an_array)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    static char plain[1 << 20];
    size_t len = 0;
    struct buf b;
    buf_init(&b, sizeof plain);
    for (int i = 0; i < 2500; i++) {
        step(&b, plain, &len, &seed);
        ck_assert_uint_eq(b.len, len);
        ck_assert(!memcmp(buf_cstr(&b), plain, len));
        ck_assert(buf_cstr(&b)[len] == 0);
    }
    buf_done(&b);
}
END_TEST

static int fill(void *user)
{
    (void)user;
    buf_auto struct buf b;
    buf_init(&b, 1000);
    for (int i = 0; i < 50; i++) {
        buf_printf(&b, "%d,", i);
        buf_char(&b, ';');
    }
    if (!buf_ok(&b))
        return -ERR_MEMORY;
    ck_assert_uint_eq(b.len, 190);
    return 0;
}

START_TEST(failed_allocation_is_seen_at_the_end)
{
    fault_each(FAULT_MEM, fill, NULL);
}
END_TEST

UNIT_MAIN("buf", empty_is_usable, limit_is_exact, printf_at_the_limit,
    failure_is_sticky_until_reset, take_moves, random_operations_match_an_array,
    failed_allocation_is_seen_at_the_end)
