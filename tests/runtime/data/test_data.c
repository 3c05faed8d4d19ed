/*
 * Goal: a corpus becomes the same samples in the same order for every world. Method: files of
 * tokens written here; permutations checked to be permutations; shares checked to cover the batch.
 */
#include "runtime/data/data.h"

#include "base/mem.h"
#include "runtime/data/tokens.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

START_TEST(a_file_of_tokens_is_cut_into_samples)
{
    static const int32_t ids[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    char folder[64], path[LIMIT_PATH_BYTES];
    int32_t in[4], out[4], length;
    struct tokens_writer *w = NULL;
    struct data *d = NULL, *same = NULL;
    struct err e = {0};
    golden_folder(folder);
    ck_assert(!tokens_create(folder, 7, &w, &e) && !tokens_add(w, ids, 12, &e));
    ck_assert(!tokens_commit(w, 0, &e) && !tokens_path(folder, 7, path, &e));
    ck_assert_msg(!data_open("a.txt", path, 4, false, &d, &e), "%s", e.text);
    ck_assert_int_eq(data_tokens(d), 12);
    ck_assert_int_eq(data_samples(d), 2); /* the third would need a thirteenth token */
    for (int k = 0; k < 2; k++) {
        data_sample(d, k, 4, in, out, &length);
        ck_assert_mem_eq(in, ids + 4 * k, sizeof in);
        ck_assert_mem_eq(out, ids + 4 * k + 1, sizeof out);
    }
    ck_assert(!data_from_ids(ids, 12, 4, &same, &e));
    ck_assert_uint_eq(data_digest(d), data_digest(same)); /* what checkpoints were made with */
    data_close(same);
    data_close(d);
    data_close(NULL);
    d = NULL;
    ck_assert_int_eq(data_open("a.txt", path, 12, false, &d, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "a.txt: 12 tokens, a sample needs 13");
    golden_remove(folder);
}
END_TEST

START_TEST(an_epoch_is_a_permutation)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 1000, 4096, 4097};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k];
        mem_autofree char *seen = mem_zalloc((size_t)n);
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, (size_t)n);
            for (int64_t i = 0; i < n; i++) {
                int64_t s = data_sample_at(n, 42, epoch * n + i);
                ck_assert(s >= 0 && s < n && !seen[s]);
                seen[s] = 1;
            }
        }
    }
}
END_TEST

/* Not a proof of randomness: an order that stayed, or was the same for other seeds and epochs,
 * would show. */
START_TEST(orders_differ_by_seed_and_epoch)
{
    enum { N = 1000 };
    int same_place = 0, same_seed = 0, same_epoch = 0, ascending = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t s = data_sample_at(N, 1, i);
        same_place += s == i;
        same_seed += s == data_sample_at(N, 2, i);
        same_epoch += s == data_sample_at(N, 1, N + i);
        ascending += i + 1 < N && s < data_sample_at(N, 1, i + 1);
    }
    ck_assert_int_lt(same_place, 10);
    ck_assert_int_lt(same_seed, 10);
    ck_assert_int_lt(same_epoch, 10);
    ck_assert(ascending > 420 && ascending < 580);
}
END_TEST

START_TEST(order_is_fixed_for_good)
{
    /* a checkpoint's data position means the same samples in every later version */
    static const int64_t want[8] = {214, 733, 131, 225, 373, 155, 371, 557};
    for (int64_t i = 0; i < 8; i++)
        ck_assert_int_eq(data_sample_at(1000, 42, i), want[i]);
}
END_TEST

START_TEST(shares_cover_the_batch)
{
    for (int64_t batch = 0; batch < 40; batch++)
        for (int world = 1; world < 20; world++) {
            int64_t next = 0;
            for (int rank = 0; rank < world; rank++) {
                int64_t first, count;
                data_share(batch, world, rank, &first, &count);
                ck_assert_int_eq(first, next);
                ck_assert(count == batch / world || count == batch / world + 1);
                next += count;
            }
            ck_assert_int_eq(next, batch);
        }
}
END_TEST

/* Never more than a tenth; of a set that is not small, what checkpoints of it were made with. */
START_TEST(a_tenth_at_most_is_held_out)
{
    static const int64_t want[][2] = {
        {1, 0}, {9, 0}, {10, 1}, {19, 1}, {39, 3}, {40, 4}, {250, 5}, {562, 11}, {10000, 200}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_int_eq(data_held_out(want[i][0]), want[i][1]);
    for (int64_t n = 0; n < 5000; n++) {
        ck_assert_int_le(10 * data_held_out(n), n);
        if (n >= 40)
            ck_assert_int_eq(data_held_out(n), n / 50 > 4 ? n / 50 : 4);
    }
}
END_TEST

START_TEST(a_digest_is_of_every_token)
{
    int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    struct data *a = NULL, *b = NULL;
    struct err e = {0};
    ck_assert(!data_from_ids(ids, 7, 3, &a, &e));
    for (int i = 0; i < 7; i++) {
        ids[i]++;
        ck_assert(!data_from_ids(ids, 7, 3, &b, &e));
        ck_assert_uint_ne(data_digest(a), data_digest(b));
        data_close(b);
        ids[i]--;
    }
    ck_assert(!data_from_ids(ids, 6, 3, &b, &e));
    ck_assert_uint_ne(data_digest(a), data_digest(b));
    data_close(b);
    ck_assert(!data_from_ids(ids, 7, 2, &b, &e)); /* however it is cut */
    ck_assert_uint_eq(data_digest(a), data_digest(b));
    data_close(b);
    data_close(a);
}
END_TEST

START_TEST(ids_make_a_corpus)
{
    const int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    int32_t in[3], out[3], length;
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_int_eq(data_from_ids(ids, 7, 3, &d, &e), 0);
    ck_assert_int_eq(data_samples(d), 2);
    data_sample(d, 1, 3, in, out, &length);
    ck_assert(in[0] == 8 && in[2] == 10 && out[2] == 11);
    data_close(d);
    ck_assert_int_eq(data_from_ids(ids, 3, 3, &d, &e), -ERR_DATA);
    ck_assert_int_eq(data_from_ids(ids, 3, 0, &d, &e), -ERR_USER);
}
END_TEST

UNIT_MAIN("data", a_file_of_tokens_is_cut_into_samples, an_epoch_is_a_permutation,
    orders_differ_by_seed_and_epoch, order_is_fixed_for_good, shares_cover_the_batch,
    a_tenth_at_most_is_held_out, a_digest_is_of_every_token, ids_make_a_corpus)
