/*
 * Goal: what a request changes of its logits is what docs/openai.md says, in vLLM's order, and one
 * that changes nothing draws what all others draw. Method: random logits, texts and requests; the
 * probabilities that follow are computed here once more, in double and from the definitions, and
 * drawn from by many numbers u: a token of none never comes, and each comes as often as it should.
 * Seeds are printed.
 */
#include "runtime/serve/shape.h"

#include "base/random.h"
#include "kernels/ops.h"
#include "tests/unit.h"

#include <math.h>

#define V     13
#define DRAWS 4000

static struct dev *dev;
static struct shaper *shaper;
static struct err e;

static void setup(void)
{
    ck_assert_msg(!dev_open("cpu", 0, 1, &dev, &e), "%s", e.text);
    ck_assert_msg(!shaper_create(dev, V, &shaper, &e), "%s", e.text);
}

static void teardown(void)
{
    shaper_destroy(shaper);
    dev_close(dev);
}

static int read_text(const char *text, struct shape *out)
{
    json_auto struct json *body = NULL;
    e = (struct err){0};
    ck_assert_msg(!json_parse(text, strlen(text), &body, &e), "%s", e.text);
    return shape_read(body, V, out, &e);
}

static struct shape shape_of(const char *text)
{
    struct shape s;
    ck_assert_msg(!read_text(text, &s), "%s: %s", text, e.text);
    return s;
}

/* -- from the definitions -- */

struct text {
    int32_t ids[40];
    int64_t prompt, count;
    float logits[V];
    struct sample_draw draw;
};

static int64_t occurs(const struct text *t, int64_t from, int32_t id)
{
    int64_t n = 0;
    for (int64_t i = from; i < t->count; i++)
        n += t->ids[i] == id;
    return n;
}

static double changed_logit(const struct text *t, const struct shape *s, int32_t id)
{
    double x = t->logits[id];
    int64_t generated = occurs(t, t->prompt, id);
    for (int i = 0; i < s->ends && t->count - t->prompt < s->min_tokens; i++)
        if (s->end[i] == id)
            return -INFINITY;
    for (int i = 0; i < s->biases; i++)
        x += s->biased[i] == id ? (double)s->bias[i] : 0;
    if (occurs(t, 0, id))
        x = x > 0 ? x / (double)s->repetition : x * (double)s->repetition;
    x -= (double)s->frequency * (double)generated;
    return generated ? x - (double)s->presence : x;
}

/* Probabilities at a temperature above 0. */
static void want_of(const struct text *t, const struct shape *s, double p[V])
{
    double x[V], top = -INFINITY, sum = 0, all = 0;
    for (int32_t i = 0; i < V; i++) {
        x[i] = changed_logit(t, s, i) / (double)t->draw.temperature;
        top = fmax(top, x[i]);
    }
    for (int i = 0; i < V; i++) {
        int better = 0;
        for (int j = 0; j < V; j++)
            better += x[j] > x[i] || (x[j] == x[i] && j < i);
        p[i] = exp(x[i] - top);
        if (p[i] < (double)s->min_p || (s->top_k && better >= s->top_k))
            p[i] = 0;
        sum += p[i];
    }
    double kept[V];
    for (int i = 0; i < V; i++) {
        double before = 0;
        for (int j = 0; j < V; j++)
            before += p[j] > p[i] || (p[j] == p[i] && j < i) ? p[j] / sum : 0;
        kept[i] = before < (double)t->draw.top_p ? p[i] : 0;
        all += kept[i];
    }
    for (int i = 0; i < V; i++)
        p[i] = kept[i] / all;
}

static int32_t drawn(const struct text *t, const struct shape *s, float u)
{
    struct sample_draw draw = t->draw;
    int32_t token = -1;
    draw.u = u;
    ck_assert_int_eq(
        shaper_draw(shaper, s, &draw, t->ids, t->prompt, t->count, t->logits, &token, &e), 0);
    ck_assert(token >= 0 && token < V);
    return token;
}

static double of(uint64_t *random, double from, double to)
{
    return from + (to - from) * (double)(random_next(random) >> 11) * 0x1p-53;
}

static struct text random_text(uint64_t *random)
{
    struct text t = {.prompt = 1 + (int64_t)(random_next(random) % 10)};
    t.count = t.prompt + (int64_t)(random_next(random) % 25);
    for (int64_t i = 0; i < t.count; i++)
        t.ids[i] = (int32_t)(random_next(random) % V);
    for (int i = 0; i < V; i++)
        t.logits[i] = (float)of(random, -2, 2);
    t.draw = (struct sample_draw){
        (float)of(random, 0.5, 2), random_next(random) % 2 ? 1 : (float)of(random, 0.3, 0.95), 0};
    return t;
}

/* Each field in about half of the requests. */
static struct shape random_shape(uint64_t *random)
{
    char text[512];
    uint64_t some = random_next(random);
    snprintf(text, sizeof text,
        "{\"top_k\":%d,\"min_p\":%g,\"presence_penalty\":%g,\"frequency_penalty\":%g,"
        "\"repetition_penalty\":%g,\"min_tokens\":%d,\"logit_bias\":{%s}}",
        some & 1 ? (int)of(random, 1, V) : -1, some & 2 ? of(random, 0, 0.6) : 0,
        some & 4 ? of(random, -2, 2) : 0, some & 8 ? of(random, -1, 1) : 0,
        some & 16 ? of(random, 0.5, 2) : 1, some & 32 ? 12 : 0,
        some & 64 ? "\"3\":-100,\"7\":1.5" : "");
    struct shape s = shape_of(text);
    s.ends = 2;
    s.end[0] = 5;
    s.end[1] = 11;
    return s;
}

START_TEST(probabilities_are_those_of_the_definitions)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t random = seed;
        const struct text t = random_text(&random);
        const struct shape s = random_shape(&random);
        double want[V], got[V] = {0};
        want_of(&t, &s, want);
        for (int i = 0; i < DRAWS; i++)
            got[drawn(&t, &s, ((float)i + 0.5f) / DRAWS)] += 1.0 / DRAWS;
        for (int i = 0; i < V; i++)
            ck_assert_msg(fabs(got[i] - want[i]) < 1.5 / DRAWS + 1e-5,
                "seed %llu: token %d comes with %g, should with %g", (unsigned long long)seed, i,
                got[i], want[i]);
    }
}
END_TEST

/* Greedy: the likeliest of the changed logits, whatever top_k and min_p say. */
START_TEST(the_likeliest_is_of_what_was_changed)
{
    int moved = 0;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        uint64_t random = seed;
        struct text t = random_text(&random);
        const struct shape s = random_shape(&random);
        int32_t best = 0, first = 0;
        t.draw = (struct sample_draw){0, 1, 0};
        for (int32_t i = 1; i < V; i++) {
            best = changed_logit(&t, &s, i) > changed_logit(&t, &s, best) ? i : best;
            first = t.logits[i] > t.logits[first] ? i : first;
        }
        ck_assert_msg(drawn(&t, &s, 0) == best, "seed %llu", (unsigned long long)seed);
        moved += best != first;
    }
    ck_assert_int_gt(moved, 50);
}
END_TEST

START_TEST(a_plain_one_draws_what_all_draw)
{
    static const char *const plain[] = {"{}",
        "{\"top_k\":0,\"min_p\":0,\"repetition_penalty\":1,\"logit_bias\":{},\"min_tokens\":0}",
        "{\"top_k\":-1,\"presence_penalty\":0,\"frequency_penalty\":0}", "{\"top_k\":13}"};
    for (int i = 0; i < 4; i++)
        ck_assert(shape_of(plain[i]).plain);
    const struct shape s = shape_of("{}");
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed;
        struct text t = random_text(&random);
        struct {
            struct dev *dev;
        } on = {dev};
        int32_t want;
        t.draw.u = (float)of(&random, 0, 0.999);
        OP(&on, sample, .n = 1, .v = V, .logits = t.logits, .temperature = &t.draw.temperature,
            .top_p = &t.draw.top_p, .u = &t.draw.u, .token = &want);
        ck_assert_int_eq(drawn(&t, &s, t.draw.u), want);
    }
}
END_TEST

START_TEST(what_may_not_be_is_refused)
{
    static const struct {
        const char *text, *word;
    } table[] = {{"{\"logit_bias\":{\"13\":1}}", "0 to 12"},
        {"{\"logit_bias\":{\"x\":1}}", "no token"}, {"{\"logit_bias\":{\"\":1}}", "no token"},
        {"{\"logit_bias\":{\"1\":101}}", "-100 to 100"}, {"{\"top_k\":-2}", "top_k"},
        {"{\"min_p\":1.1}", "min_p"}, {"{\"presence_penalty\":3}", "presence"},
        {"{\"frequency_penalty\":-3}", "frequency"}, {"{\"repetition_penalty\":0}", "repetition"},
        {"{\"min_tokens\":-1}", "min_tokens"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct shape s;
        ck_assert_int_eq(read_text(table[i].text, &s), -ERR_USER);
        ck_assert_msg(strstr(e.text, table[i].word), "case %zu: %s", i, e.text);
    }
}
END_TEST

static int create_under_faults(void *user)
{
    struct shaper *s;
    (void)user;
    int rc = shaper_create(dev, V, &s, &e);
    if (!rc)
        shaper_destroy(s);
    return rc;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, create_under_faults, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"shape", 60, setup, teardown},
        (const TTest *const[]){probabilities_are_those_of_the_definitions,
            the_likeliest_is_of_what_was_changed, a_plain_one_draws_what_all_draw,
            what_may_not_be_is_refused, out_of_memory, NULL});
}
