/*
 * Goal: a draft guesses what its model says next, from a cache that stays right whatever comes to
 * pass: it takes what its plan says, and one of other tokens is refused by name. Method: a draft
 * that is the model itself has to guess every token, greedy or drawn, but for the first ones of a
 * request that may not say some: in random schedules in which sequences begin as others did or went
 * on, rest, lack pages and begin again; the seed is printed on failure. What is guessed stops where
 * it may not follow.
 */
#include "runtime/serve/draft.h"

#include "base/mem.h"
#include "base/random.h"
#include "runtime/family/weights.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/shape.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#define CONTEXT   96
#define PAGES     14
#define SCHEDULES 12
#define REQUESTS  10

#define MIN_TOKENS 10
#define GUESSES    5

static char folder[64], model[128];
static struct err e;
static struct dev *d;

static void setup(void)
{
    golden_folder(folder);
    bytes_model(folder);
    snprintf(model, sizeof model, "%s/model", folder);
    ck_assert_msg(!dev_open("cpu", 0, 1, &d, &e), "%s", e.text);
}

static void teardown(void)
{
    dev_close(d);
    golden_remove(folder);
}

static struct draft_conf conf_of(const char *source, int64_t vocab, int64_t context)
{
    return (struct draft_conf){
        .source = source, .t = DTYPE_F32, .vocab = vocab, .context = context};
}

static void opened(struct draft **out)
{
    const struct draft_conf c = conf_of(model, 256, CONTEXT);
    ck_assert_msg(!draft_open(&c, out, &e), "%s", e.text);
}

/* -- every token -- */

/* What a request may not say in its first tokens the draft, which does not know of it, guesses. */
static struct shape kept_going = {.repetition = 1, .min_tokens = MIN_TOKENS};

struct asked {
    int32_t ids[CONTEXT];
    int64_t prompt, count, tokens; /* it began with, has, ends with */
    bool shaped;                   /* kept_going, */
    int64_t wrong;                 /* guesses, while some could be */
    struct batcher_seq *seq;
};

static void begin(struct batcher *b, struct asked *r, int i, uint64_t *random)
{
    const struct batcher_terms terms = {.weight = 1};
    struct sampler draws;
    const struct asked *x = &r[random_next(random) % (uint64_t)(i + 1)];
    r += i;
    r->count = 1 + (int64_t)(random_next(random) % 60);
    r->tokens = r->count + 1 + (int64_t)(random_next(random) % (uint64_t)(CONTEXT - r->count));
    r->prompt = r->count;
    for (int64_t k = 0; k < r->count; k++) /* as another began, and perhaps went on */
        r->ids[k] = k < x->count && x != r ? x->ids[k] : (int32_t)(random_next(random) % 256);
    sampler_start(&draws, random_next(random) % 2 ? 0 : 1.2, 1, random_next(random));
    if (random_next(random) % 2)
        draws.shape = &kept_going;
    r->shaped = draws.shape;
    ck_assert_msg(!batcher_add(b, r->ids, r->count, &draws, &terms, r, &r->seq, &e), "%s", e.text);
}

static void take(struct batcher *b, const struct batcher_drawn *drawn, int n, uint64_t *random)
{
    for (int i = 0; i < n; i++) {
        struct asked *r = batcher_user(drawn[i].seq);
        r->ids[r->count++] = drawn[i].id;
        if (r->count < r->tokens && random_next(random) % 64)
            continue;
        batcher_remove(b, r->seq);
        r->seq = NULL;
    }
}

static void all_right(struct asked *r, uint64_t seed)
{
    int64_t right, guessed;
    if (!r->seq)
        return;
    guessed = batcher_guessed(r->seq, &right);
    if (r->count - r->prompt <= MIN_TOKENS + GUESSES + 1 && r->shaped)
        r->wrong = guessed - right;
    ck_assert_msg(guessed - right == r->wrong, "seed %llu: of %lld guesses %lld were right",
        (unsigned long long)seed, (long long)guessed, (long long)right);
}

static struct batcher_figures run_schedule(struct engine *g, struct draft *draft, uint64_t seed)
{
    static struct asked requests[REQUESTS];
    struct batcher_drawn drawn[4];
    struct batcher_figures f;
    struct batcher *b;
    uint64_t random = seed;
    const struct batcher_conf c = {.engine = g,
        .dev = d,
        .vocab = 256,
        .context = CONTEXT,
        .pages = seed % 2 ? PAGES : kvcache_pages(CONTEXT),
        .most = 4,
        .rows = 24,
        .guesses = 1 + (int)(seed % GUESSES),
        .few = seed % 3 ? 0 : 4,
        .draft = draft};
    memset(requests, 0, sizeof requests);
    ck_assert_msg(!batcher_create(&c, &b, &e), "%s", e.text);
    for (int begun = 0, n; begun < REQUESTS || batcher_count(b);) {
        if (begun < REQUESTS && batcher_count(b) < 4 && random_next(&random) % 4 == 0)
            begin(b, requests, begun++, &random);
        ck_assert_msg(!batcher_step(b, drawn, &n, &e), "%s", e.text);
        while (n) {
            take(b, drawn, n, &random);
            ck_assert_msg(!batcher_next(b, drawn, &n, &e), "%s", e.text);
        }
        for (int i = 0; i < begun; i++)
            all_right(&requests[i], seed);
    }
    batcher_tell(b, &f);
    batcher_destroy(b);
    return f;
}

/* But for those of a sequence that has ended meanwhile, which nobody looks at. */
START_TEST(itself_it_guesses_always)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = CONTEXT, .kv_pages = PAGES};
    struct batcher_figures sum = {0};
    struct weights *w;
    struct model *m;
    struct engine *g;
    struct draft *draft;
    ck_assert_msg(!weights_open(model, NULL, &w, &e), "%s", e.text);
    c.config = *weights_config(w);
    ck_assert(!model_create(d, &c, &m, &e) && !model_load(m, w, &e) && !engine_create(m, &g, &e));
    for (int i = 0; i < SHAPE_ENDS; i++)
        kept_going.end[kept_going.ends++] = 4 * i;
    opened(&draft);
    ck_assert_msg(!draft_load(draft, d, PAGES, NULL, &e), "%s", e.text);
    for (uint64_t seed = 1; seed <= SCHEDULES; seed++) {
        const struct batcher_figures f = run_schedule(g, draft, seed);
        sum.guessed += f.guessed;
        sum.right += f.right;
        sum.cached += f.cached;
        sum.stopped += f.stopped;
    }
    printf("%lld guesses, %lld right, %lld tokens found, %lld stops\n", (long long)sum.guessed,
        (long long)sum.right, (long long)sum.cached, (long long)sum.stopped);
    ck_assert(sum.right > 1000 && sum.cached > 0 && sum.stopped > 0);
    draft_close(draft);
    engine_destroy(g);
    model_destroy(m);
    weights_close(w);
}
END_TEST

/* -- what may follow -- */

static int no_more_than_two(void *user, const int32_t *ids, int n)
{
    ck_assert(user == &folder && ids[n - 1] >= 0 && ids[n - 1] < 256);
    return n < 2 ? n : 2;
}

START_TEST(guesses_end_where_they_may_not_follow)
{
    struct draft *draft;
    int32_t ids[2][CONTEXT] = {{'a', 'b', 'c'}, {'d'}}, pages[2][1] = {{0}, {1}};
    opened(&draft);
    ck_assert_msg(!draft_load(draft, d, PAGES, NULL, &e), "%s", e.text);
    struct draft_part p[2] = {{.ids = ids[0],
                                  .count = 3,
                                  .pages = pages[0],
                                  .wanted = 5,
                                  .draw = {0, 1, 0},
                                  .user = folder},
        {.ids = ids[1], .count = 1, .pages = pages[1]}};
    p[0].sampler.top_p = 1;
    ck_assert_msg(!draft_guess(draft, p, 2, no_more_than_two, &e), "%s", e.text);
    ck_assert(p[0].guessed == 2 && !p[1].guessed);
    p[0].done = 0;
    p[0].wanted = 5;
    int32_t two[2] = {ids[0][3], ids[0][4]};
    ck_assert_msg(!draft_guess(draft, p, 1, NULL, &e), "%s", e.text);
    ck_assert(p[0].guessed == 5 && !memcmp(two, ids[0] + 3, sizeof two));
    draft_close(draft);
}
END_TEST

/* -- which it may be -- */

static void refused(struct draft_conf c, const char *why)
{
    struct draft *draft = NULL;
    e = (struct err){0};
    ck_assert_int_lt(draft_open(&c, &draft, &e), 0);
    ck_assert_msg(
        strstr(e.text, "spec.serve.speculation.model: ") && strstr(e.text, why), "%s", e.text);
    ck_assert_ptr_null(draft);
}

START_TEST(others_are_refused)
{
    struct weights *w;
    struct draft *draft;
    struct tok *t;
    char path[192];
    buf_auto struct buf text;
    refused(conf_of(model, 257, 64), "it has 256 tokens of vocabulary, spec.model has 257");
    refused(conf_of(model, 256, 4096), "its context is 128 tokens, and spec.serve");
    refused(conf_of("/nowhere", 256, 64), "/nowhere");
    opened(&draft);
    ck_assert_msg(!weights_open(model, NULL, &w, &e) && !tok_open(w, &t, &e), "%s", e.text);
    ck_assert_msg(!draft_compare(draft, t, &e), "%s", e.text);
    draft_close(draft);
    snprintf(path, sizeof path, "%s/tokenizer.json", model);
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(path, 1 << 20, &text, &e));
    char *a = strstr(buf_cstr(&text), "\"a\":97"), *b = strstr(buf_cstr(&text), "\"b\":98");
    ck_assert(a && b);
    a[1] = 'b';
    b[1] = 'a';
    ck_assert(!io_write_file(path, text.data, text.len, 0644, &e));
    opened(&draft);
    ck_assert_int_eq(draft_compare(draft, t, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "its token 97 is \"b\", spec.model's \"a\""), "%s", e.text);
    draft_close(draft);
    tok_close(t);
    weights_close(w);
}
END_TEST

START_TEST(it_takes_what_it_says)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = CONTEXT};
    struct weights *w;
    struct draft *draft;
    struct memplan less, more;
    opened(&draft);
    ck_assert(!weights_open(model, NULL, &w, &e));
    c.config = *weights_config(w);
    ck_assert(!memplan_model(&c, w, &less, &e));
    c.kv_pages = kvcache_pages(CONTEXT) + 3;
    ck_assert(!memplan_model(&c, w, &more, &e));
    ck_assert_int_eq(draft_bytes(draft), less.total);
    ck_assert_int_eq(3 * draft_page_bytes(draft), more.total - less.total);
    c.draft_bytes = draft_bytes(draft);
    ck_assert(!memplan_model(&c, w, &less, &e));
    ck_assert_int_eq(less.total - more.total, c.draft_bytes);
    ck_assert_int_eq(memplan_require(&less, 1, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, ", draft "), "%s", e.text);
    weights_close(w);
    draft_close(draft);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"draft", 60, setup, teardown},
        (const TTest *const[]){itself_it_guesses_always, guesses_end_where_they_may_not_follow,
            others_are_refused, it_takes_what_it_says, NULL});
}
