/*
 * Goal: the generator gives the numbers of its reference, whoever draws.
 * Method: the first numbers of a seed as java.util.SplittableRandom's reference in C gives them
 * (prng.di.unimi.it/splitmix64.c); the sequence beside the mix of its counter.
 */
#include "base/random.h"

#include "tests/unit.h"

START_TEST(numbers_are_those_of_the_reference)
{
    static const uint64_t expected[] = {6457827717110365317u, 3203168211198807973u,
        9817491932198370423u, 4593380528125082431u, 16408922859458223821u};
    uint64_t state = 1234567;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        ck_assert_uint_eq(random_mix(1234567 + i * RANDOM_STEP), expected[i]);
        ck_assert_uint_eq(random_next(&state), expected[i]);
    }
}
END_TEST

UNIT_MAIN("random", numbers_are_those_of_the_reference)
