/*
 * Goal: ranks that share sequences have each token once, in order, and as many causal scores each.
 * Method: all pairs of chunks of some numbers of ranks, counted. What is computed of them is
 * compared with one rank's in tests/runtime/train/test_parallel.c.
 */
#include "runtime/model/context.h"

#include "tests/unit.h"

START_TEST(every_token_is_on_one_rank)
{
    for (int size = 1; size <= 9; size++) {
        bool seen[9 * 6] = {false};
        int64_t length = size > 1 ? 3 : 5, tokens = size > 1 ? 2 * length : length;

        for (int rank = 0; rank < size; rank++) {
            const struct context x = {.size = size, .rank = rank};
            int64_t last = -1;

            for (int64_t i = 0; i < tokens; i++) {
                int64_t place = context_place(&x, tokens, i);

                ck_assert(place > last && place < size * tokens && !seen[place]);
                seen[place] = true;
                last = place;
            }
        }
    }
}
END_TEST

START_TEST(what_exists_of_a_rank_are_its_first_tokens)
{
    for (int size = 1; size <= 5; size++)
        for (int64_t length = 0; length <= size * 6; length++)
            for (int rank = 0; rank < size; rank++) {
                const struct context x = {.size = size, .rank = rank};
                int64_t exist = context_length(&x, 6, length);

                for (int64_t i = 0; i < 6; i++)
                    ck_assert((context_place(&x, 6, i) < length) == (i < exist));
            }
}
END_TEST

START_TEST(every_rank_has_as_many_scores)
{
    for (int size = 2; size <= 9; size++)
        for (int rank = 0; rank < size; rank++) {
            int64_t chunks = 0; /* of keys, which those of queries see */

            for (int half = 0; half < 2; half++)
                chunks += context_chunk(size, rank, half) + 1;
            ck_assert_int_eq(chunks, 2 * size + 1);
        }
}
END_TEST

UNIT_MAIN("context", every_token_is_on_one_rank, what_exists_of_a_rank_are_its_first_tokens,
    every_rank_has_as_many_scores)
