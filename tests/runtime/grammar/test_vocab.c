/*
 * Goal: the tokens that may follow are those, all of those and no others, whose bytes may; and
 * finding them is fast beside a step of a model. Method: masks are compared with what a matcher
 * says of each token by itself; speed by SmolLM2's own tokenizer, whose 49,152 tokens are looked at
 * behind each drawn one: the median is printed, and bounded widely, for machines are busy.
 */
#include "runtime/grammar/vocab.h"

#include "base/clock.h"
#include "base/random.h"
#include "runtime/family/weights.h"
#include "runtime/text/tok.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/grammar/walk.h"
#include "tests/unit.h"

#include <stdlib.h>

static struct err e;
static char path[128];

static const char *const schemas[] = {
    "{\"type\":\"object\"}",
    "{\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":40},"
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"
    "\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"red\",\"green\",\"blue\"]}},"
    "\"when\":{\"type\":\"string\",\"format\":\"date-time\"}},\"required\":[\"name\",\"age\"]}",
    "{\"type\":\"string\",\"maxLength\":2000}",
    "{\"type\":\"string\",\"pattern\":\"^[A-Z][a-z]*( [A-Z][a-z]*)*$\"}",
};

/* -- small -- */

static const char *const words[] = {
    "a", "", "ab", "a", "\"", "\":", "\xc3", "\xc3\xa9", "{\"a\":1}", "{\"a\""};

static int word_of(void *user, int32_t id, struct buf *out)
{
    (void)user;
    return buf_str(out, words[id]);
}

START_TEST(each_token_is_allowed_where_its_bytes_are)
{
    static const char *const texts[] = {"", "{\"", "{\"a", "{\"a\": \"", "{\"a\": \"\xc3"};
    int32_t n = (int32_t)(sizeof words / sizeof *words);
    struct automaton a;
    struct vocab *v = NULL;
    ck_assert(!walk_compile(schemas[0], &a, path, &e));
    ck_assert(!vocab_create(n, word_of, NULL, &v, &e));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct matcher *m = NULL;
        const uint64_t *bits;
        ck_assert(!matcher_create(&a, &m, &e));
        ck_assert(!matcher_take(m, texts[i], strlen(texts[i]), &e));
        int32_t now = matcher_state(m);
        ck_assert(i || matcher_known(m, now, '"') == MATCHER_UNKNOWN);
        ck_assert(!vocab_allowed(v, m, &bits, &e));
        for (int byte = 0; byte < 256; byte++)
            ck_assert_int_eq(
                matcher_known(m, now, (uint8_t)byte), matcher_next(m, now, (uint8_t)byte));
        ck_assert_int_eq(matcher_known(m, MATCHER_NO, 'a'), MATCHER_NO);
        for (int32_t id = 0; id < n; id++) {
            int32_t state = *words[id] ? matcher_state(m) : MATCHER_NO;
            for (const char *p = words[id]; *p; p++)
                state = matcher_next(m, state, (uint8_t)*p);
            ck_assert_msg(
                (bits[0] >> id & 1) == (state != MATCHER_NO), "%s behind %s", words[id], texts[i]);
        }
        ck_assert_int_eq(matcher_take(m, "]", 1, &e), i == 1 || i == 2 || i == 3 ? 0 : -ERR_DATA);
        matcher_destroy(m);
    }
    vocab_destroy(v);
    automaton_done(&a);
}
END_TEST

/* -- a model's -- */

static int text_of(void *user, int32_t id, struct buf *out)
{
    return tok_decode(user, id, true, out);
}

static int by_number(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

#define STEPS 400

static int32_t draw(const uint64_t *bits, int32_t n, uint64_t *seed)
{
    for (int tries = 0; tries < 100000; tries++) {
        int32_t id = (int32_t)(random_next(seed) % (uint64_t)n);
        if (bits[id / 64] >> id % 64 & 1)
            return id;
    }
    for (int32_t id = 0; id < n; id++)
        if (bits[id / 64] >> id % 64 & 1)
            return id;
    return -1;
}

START_TEST(a_mask_is_fast)
{
    char model[1024];
    struct weights *w;
    struct tok *t;
    if (!golden_fetch("smollm2", model))
        return;
    ck_assert_msg(!weights_open(model, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!tok_open(w, &t, &e), "%s", e.text);
    int32_t n = tok_vocab(t);
    struct vocab *v = NULL;
    int64_t began = clock_ns();
    ck_assert(!vocab_create(n, text_of, t, &v, &e));
    printf("%d tokens: a tree in %lld ms\n", n, (long long)(clock_ns() - began) / 1000000);
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        static int64_t took[STEPS];
        struct automaton a;
        struct matcher *m = NULL;
        int steps = 0;
        uint64_t seed = 1;
        ck_assert(!walk_compile(schemas[i], &a, path, &e));
        ck_assert(!matcher_create(&a, &m, &e));
        while (steps < STEPS) {
            const uint64_t *bits;
            buf_auto struct buf text;
            buf_init(&text, 1024);
            began = clock_ns();
            ck_assert_msg(!vocab_allowed(v, m, &bits, &e), "%s", e.text);
            took[steps++] = clock_ns() - began;
            int32_t id = draw(bits, n, &seed);
            if (id < 0)
                break;
            ck_assert(!tok_decode(t, id, true, &text));
            ck_assert(!matcher_take(m, text.data, text.len, &e));
        }
        qsort(took, (size_t)steps, sizeof *took, by_number);
        printf("schema %zu, %d masks: median %lld us, greatest %lld us\n", i, steps,
            (long long)took[steps / 2] / 1000, (long long)took[steps - 1] / 1000);
        ck_assert_msg(took[steps / 2] < 20000000, "%lld ns", (long long)took[steps / 2]);
        matcher_destroy(m);
        automaton_done(&a);
    }
    vocab_destroy(v);
    tok_close(t);
    weights_close(w);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"vocab", 60, NULL, NULL},
        (const TTest *const[]){each_token_is_allowed_where_its_bytes_are, a_mask_is_fast, NULL});
}
