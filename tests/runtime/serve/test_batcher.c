/*
 * Goal: a sequence draws the same tokens alone and in any batch: whoever runs beside it, in which
 * chunks its prompt is computed, what is found in the cache, and however often it gives up its
 * pages. Method: random schedules over tiny models of every family, and one whose cache is of
 * blocks: requests that begin alike or not, of several keys and priorities, come and go at any
 * step, in more pages than they need or hardly enough, some with logits that their request shapes,
 * some of a grammar, some with one of two adapters, some that go on with what another said; in most
 * schedules next tokens are guessed, by what stands before them or by a draft; in some adapters are
 * loaded when they are wanted, and one has room at a time. Each one's tokens
 * are compared with those that an engine of its own draws one by one, of an adapter one that has no
 * other. What came to pass (stops, tokens found, batches, guesses that came true and that did not)
 * is counted, so that a schedule that shows nothing fails. Logits that are told, of prompts and of
 * what is drawn, are the engine's, each once. The same of several models that answer as one, and by
 * ranks that share the model, in worlds of real processes, of which rank 0 has the requests. And
 * logits of one pass of many sequences are those of each alone, to the bit.
 * needs: sample
 */
#include "runtime/serve/batcher.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "runtime/serve/shape.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/serve/served.h"
#include "tests/sample.h"

#include <math.h>

#define SCHEDULES 200
#define REQUESTS  12 /* of a schedule */

#define TEAM_SCHEDULES    8 /* at most: until pages ran out, others were found, and guesses right */
#define TEAM_PROMPT       60
#define MEMBERS_SCHEDULES 32 /* likewise, of several models as one */

/* -- one schedule -- */

struct request {
    int32_t ids[CONTEXT];
    int64_t prompt, tokens; /* of these, the prompt; when it has them all it ends */
    int64_t arrives, cancelled_at;
    struct sampler draws;
    struct batcher_terms terms;
    struct shape shape;
    bool formed;  /* by a grammar, shape.constrain */
    bool follows; /* it begins with what another asked and was told, if one has ended */
    int32_t drawn[CONTEXT];
    int64_t count;          /* drawn so far */
    uint64_t told[CONTEXT]; /* digests of the logits after each token */
    int64_t scored;         /* of the prompt's */
    struct batcher_seq *seq;
    struct loras_ticket ticket;
    bool waits, has; /* for its adapter, where not all are there; it has it */
};

static void setup(void)
{
    golden_folder(adapter_folder);
}

static void teardown(void)
{
    golden_remove(adapter_folder);
}

static int64_t vocab; /* of the model that is served */

/* -- answers of a grammar -- */

static struct vocab *texts; /* of the model that is served */
static int32_t end_of_turn; /* its last token */

/* Some tokens are pieces of JSON. */
static int text_of(void *user, int32_t id, struct buf *out)
{
    static const char *const pieces[] = {"{", "}", "\"", "a", "bc", ":", ",", "1", "20", "[", "]",
        " ", "true", "{\"", "\":", "\",", "-"};
    (void)user;
    size_t which = (size_t)id / 3;
    bool none = id % 3 || id == end_of_turn || which >= sizeof pieces / sizeof *pieces;
    return none ? 0 : buf_str(out, pieces[which]);
}

static void open_texts(void)
{
    end_of_turn = (int32_t)vocab - 1;
    ck_assert_msg(!vocab_create((int32_t)vocab, text_of, NULL, &texts, &e), "%s", e.text);
}

static void open_format(struct request *r)
{
    static const char body[] = "{\"response_format\":{\"type\":\"json_object\"}}";
    json_auto struct json *asked = NULL;
    char param[SCHEMA_PATH];
    if (!r->formed)
        return;
    ck_assert_msg(!json_parse(body, sizeof body - 1, &asked, &e), "%s", e.text);
    ck_assert_msg(!constrain_open(asked, WIRE_CALLS_NONE, texts, &r->shape.constrain, param, &e),
        "%s", e.text);
}

static void close_format(struct request *r)
{
    constrain_close(r->shape.constrain);
    r->shape.constrain = NULL;
}

/* The answer goes on; is it over? */
static bool form(struct request *r, int32_t id)
{
    buf_auto struct buf text;
    buf_init(&text, 16);
    if (!r->formed)
        return false;
    ck_assert(!text_of(NULL, id, &text));
    ck_assert_msg(!constrain_take(r->shape.constrain, buf_cstr(&text), text.len, &e), "%s", e.text);
    return id == end_of_turn || constrain_is_over(r->shape.constrain);
}

static int may_follow(void *user, const int32_t *ids, int n)
{
    const struct request *r = user;
    buf_auto struct buf text;
    buf_init(&text, 1 << 10);
    for (int i = 0; i < n && r->formed; i++) {
        ck_assert(!text_of(NULL, ids[i], &text));
        if (!constrain_may_follow(r->shape.constrain, buf_cstr(&text), text.len))
            return i;
    }
    return n;
}

static uint64_t up_to(uint64_t *random, uint64_t n)
{
    return random_next(random) % n + 1;
}

/* A prompt is the beginning of one of three texts, and perhaps words of its own, or one that
   repeats itself. */
static void make_request(struct request *r, const struct served *s, uint64_t *random)
{
    uint64_t text = up_to(random, 3), context = (uint64_t)s->context;
    *r = (struct request){.prompt = (int64_t)up_to(random, context - 1), .terms.weight = 1};
    int64_t own = up_to(random, 2) == 1 ? r->prompt : (int64_t)up_to(random, context);
    for (int64_t i = 0; i < r->prompt; i++)
        r->ids[i] =
            (int32_t)(random_mix(i < own ? text * 1000 + (uint64_t)i : random_next(random)) %
                (uint64_t)vocab);
    int64_t period = (int64_t)up_to(random, 3 * context);
    for (int64_t i = period; i < r->prompt; i++)
        r->ids[i] = r->ids[i - period];
    r->tokens = r->prompt + (int64_t)up_to(random, (uint64_t)(s->context - r->prompt));
    r->arrives = (int64_t)up_to(random, 30);
    r->cancelled_at = up_to(random, 5) == 1 ? (int64_t)up_to(random, 60) : INT64_MAX;
    static const double temperatures[] = {0, 0, 0.8, 1.5, 30};
    sampler_start(&r->draws, temperatures[up_to(random, 5) - 1], up_to(random, 2) == 1 ? 1 : 0.8,
        random_next(random));
    r->shape = (struct shape){.top_k = (int64_t)up_to(random, 40),
        .presence = 0.5f,
        .frequency = 0.1f,
        .repetition = 1.2f};
    if (up_to(random, 3) == 1)
        r->draws.shape = &r->shape;
    r->formed = r->draws.shape && up_to(random, 2) == 1;
    if (r->formed)
        r->shape = (struct shape){.repetition = 1, .end = {(int32_t)vocab - 1}, .ends = 1};
    r->follows = up_to(random, 3) == 1;
    uint64_t adapters = (uint64_t)s->spec.adapter_count + 1; /* most of a text have the same */
    r->terms.adapter = (int)(up_to(random, 4) == 1 ? up_to(random, adapters) - 1 : text % adapters);
    r->draws.tells = up_to(random, 4) == 1;
    r->draws.scores = up_to(random, 4) == 1;
    if (!s->team) {
        r->terms.salt = up_to(random, 4) == 1;
        r->terms.key = (int)up_to(random, 3);
        r->terms.weight = r->terms.key;
        r->terms.priority = (int)up_to(random, 3) - 2;
        return;
    }
    r->prompt = r->prompt < TEAM_PROMPT ? r->prompt : TEAM_PROMPT; /* some begin together, */
    r->tokens = s->context;                                        /* and want all pages */
}

static bool shares; /* whose sums are made in another order */

/* What is kept of logits: all their bits, or the greatest. */
static uint64_t digest(const float *logits)
{
    uint64_t sum = 1;
    float most = logits[0];
    uint32_t bits;
    for (int64_t i = 0; i < vocab; i++) {
        memcpy(&bits, logits + i, sizeof bits);
        sum = random_mix(sum + bits);
        most = logits[i] > most ? logits[i] : most;
    }
    memcpy(&bits, &most, sizeof bits);
    return shares ? bits : sum;
}

static bool alike(uint64_t a, uint64_t b)
{
    float x, y;
    memcpy(&x, &(uint32_t){(uint32_t)a}, sizeof x);
    memcpy(&y, &(uint32_t){(uint32_t)b}, sizeof y);
    return shares ? fabsf(x - y) <= 1e-5f * fabsf(y) : a == b;
}

static int take_score(void *user, int64_t at, const float *logits, struct err *why)
{
    struct request *r = user;
    (void)why;
    ck_assert(r->draws.scores && at == r->scored && at < r->prompt - 1);
    r->told[r->scored++] = digest(logits);
    return 0;
}

/* Half of them with pages for one sequence alone; of a team all, and without a clock. */
static struct batcher_conf make_conf(const struct served *s, uint64_t *random)
{
    int64_t least = kvcache_pages(s->context);
    uint64_t more = up_to(random, (uint64_t)(s->pages - least) + 1) - 1;
    struct batcher_conf c = {.engine = s->engine,
        .ensemble = s->ensemble,
        .team = s->team,
        .dev = s->d,
        .vocab = weights_config(s->w)->vocab,
        .context = s->context,
        .pages = least + (up_to(random, 2) == 1 ? (int64_t)more : 0),
        .most = (int)up_to(random, MOST),
        .waiting = (int)up_to(random, 6) - 1,
        .rows = 8 + (int64_t)up_to(random, 60),
        .target_ms = up_to(random, 2) == 1 ? 0 : 0.5,
        .score_fn = take_score,
        .guesses = up_to(random, 4) == 1 ? 0 : (int)up_to(random, 6),
        .few = up_to(random, 2) == 1 ? 0 : 4,
        .may_follow_fn = may_follow,
        .draft = up_to(random, 2) == 1 ? s->draft : NULL};
    if (s->team) {
        c.pages = least;
        c.most = MOST;
        c.waiting = 0;
        c.target_ms = 0;
    }
    return c;
}

static void end_request(const struct served *s, struct batcher *b, struct request *r)
{
    if (r->seq)
        batcher_remove(b, r->seq);
    r->seq = NULL;
    if (r->waits)
        loras_give_up(s->loras, &r->ticket);
    if (r->has)
        loras_end(s->loras, r->terms.adapter);
    r->waits = r->has = false;
}

static void take_drawn(
    const struct served *s, struct batcher *b, const struct batcher_drawn *drawn, int n)
{
    for (int i = 0; i < n; i++) {
        struct request *r = batcher_user(drawn[i].seq);
        ck_assert_ptr_eq(r->seq, drawn[i].seq);
        ck_assert(!!drawn[i].logits == r->draws.tells);
        ck_assert_int_eq(r->scored, r->draws.scores ? r->prompt - 1 : 0);
        if (drawn[i].logits)
            r->told[r->prompt - 1 + r->count] = digest(drawn[i].logits);
        r->drawn[r->count++] = drawn[i].id;
        if (!form(r, drawn[i].id) && r->prompt + r->count < r->tokens)
            continue;
        end_request(s, b, r);
    }
}

/* The prompt begins as one before, and goes on as that one's answer, the last token apart. */
static void follow_another(struct request *r, const struct request *first)
{
    const struct request *x = r;
    while (r->follows && x-- > first)
        if (!x->seq && !x->waits && x->count > 1) {
            int64_t all = x->prompt + x->count - 1;
            memcpy(r->ids, x->ids,
                (size_t)(r->prompt < x->prompt ? r->prompt : x->prompt) * sizeof *r->ids);
            for (int64_t i = x->prompt; i < all && i < r->prompt; i++)
                r->ids[i] = x->drawn[i - x->prompt];
            r->terms.adapter = x->terms.adapter;
            r->terms.salt = x->terms.salt;
            return;
        }
}

static void add_request(struct batcher *b, struct request *r)
{
    ck_assert_msg(
        !batcher_add(b, r->ids, r->prompt, &r->draws, &r->terms, r, &r->seq, &e), "%s", e.text);
}

/* Those whose adapter has come; how many still wait. Who has nothing else to do waits for it. */
static int add_waiting(const struct served *s, struct batcher *b, struct request *requests)
{
    int waiting = 0;
    if (!s->loras)
        return 0;
    if (!batcher_count(b) && loras_rests(s->loras))
        ck_assert_ptr_null(inbox_take(s->inbox, 10));
    (void)loras_step(s->loras, batcher_count(b) > 0);
    for (struct request *r = requests; r < requests + REQUESTS; r++) {
        if (!r->waits)
            continue;
        int rc = loras_begin(s->loras, &r->ticket, &e);
        ck_assert_msg(!rc || rc == -ERR_RETRY, "%s", e.text);
        r->has = !rc;
        r->waits = rc;
        waiting += r->waits;
        if (r->has)
            add_request(b, r);
    }
    return waiting;
}

static void run_schedule(
    const struct served *s, struct batcher *b, int places, struct request *requests)
{
    int begun = 0, waiting = 0;
    for (int64_t step = 0; begun < REQUESTS || batcher_count(b) || waiting; step++) {
        struct batcher_drawn drawn[MOST];
        int n;
        ck_assert_int_lt(step, 20000);
        for (int i = 0; i < begun; i++)
            if ((requests[i].seq || requests[i].waits) && step >= requests[i].cancelled_at)
                end_request(s, b, &requests[i]);
        waiting = add_waiting(s, b, requests);
        while (begun < REQUESTS && batcher_count(b) + waiting < places &&
            requests[begun].arrives <= step) {
            struct request *r = &requests[begun++];
            follow_another(r, requests);
            open_format(r);
            r->waits = s->loras && r->terms.adapter;
            waiting += r->waits;
            if (r->waits)
                r->ticket = loras_wait(s->loras, r->terms.adapter);
            else
                add_request(b, r);
        }
        ck_assert_msg(!batcher_step(b, drawn, &n, &e), "%s", e.text);
        while (n) {
            take_drawn(s, b, drawn, n);
            ck_assert_msg(!batcher_next(b, drawn, &n, &e), "%s", e.text);
        }
    }
}

/* Tokens of the one sequence of an engine, with the adapter that it has; logits, or NULL, follow
   the last, and so does *next where one is drawn. */
static void run_alone(const struct served *s, const int32_t *ids, int64_t count, int64_t past,
    const struct sample_draw *draw, float *logits, int32_t *next)
{
    int32_t pages[CONTEXT];
    int rc;
    for (int32_t i = 0; i < CONTEXT; i++)
        pages[i] = i;
    struct engine_part part = {.ids = ids,
        .count = count,
        .past = past,
        .pages = pages,
        .adapter = s->ensemble ? 0 : 1,
        .draw = draw,
        .logits = logits};
    if (s->ensemble)
        rc = ensemble_run(s->ensemble, &part, 1, &e);
    else if (s->beside)
        rc = engine_run(s->engine, &part, 1, &e);
    else if (draw)
        rc = engine_next(s->engine, *ids, past, draw, &part.next, &e);
    else
        rc = engine_extend(s->engine, ids, count, past, false, logits, &e);
    ck_assert_msg(!rc, "%s", e.text);
    *next = part.next;
}

/* Once more, of all tokens. */
static void told_alone(const struct served *alone, const struct request *r, uint64_t schedule)
{
    static float logits[1 << 16];
    int64_t all = r->prompt - 1 + (r->draws.tells ? r->count : 0);
    int32_t ids[2 * CONTEXT], next;
    memcpy(ids, r->ids, (size_t)r->prompt * sizeof *ids);
    memcpy(ids + r->prompt, r->drawn, (size_t)r->count * sizeof *ids);
    for (int64_t i = 0; i < all && (r->draws.tells || i < r->scored); i++) {
        bool told = i < r->prompt - 1 ? i < r->scored : r->draws.tells;
        run_alone(alone, ids + i, 1, i, NULL, logits, &next);
        ck_assert_msg(!told || alike(r->told[i], digest(logits)),
            "schedule %llu: logits after token %lld are others than alone",
            (unsigned long long)schedule, (long long)i);
    }
}

/* The token after those that ids has (count), the last of which is not in the cache yet. */
static int32_t next_alone(const struct served *alone, struct request *r, struct shaper *shaper,
    const int32_t *ids, int64_t count)
{
    const struct sample_draw draw = sampler_draw(&r->draws);
    static float logits[1 << 16];
    int32_t id;
    if (!r->draws.shape) {
        run_alone(alone, ids + count - 1, 1, count - 1, &draw, NULL, &id);
        return id;
    }
    ck_assert_int_le(weights_config(alone->w)->vocab, 1 << 16);
    run_alone(alone, ids + count - 1, 1, count - 1, NULL, logits, &id);
    ck_assert_msg(
        !shaper_draw(shaper, r->draws.shape, &draw, ids, r->prompt, count, logits, &id, &e), "%s",
        e.text);
    return id;
}

static void same_alone(
    const struct served *alone, struct request *r, struct shaper *shaper, uint64_t schedule)
{
    int32_t ids[CONTEXT], next;
    memcpy(ids, r->ids, sizeof ids);
    if (r->prompt > 1)
        run_alone(alone, r->ids, r->prompt - 1, 0, NULL, NULL, &next);
    close_format(r);
    open_format(r);
    for (int64_t i = 0; i < r->count; i++) {
        int64_t count = r->prompt + i;
        int32_t id = next_alone(alone, r, shaper, ids, count);
        if (count < CONTEXT)
            ids[count] = id;
        ck_assert_msg(id == r->drawn[i], "schedule %llu: token %lld is %d, alone %d",
            (unsigned long long)schedule, (long long)i, r->drawn[i], id);
        form(r, id);
    }
    close_format(r);
}

/* alone: by adapter, from the one without on. */
static void schedule(const struct served *s, const struct served *alone, uint64_t number,
    struct batcher_figures *sum)
{
    static struct request requests[REQUESTS];
    struct batcher_figures f;
    uint64_t random = random_mix(shares ? 1 : sample_setting("LLMJOB_SEED")) + number;
    vocab = weights_config(s->w)->vocab;
    open_texts();
    for (int i = 0; i < REQUESTS; i++)
        make_request(&requests[i], s, &random);
    const struct batcher_conf c = make_conf(s, &random);
    struct batcher *b;
    ck_assert_msg(!batcher_create(&c, &b, &e), "%s", e.text);
    run_schedule(s, b, c.most + c.waiting, requests);
    batcher_tell(b, &f);
    ck_assert_int_eq(f.pages_left, c.pages); /* those that were cancelled have given them back */
    sum->steps += f.steps;
    sum->stopped += f.stopped;
    sum->gave_way += f.gave_way;
    sum->cached += f.cached;
    sum->prompt_rows += f.prompt_rows;
    sum->guessed += f.guessed;
    sum->right += f.right;
    batcher_destroy(b);
    struct shaper *shaper;
    ck_assert_msg(!shaper_create(alone->d, c.vocab, &shaper, &e), "%s", e.text);
    for (int i = 0; i < REQUESTS; i++)
        same_alone(&alone[requests[i].terms.adapter], &requests[i], shaper, number);
    for (int i = 0; i < REQUESTS; i++)
        told_alone(&alone[requests[i].terms.adapter], &requests[i], number);
    shaper_destroy(shaper);
    vocab_destroy(texts);
}

/* _i: the family. BF16 caches in every other schedule; of the others adapters that are loaded when
   they are wanted in every other. */
START_TEST(random_schedules)
{
    struct batcher_figures sum = {0};
    struct loras_figures loras = {0};
    uint64_t taken = 0;
    if (!_i)
        sample_print();
    for (int t = 0; t < 2; t++) {
        enum dtype type = t ? DTYPE_BF16 : DTYPE_F32;
        struct served alone[1 + ADAPTERS];
        struct served s[] = {
            served_open(_i, type, 40, ALL_ADAPTERS), served_open(_i, type, 40, ONE_AT_A_TIME)};
        served_load_wanted(&s[1]);
        for (int k = 0; k < 2; k++)
            open_draft(&s[k], _i, type);
        for (int k = 0; k <= ADAPTERS; k++)
            alone[k] = served_open(_i, type, 0, k);
        for (uint64_t n = (uint64_t)(2 * _i + t); n < SCHEDULES; n += 2 * (uint64_t)FAMILIES)
            if (sample_takes_of(sample_few(), n / (2 * (uint64_t)FAMILIES)))
                schedule(&s[taken++ % 2], alone, n, &sum);
        loras_tell(s[1].loras, &loras);
        for (int k = 0; k <= ADAPTERS; k++)
            served_close(&alone[k]);
        for (int k = 0; k < 2; k++)
            served_close(&s[k]);
    }
    printf("%s: %llu schedules, %lld steps, %lld stops, %lld to give way, %lld tokens "
           "found, %lld computed, of %lld guesses %lld right; %lld loads, %lld drops\n",
        folder_of(_i), (unsigned long long)taken, (long long)sum.steps, (long long)sum.stopped,
        (long long)sum.gave_way, (long long)sum.cached, (long long)sum.prompt_rows,
        (long long)sum.guessed, (long long)sum.right, (long long)loras.loaded,
        (long long)loras.dropped);
    ck_assert(taken > 0);
    ck_assert(taken < 10 || (sum.cached > 0 && sum.stopped > 0)); /* of fewer none may have to */
    ck_assert(taken < 30 || _i || sum.gave_way > 0);
    ck_assert(taken < 10 || (sum.right > 0 && sum.right < sum.guessed));
    ck_assert(taken < 10 || (loras.loaded > 1 && loras.dropped > 0 && !loras.failed));
}
END_TEST

static bool shows(const struct batcher_figures *f)
{
    return f->cached > 0 && f->stopped > 0 && f->right > 0 && f->right < f->guessed;
}

/* Schedules, `most` of them at most, until pages ran out, others were found, and guesses came true
   and did not; of a team rank 0 runs them. */
static void run_until_shown(const char *what, const struct served *s, const struct served *alone,
    uint64_t most, struct team *team)
{
    struct batcher_figures sum = {0};
    uint64_t n = 0;
    for (; n < most && !shows(&sum); n++) {
        ck_assert_msg(!team_rest(team, &e), "%s", e.text);
        schedule(s, alone, n, &sum);
    }
    ck_assert_msg(!team_end(team, &e), "%s", e.text);
    printf("%s: %llu schedules, %lld steps, %lld stops, %lld tokens found, of %lld guesses %lld "
           "right\n",
        what, (unsigned long long)n, (long long)sum.steps, (long long)sum.stopped,
        (long long)sum.cached, (long long)sum.guessed, (long long)sum.right);
    fflush(stdout); /* a rank's process ends without */
    ck_assert(shows(&sum));
}

/* _i: of what the average is. With guesses of what follows as without: `alone` makes none. */
START_TEST(an_ensemble_draws_the_same_in_any_batch)
{
    ensembles_write(adapter_folder);
    struct jobspec spec = ensembles_job(adapter_folder, (enum average)_i);
    spec.serve.context_length = 64; /* of its members */
    struct served s = served_members(NULL, NULL, 0, &spec, 8),
                  alone = served_members(NULL, NULL, 0, &spec, 0);
    sample_print();
    run_until_shown("an ensemble", &s, &alone, MEMBERS_SCHEDULES, NULL);
    served_close(&s);
    served_close(&alone);
}
END_TEST

/* -- ranks that share the model -- */

static int shared_family;
static struct layout shared;

/* The schedules are always the same: their tokens do not stand so near each other that sums in
   another order change one. */
static int team_body(struct coll *c, int rank, const struct ranks *w)
{
    static struct jobspec spec = {.task = TASK_SERVE};
    const struct orders orders = {.spec = &spec, .rank = rank, .world = w->size};
    char what[96];
    struct team *team;
    shares = true;
    spec.parallelism.tensor = shared.tp;
    spec.parallelism.pipeline = shared.pp;
    ck_assert_msg(!team_open(c, &orders, &team, &e), "%s", e.text);
    struct served s = served_share(team, shared_family, DTYPE_F32, 40, ALL_ADAPTERS);
    if (!team_leads(team)) {
        ck_assert_int_eq(team_follow(team, s.engine, s.ensemble, NULL, &e), -ERR_DRAINED);
    } else {
        struct served alone[1 + ADAPTERS];
        for (int k = 0; k <= ADAPTERS; k++)
            alone[k] = served_open(shared_family, DTYPE_F32, 0, k);
        snprintf(
            what, sizeof what, "%s, tp%d x pp%d", folders[shared_family], shared.tp, shared.pp);
        run_until_shown(what, &s, alone, TEAM_SCHEDULES, team);
        for (int k = 0; k <= ADAPTERS; k++)
            served_close(&alone[k]);
    }
    team_close(team);
    served_close(&s);
    return 0;
}

static struct jobspec several;

/* Of members in several ranks' hands: to the bit, since they are averaged in the same order. */
static int members_body(struct coll *c, int rank, const struct ranks *w)
{
    const struct orders orders = {.spec = &several, .rank = rank, .world = w->size};
    char what[32];
    struct team *team;
    ck_assert_msg(!team_open(c, &orders, &team, &e), "%s", e.text);
    struct served s = served_members(team, c, rank, &several, 40);
    if (!team_leads(team)) {
        ck_assert_int_eq(team_follow(team, NULL, s.ensemble, NULL, &e), -ERR_DRAINED);
    } else {
        struct jobspec one = several;
        one.serve.ensemble.ranks = 0;
        struct served alone = served_members(NULL, NULL, 0, &one, 0);
        snprintf(what, sizeof what, "members of %d ranks", w->size);
        run_until_shown(what, &s, &alone, MEMBERS_SCHEDULES, team);
        served_close(&alone);
    }
    team_close(team);
    served_close(&s);
    return 0;
}

/* _i: of what the average is; of four members two ranks have two each, four one. */
START_TEST(ranks_with_members_draw_what_one_rank_draws)
{
    ensembles_write(adapter_folder);
    several = ensembles_job(adapter_folder, (enum average)_i);
    several.serve.context_length = 64;
    several.serve.ensemble.ranks = _i ? ENSEMBLES_MEMBERS : 2;
    ranks_run(
        (struct ranks){
            .size = several.serve.ensemble.ranks, .replica = {0, _i ? 0 : 1, 1, 1}, .kind = "cpu"},
        members_body);
}
END_TEST

START_TEST(a_team_draws_what_one_rank_draws)
{
    static const struct layout layouts[] = {{1, 2, 1, 1, 1}, {1, 1, 2, 1, 1}, {1, 2, 2, 1, 1}};
    static const int families[] = {0, 1, 3}; /* Llama, GPT-2, Qwen3 */
    if (!sample_takes_of(sample_few(), (uint64_t)_i))
        return;
    shared_family = families[_i / 3];
    shared = layouts[_i % 3];
    struct weights *w; /* the adapters are written before there are ranks */
    ck_assert_msg(!weights_open(folder_of(shared_family), NULL, &w, &e), "%s", e.text);
    (void)adapters_of(weights_config(w), ALL_ADAPTERS);
    weights_close(w);
    ranks_run((struct ranks){.size = shared.tp * shared.pp, .replica = {0, 0, 1, 1}, .kind = "cpu"},
        team_body);
}
END_TEST

/* -- logits -- */

#define PARTS 17

/* Rows of many sequences at once, each after tokens of its own: pages and adapters in any order. */
static void same_logits(int family, enum dtype t, int parts)
{
    struct served s = served_open(family, t, (int64_t)PARTS * 3, ALL_ADAPTERS), alone[1 + ADAPTERS];
    for (int k = 0; k <= ADAPTERS; k++)
        alone[k] = served_open(family, t, 0, k);
    int64_t v = weights_config(s.w)->vocab, longest = 24;
    mem_autofree float *got = mem_array((size_t)(PARTS * v), sizeof *got);
    mem_autofree float *want = mem_array((size_t)v, sizeof *want);
    struct engine_part part[PARTS];
    int32_t ids[PARTS][24], pages[PARTS][2];
    for (int i = 0; i < parts; i++) {
        pages[i][0] = 3 * PARTS - 1 - i;
        pages[i][1] = i;
        for (int k = 0; k < longest; k++)
            ids[i][k] = (int32_t)(random_mix((uint64_t)(i * 100 + k)) % (uint64_t)v);
        int64_t past = i % 9, count = i % 4 ? 1 : longest - past;
        struct engine_part before = {
            .ids = ids[i], .count = past, .pages = pages[i], .adapter = i % (1 + ADAPTERS)};
        ck_assert_msg(!past || !engine_run(s.engine, &before, 1, &e), "%s", e.text);
        part[i] = (struct engine_part){.ids = ids[i] + past,
            .count = count,
            .past = past,
            .pages = pages[i],
            .adapter = before.adapter,
            .logits = got + i * v};
    }
    ck_assert_msg(!engine_run(s.engine, part, parts, &e), "%s", e.text);
    for (int i = 0; i < parts; i++) {
        int64_t tokens = part[i].past + part[i].count;
        int32_t next;
        for (int64_t k = 0; k < tokens; k++) /* one by one */
            run_alone(&alone[part[i].adapter], ids[i] + k, 1, k, NULL,
                k + 1 == tokens ? want : NULL, &next);
        ck_assert_msg(!memcmp(got + i * v, want, (size_t)v * sizeof *want),
            "%s: the logits of sequence %d of %d are others than alone", folder_of(family), i,
            parts);
    }
    for (int k = 0; k <= ADAPTERS; k++)
        served_close(&alone[k]);
    served_close(&s);
}

START_TEST(logits_are_those_of_each_alone)
{
    static const int parts[] = {1, 2, 7, PARTS};
    for (int i = 0; i < 4; i++) {
        same_logits(_i, DTYPE_F32, parts[i]);
        same_logits(_i, DTYPE_BF16, parts[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("batcher");
    TCase *c = tcase_create("batcher");
    tcase_set_timeout(c, 240);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, random_schedules, 0, FAMILIES);
    tcase_add_loop_test(c, an_ensemble_draws_the_same_in_any_batch, 0, 2);
    tcase_add_loop_test(c, ranks_with_members_draw_what_one_rank_draws, 0, 2);
    tcase_add_loop_test(c, a_team_draws_what_one_rank_draws, 0, 9);
    tcase_add_loop_test(c, logits_are_those_of_each_alone, 0, FAMILIES);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
