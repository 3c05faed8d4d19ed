/*
 * batcher: sequences stand in an array by age. The tokens of one, their pages and how many of them
 * have keys are its whole state, so one that is stopped loses nothing but time. Guesses stand
 * behind its tokens while a pass looks at them. Keys of those that do not come true are behind what
 * counts as done: nobody finds them, and the next rows take their places.
 *
 * The clock is read to bound the next step's rows and to know whether a draft pays, and for nothing
 * else.
 */
#include "runtime/serve/batcher.h"

#include "base/clock.h"
#include "base/fair.h"
#include "base/mem.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/draft.h"
#include "runtime/serve/ngram.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/pages.h"
#include "runtime/serve/sched.h"
#include "runtime/serve/shape.h"
#include "runtime/serve/team.h"
#include "runtime/serve/thrift.h"

#include <assert.h>
#include <string.h>

#define CHUNK_STEP  8   /* rows of prompts come in such multiples: what the products like */
#define FIRST_RATE  0.2 /* rows a millisecond, before any was measured */
#define RATE_WEIGHT 0.2 /* of the newest figure in a running mean */
#define QUANTUM     256 /* tokens of a key in a round, for a weight of 1 */
#define SCORE_ROWS  32  /* of a step whose logits come to the host because prompts are scored */
#define GUESS_ROWS  32  /* of a step that are guesses */

struct batcher_seq {
    void *user;
    int32_t *ids; /* (context) */
    int64_t count, done;
    int32_t *pages;     /* of a context */
    int64_t paged;      /* how many it has */
    int64_t sealed;     /* of these, which are findable */
    int64_t cached;     /* -1: it has not run yet */
    bool running, drew; /* a token, since it began to run */
    struct sampler sampler;
    struct batcher_terms terms;
    struct sample_draw draw; /* of the token that follows; drawn once, whatever is stopped */
    int64_t prompt;          /* tokens that it began with; */
    int64_t scored;          /* of these, whose logits were told */
    float *logits;           /* (V) of its last token; NULL: they stay on the device */
    struct ngram *ngram;     /* NULL: it does not guess */
    int64_t drafted;         /* tokens with keys in the draft's cache, if there is one */
    struct guess guess;
    int offer;              /* guesses behind its tokens; */
    int guesses;            /* of these, that the pass has a row for; */
    int looked_at;          /* of these, that came true so far */
    int first;              /* the part of its next token */
    bool agrees;            /* that is what was guessed: the part behind it counts, too */
    int64_t guessed, right; /* tokens, since it was added */
};

struct batcher {
    struct batcher_conf conf;
    struct pages *pages;
    struct batcher_seq **seq; /* (most + waiting) the oldest first */
    int count;
    struct sched_seq *view;    /* (most + waiting) */
    int64_t *rows;             /* likewise */
    int *order;                /* likewise: in a pass those of an adapter stand side by side */
    struct engine_part *parts; /* (batcher_parts) */
    int *whose;                /* likewise: of each part */
    float *scores;             /* (SCORE_ROWS, V); NULL: no prompt was to be scored yet */
    float *ahead;              /* (GUESS_ROWS, V) of guesses; NULL: nobody has asked yet */
    struct sample_draw draws[GUESS_ROWS];
    int rows_ahead;               /* of these, that the pass has */
    struct draft_part *drafts;    /* (most) of a draft's passes */
    struct batcher_seq **drafted; /* (most) whose they are */
    bool *read;                   /* (pages) the draft has keys of all its tokens */
    int64_t draft_rows;           /* that it was asked to read in this step; 0: it was not asked */
    double draft_rows_per_ms;
    struct thrift thrift;
    struct thrift_step last; /* but for what came true of its guesses, */
    int64_t right;           /* which is what came true since there was so much */
    struct shaper *shaper;   /* NULL: nobody has asked for one yet */
    struct fair turns;       /* of keys, in tokens */
    double busy_ms;          /* a step without prompts */
    double rows_per_ms;      /* of prompts */
    struct batcher_figures figures;
};

/* -- life -- */

int64_t batcher_parts(int most, bool guesses)
{
    int64_t parts = most + SCORE_ROWS + (guesses ? GUESS_ROWS : 0);
    return parts < ENGINE_ROWS ? parts : ENGINE_ROWS;
}

int batcher_create(const struct batcher_conf *c, struct batcher **out, struct err *e)
{
    struct batcher *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for a batcher");
    assert(c->most >= 1 && c->most <= ENGINE_ROWS && c->pages >= kvcache_pages(c->context));
    size_t most = (size_t)c->most + (size_t)c->waiting;
    size_t parts = (size_t)batcher_parts(c->most, c->guesses);
    b->conf = *c;
    fair_init(&b->turns, QUANTUM, QUANTUM);
    b->rows_per_ms = FIRST_RATE;
    b->seq = mem_array(most, sizeof *b->seq);
    b->view = mem_array(most, sizeof *b->view);
    b->rows = mem_array(most, sizeof *b->rows);
    b->order = mem_array(most, sizeof *b->order);
    b->parts = mem_array(parts, sizeof *b->parts);
    b->whose = mem_array(parts, sizeof *b->whose);
    b->drafts = mem_array((size_t)c->most, sizeof *b->drafts);
    b->drafted = mem_array((size_t)c->most, sizeof *b->drafted);
    b->read = mem_array((size_t)c->pages, sizeof *b->read);
    thrift_init(&b->thrift, c->draft ? c->draft_share : 0);
    b->conf.clock_fn = c->clock_fn ? c->clock_fn : clock_ns;
    bool all = b->seq && b->view && b->rows && b->order && b->parts && b->whose;
    int rc = all && b->drafts && b->drafted && b->read
        ? pages_create((int32_t)c->pages, KVCACHE_PAGE, &b->pages, e)
        : err_set(e, ERR_MEMORY, "no memory for %d sequences", c->most);
    if (rc) {
        batcher_destroy(b);
        return rc;
    }
    *out = b;
    return 0;
}

static void seq_destroy(struct batcher_seq *q)
{
    if (!q)
        return;
    mem_free(q->ids);
    mem_free(q->pages);
    mem_free(q->logits);
    ngram_destroy(q->ngram);
    mem_free(q);
}

void batcher_destroy(struct batcher *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->count; i++)
        seq_destroy(b->seq[i]);
    pages_destroy(b->pages);
    shaper_destroy(b->shaper);
    mem_free(b->seq);
    mem_free(b->view);
    mem_free(b->rows);
    mem_free(b->order);
    mem_free(b->parts);
    mem_free(b->whose);
    mem_free(b->scores);
    mem_free(b->ahead);
    mem_free(b->drafts);
    mem_free(b->drafted);
    mem_free(b->read);
    mem_free(b);
}

static bool scores(const struct batcher_seq *q)
{
    return q->sampler.scores && q->scored < q->prompt - 1;
}

/* What is needed on the host of a sequence that asks for more than its tokens. */
static int add_logits(struct batcher *b, struct batcher_seq *q, struct err *e)
{
    size_t v = (size_t)b->conf.vocab;
    bool own = q->sampler.shape || q->sampler.tells;
    if (own)
        q->logits = mem_array(v, sizeof *q->logits);
    if (scores(q) && !b->scores)
        b->scores = mem_array(SCORE_ROWS * v, sizeof *b->scores);
    bool ahead = own && b->conf.guesses;
    if (ahead && !b->ahead)
        b->ahead = mem_array(GUESS_ROWS * v, sizeof *b->ahead);
    if ((own && !q->logits) || (scores(q) && !b->scores) || (ahead && !b->ahead))
        return err_set(e, ERR_MEMORY, "no memory for the logits of a sequence");
    if (!q->sampler.shape || b->shaper)
        return 0;
    return shaper_create(b->conf.dev, b->conf.vocab, &b->shaper, e);
}

int batcher_add(struct batcher *b, const int32_t *ids, int64_t count, const struct sampler *draws,
    const struct batcher_terms *terms, void *user, struct batcher_seq **out, struct err *e)
{
    size_t context = (size_t)b->conf.context;
    struct batcher_seq *q = mem_zalloc(sizeof *q);
    assert(b->count < b->conf.most + b->conf.waiting && count >= 1 && count < b->conf.context);
    if (q) {
        *q = (struct batcher_seq){.user = user,
            .count = count,
            .prompt = count,
            .cached = -1,
            .sampler = *draws,
            .terms = *terms};
        q->ids = mem_array(context, sizeof *q->ids);
        q->pages = mem_array((size_t)kvcache_pages(b->conf.context), sizeof *q->pages);
    }
    if (!q || !q->ids || !q->pages) {
        seq_destroy(q);
        return err_set(e, ERR_MEMORY, "no memory for a sequence");
    }
    int rc = add_logits(b, q, e);
    if (!rc && b->conf.guesses && !b->conf.draft)
        rc = ngram_create(b->conf.context, &q->ngram, e);
    if (rc) {
        seq_destroy(q);
        return rc;
    }
    guess_init(&q->guess, b->conf.guesses);
    memcpy(q->ids, ids, (size_t)count * sizeof *ids);
    q->draw = sampler_draw(&q->sampler);
    fair_weigh(&b->turns, terms->key, terms->weight);
    b->seq[b->count++] = q;
    *out = q;
    return 0;
}

static void drop_pages(struct batcher *b, struct batcher_seq *q)
{
    while (q->paged)
        pages_drop(b->pages, q->pages[--q->paged]);
    q->sealed = q->done = q->drafted = 0;
    q->running = q->drew = false;
}

void batcher_remove(struct batcher *b, struct batcher_seq *q)
{
    int i = 0;
    while (b->seq[i] != q)
        i++;
    drop_pages(b, q);
    memmove(b->seq + i, b->seq + i + 1, (size_t)(--b->count - i) * sizeof(struct batcher_seq *));
    seq_destroy(q);
}

int batcher_count(const struct batcher *b)
{
    return b->count;
}

void *batcher_user(const struct batcher_seq *q)
{
    return q->user;
}

int64_t batcher_cached(const struct batcher_seq *q)
{
    return q->cached > 0 ? q->cached : 0;
}

int64_t batcher_guessed(const struct batcher_seq *q, int64_t *right)
{
    *right = q->right;
    return q->guessed;
}

void batcher_tell(const struct batcher *b, struct batcher_figures *out)
{
    *out = b->figures;
    out->pages = b->conf.pages;
    out->pages_left = pages_left(b->pages);
    out->draft_loses = b->thrift.loses;
}

/* -- pages of a sequence -- */

static void take_pages(struct batcher *b, struct batcher_seq *q, int64_t tokens)
{
    while (q->paged < kvcache_pages(tokens)) {
        int32_t page = pages_take(b->pages);
        assert(page != PAGE_NONE); /* sched counts them */
        b->read[page] = false;
        q->pages[q->paged++] = page;
    }
}

/* Keys follow from the adapter, too; of one salt those of each stand apart. */
static uint64_t salt_of(const struct batcher_seq *q)
{
    return q->terms.salt + (uint64_t)q->terms.adapter * 0x9e3779b97f4a7c15u;
}

/* The last token is computed whatever is found: what follows is drawn from it. So are all whose
   logits are still to be told. */
static void begin(struct batcher *b, struct batcher_seq *q)
{
    int64_t known = scores(q) ? q->scored : q->count - 1;
    q->sealed = q->paged = pages_find(b->pages, salt_of(q), q->ids, known, q->pages);
    q->done = q->paged * KVCACHE_PAGE;
    for (int64_t i = 0; i < q->paged && b->read[q->pages[i]]; i++)
        q->drafted = (i + 1) * KVCACHE_PAGE;
    if (q->cached < 0) {
        q->cached = q->done;
        b->figures.cached += q->done;
    }
    take_pages(b, q, q->count);
    q->running = true;
}

static void seal_pages(struct batcher *b, struct batcher_seq *q)
{
    for (; (q->sealed + 1) * KVCACHE_PAGE <= q->done; q->sealed++)
        pages_seal(b->pages, salt_of(q), q->pages[q->sealed],
            q->sealed ? q->pages[q->sealed - 1] : PAGE_NONE, q->ids + q->sealed * KVCACHE_PAGE);
}

/* -- steps -- */

static bool decodes(const struct batcher_seq *q)
{
    return q->running && q->count - q->done == 1;
}

bool batcher_decodes(const struct batcher *b)
{
    for (int i = 0; i < b->count; i++)
        if (decodes(b->seq[i]))
            return true;
    return false;
}

static int64_t chunk_of(const struct batcher *b)
{
    if (!batcher_decodes(b) || b->conf.target_ms <= 0)
        return b->conf.rows;
    return sched_chunk(b->conf.target_ms, b->busy_ms, b->rows_per_ms, CHUNK_STEP);
}

static struct sched_step ask(struct batcher *b, bool may_begin)
{
    for (int i = 0; i < b->count; i++) {
        const struct batcher_seq *q = b->seq[i];
        b->view[i] = (struct sched_seq){.tokens = q->count,
            .done = q->done,
            .pages = q->paged,
            .running = q->running,
            .drew = q->drew,
            .credit = fair_has(&b->turns, q->terms.key),
            .priority = q->terms.priority,
            .key = q->terms.key,
            .weight = q->terms.weight};
    }
    sched_count(b->view, b->count);
    const struct sched_view v = {.seq = b->view,
        .count = b->count,
        .pages_left = pages_left(b->pages),
        .page_tokens = KVCACHE_PAGE,
        .most_running = b->conf.most,
        .rows = b->conf.rows,
        .chunk = chunk_of(b),
        .may_begin = may_begin};
    return sched_next(&v, b->rows);
}

/* A round of the keys that want more than their next tokens, if all have spent their credit. */
static void begin_round(struct batcher *b)
{
    bool wants[FAIR_CLASSES] = {false};
    for (int i = 0; i < b->count; i++)
        wants[b->seq[i]->terms.key] |= !decodes(b->seq[i]);
    fair_round(&b->turns, wants);
}

/* Whoever is to stop or begin does; returns how many rows are to run. The order stays while this is
   decided. */
static int64_t decide(struct batcher *b)
{
    bool may_begin = true;
    begin_round(b);
    for (;;) {
        const struct sched_step s = ask(b, may_begin);
        if (s.change == SCHED_NONE)
            return s.rows;
        if (s.change == SCHED_BEGIN) {
            begin(b, b->seq[s.which]);
            continue;
        }
        drop_pages(b, b->seq[s.which]);
        b->figures.stopped++;
        b->figures.gave_way += s.change == SCHED_GIVE_WAY;
        may_begin &= s.change == SCHED_GIVE_WAY;
    }
}

/* -- guesses -- */

/* May the draft read those of the first `tokens` that it has not read? Of one that was not timed it
   is taken to be no slower than the model. */
static bool may_read(const struct batcher *b, const struct batcher_seq *q, int64_t tokens)
{
    double rows_per_ms = b->draft_rows_per_ms > 0 ? b->draft_rows_per_ms : b->rows_per_ms;
    return thrift_reads(&b->thrift, (double)(tokens - q->drafted) / rows_per_ms);
}

/* How many tokens are to be guessed of a sequence that decodes. Those that need no model stand
   behind its tokens then. */
static int offer(struct batcher *b, struct batcher_seq *q)
{
    if (b->conf.draft && (!thrift_guesses(&b->thrift, b->last.next) || !may_read(b, q, q->count)))
        return 0;
    int64_t room = b->conf.context - 1 - q->count;
    int n = guess_length(&q->guess);
    if (room < n)
        n = (int)room;
    if (!n || b->conf.draft)
        return n;
    if (!(n = ngram_guess(q->ngram, q->ids, q->count, n, q->ids + q->count)))
        return 0;
    return b->conf.may_follow_fn ? b->conf.may_follow_fn(q->user, q->ids + q->count, n) : n;
}

/* One more row of the sequence, if there is a page for it, and then one for the next token of each
   that runs. */
static bool add_guess(struct batcher *b, struct batcher_seq *q)
{
    int64_t tokens = q->count + q->guesses + 1;
    if (q->guesses == q->offer ||
        (kvcache_pages(tokens) > q->paged && pages_left(b->pages) <= b->conf.most))
        return false;
    take_pages(b, q, tokens);
    q->guesses++;
    return true;
}

/* The draft reads what the model does of prompts, and what was drawn: where it is to guess, and
   else a page at once. */
static int run_draft(struct batcher *b, struct err *e)
{
    int n = 0;
    b->draft_rows = 0;
    for (int i = 0; i < b->count; i++) {
        struct batcher_seq *q = b->seq[i];
        int64_t tokens = q->done + b->rows[i];
        q->drafted = q->drafted < q->done ? q->drafted : q->done;
        if (!b->rows[i] || (decodes(q) && !q->guesses && tokens - q->drafted < KVCACHE_PAGE) ||
            (!q->guesses && !may_read(b, q, tokens)))
            continue;
        b->draft_rows += tokens - q->drafted;
        b->drafted[n] = q;
        b->drafts[n++] = (struct draft_part){.ids = q->ids,
            .count = tokens,
            .done = q->drafted,
            .pages = q->pages,
            .wanted = q->guesses,
            .draw = q->draw,
            .sampler = q->sampler,
            .user = q->user};
    }
    int rc = n ? draft_guess(b->conf.draft, b->drafts, n, b->conf.may_follow_fn, e) : 0;
    for (int i = 0; i < n && !rc; i++) {
        const struct draft_part *p = &b->drafts[i];
        struct batcher_seq *q = b->drafted[i];
        for (int64_t k = q->drafted / KVCACHE_PAGE; (k + 1) * KVCACHE_PAGE <= p->count; k++)
            b->read[q->pages[k]] = true;
        q->guesses = p->guessed;
        q->drafted = p->count + (p->guessed ? p->guessed - 1 : 0);
    }
    return rc;
}

/* How many guesses each sequence has a row for in a step of so many rows without: in turns, the
   oldest first. All have the pages of their rows then. */
static int guess_ahead(struct batcher *b, int64_t rows, struct err *e)
{
    int left = guess_room((int)rows, b->conf.few, GUESS_ROWS);
    if (b->conf.rows - rows < left)
        left = (int)(b->conf.rows - rows);
    b->rows_ahead = 0;
    for (int i = 0; i < b->count; i++) {
        if (b->rows[i])
            take_pages(b, b->seq[i], b->seq[i]->done + b->rows[i]);
        b->last.next += b->rows[i] && decodes(b->seq[i]);
    }
    for (int i = 0; i < b->count; i++) {
        struct batcher_seq *q = b->seq[i];
        q->guesses = q->looked_at = 0;
        q->agrees = false;
        bool may = b->conf.guesses && left > 0 && b->rows[i] && decodes(q) && !scores(q);
        q->offer = may ? offer(b, q) : 0;
    }
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < b->count; i++)
            if (left > 0 && add_guess(b, b->seq[i])) {
                left--;
                more = true;
            }
    }
    int rc = b->conf.draft ? run_draft(b, e) : 0;
    for (int i = 0; i < b->count && !rc; i++) {
        b->last.guesses += b->seq[i]->guesses;
        b->seq[i]->guessed += b->seq[i]->guesses;
        b->figures.guessed += b->seq[i]->guesses;
    }
    return rc;
}

/* Rows of a sequence that decodes, each a part of its own; returns how many. */
static int lay_ahead(struct batcher *b, int i, int n)
{
    struct batcher_seq *q = b->seq[i];
    struct sampler sampler = q->sampler; /* which draws the same numbers, if it comes to that */
    q->first = n;
    for (int k = 0; k <= q->guesses; k++) {
        int row = k ? b->rows_ahead++ : 0;
        if (k)
            b->draws[row] = sampler_draw(&sampler);
        float *logits = k && q->logits ? b->ahead + (int64_t)row * b->conf.vocab : q->logits;
        b->whose[n + k] = i;
        b->parts[n + k] = (struct engine_part){.ids = q->ids + q->done + k,
            .count = 1,
            .past = q->done + k,
            .pages = q->pages,
            .adapter = q->terms.adapter,
            .draw = q->sampler.shape ? NULL
                : k                  ? &b->draws[row]
                                     : &q->draw,
            .logits = logits};
    }
    return q->guesses + 1;
}

/* -- the pass -- */

/* Rows of a prompt that is scored, each a part of its own; returns how many. */
static int lay_scores(struct batcher *b, int i, int64_t rows, int n, int room)
{
    struct batcher_seq *q = b->seq[i];
    int k = 0;
    for (; k < rows && k < room; k++) {
        int64_t at = q->done + k;
        bool last = at + 1 == q->count;
        float *row = b->scores + (int64_t)(SCORE_ROWS - room + k) * b->conf.vocab;
        b->whose[n + k] = i;
        b->parts[n + k] = (struct engine_part){.ids = q->ids + at,
            .count = 1,
            .past = at,
            .pages = q->pages,
            .adapter = q->terms.adapter,
            .draw = last && !q->sampler.shape ? &q->draw : NULL,
            .logits = last ? q->logits : row};
    }
    return k;
}

/* By adapter, the oldest first. */
static void order_sequences(struct batcher *b)
{
    for (int i = 0; i < b->count; i++) {
        int at = i;
        for (; at && b->seq[b->order[at - 1]]->terms.adapter > b->seq[i]->terms.adapter; at--)
            b->order[at] = b->order[at - 1];
        b->order[at] = i;
    }
}

/* The parts of the pass; *prompts: rows that draw nothing, or follow more than one; *all: rows
   of it. */
static int lay_parts(struct batcher *b, int64_t *prompts, int64_t *all)
{
    int n = 0, room = SCORE_ROWS;
    *prompts = *all = 0;
    order_sequences(b);
    for (int k = 0; k < b->count; k++) {
        int i = b->order[k];
        struct batcher_seq *q = b->seq[i];
        int64_t rows = b->rows[i];
        if (rows && scores(q) && rows > room)
            rows = room;
        if (!rows)
            continue;
        *all += rows + q->guesses;
        if (!decodes(q))
            *prompts += rows;
        if (scores(q)) {
            int laid = lay_scores(b, i, rows, n, room);
            room -= laid;
            n += laid;
            continue;
        }
        if (q->guesses) {
            n += lay_ahead(b, i, n);
            continue;
        }
        bool last = q->done + rows == q->count;
        b->whose[n] = i;
        b->parts[n++] = (struct engine_part){.ids = q->ids + q->done,
            .count = rows,
            .past = q->done,
            .pages = q->pages,
            .adapter = q->terms.adapter,
            .draw = last && !q->sampler.shape ? &q->draw : NULL,
            .logits = last ? q->logits : NULL};
    }
    return n;
}

static double mean(double old, double x)
{
    return old > 0 ? old + RATE_WEIGHT * (x - old) : x;
}

static void note_pace(struct batcher *b, int64_t prompts, bool alone, double ms)
{
    if (!prompts)
        b->busy_ms = mean(b->busy_ms, ms);
    double left = alone ? ms : ms - b->busy_ms;
    if (prompts && left > 0)
        b->rows_per_ms = mean(b->rows_per_ms, (double)prompts / left);
}

/* What was drawn of a sequence that had guesses, and whether its next part counts. */
static void judge_guess(struct batcher *b, struct batcher_seq *q, int32_t drawn)
{
    q->agrees = q->looked_at < q->guesses && q->ids[q->count] == drawn;
    if (q->agrees) {
        q->looked_at++;
        q->right++;
        b->figures.right++;
    }
    if (!q->agrees && q->guesses)
        guess_note(&q->guess, q->guesses, q->looked_at);
}

/* What a part that ran has changed; its sequence's next token, if that is drawn, is p->next. */
static int settle(struct batcher *b, struct batcher_seq *q, struct engine_part *p, struct err *e)
{
    int rc = 0;
    q->done += p->count;
    fair_spend(&b->turns, q->terms.key, p->count);
    seal_pages(b, q);
    if (scores(q) && q->done > q->scored && q->done < q->prompt)
        rc = b->conf.score_fn(q->user, q->scored++, p->logits, e);
    if (rc || q->done < q->count)
        return rc;
    if (q->sampler.shape)
        rc = shaper_draw(b->shaper, q->sampler.shape, &q->draw, q->ids, q->prompt, q->count,
            p->logits, &p->next, e);
    if (rc)
        return rc;
    judge_guess(b, q, p->next);
    q->ids[q->count++] = p->next;
    q->drew = true;
    q->draw = sampler_draw(&q->sampler);
    return 0;
}

static int settle_part(struct batcher *b, struct batcher_seq *q, struct engine_part *p,
    struct batcher_drawn *drawn, int *n, struct err *e)
{
    int64_t before = q->count;
    int rc = settle(b, q, p, e);
    if (!rc && q->count > before)
        drawn[(*n)++] = (struct batcher_drawn){q, p->next, q->sampler.tells ? p->logits : NULL};
    return rc;
}
/* The last step is over: what came true of it is known. */
static void settle_account(struct batcher *b)
{
    b->last.right = (int)(b->figures.right - b->right);
    thrift_note(&b->thrift, &b->last);
    b->last = (struct thrift_step){.next = 0};
    b->right = b->figures.right;
}

static int run_pass(struct batcher *b, int64_t rows, int *parts, struct err *e)
{
    int64_t prompts, began = b->conf.clock_fn();
    int rc = guess_ahead(b, rows, e);
    if (rc)
        return rc;
    int64_t guessed = b->conf.clock_fn();
    *parts = lay_parts(b, &prompts, &rows);
    if ((rc = team_tell(b->conf.team, b->parts, *parts, e)) ||
        (rc = ensemble_pass(b->conf.ensemble, b->conf.engine, b->parts, *parts, e)))
        return rc;
    int64_t ended = b->conf.clock_fn();
    b->last.prompts = prompts > 0;
    b->last.draft_ms = b->draft_rows ? (double)(guessed - began) / 1e6 : 0;
    if (b->draft_rows >= CHUNK_STEP && !b->last.guesses && b->last.draft_ms > 0)
        b->draft_rows_per_ms = mean(b->draft_rows_per_ms, (double)b->draft_rows / b->last.draft_ms);
    b->last.pass_ms = (double)(ended - guessed) / 1e6;
    note_pace(b, prompts, rows == prompts, (double)(ended - began) / 1e6);
    b->figures.prompt_rows += prompts;
    return 0;
}

int batcher_step(struct batcher *b, struct batcher_drawn *drawn, int *n, struct err *e)
{
    int64_t rows = decide(b);
    int parts;
    *n = 0;
    if (!rows)
        return 0;
    settle_account(b);
    int rc = run_pass(b, rows, &parts, e);
    if (rc)
        return rc;
    b->figures.steps++;
    for (int i = 0; i < parts; i++) {
        struct batcher_seq *q = b->seq[b->whose[i]];
        if (q->guesses && i > q->first)
            continue;
        if ((rc = settle_part(b, q, &b->parts[i], drawn, n, e)))
            return rc;
    }
    return 0;
}

int batcher_next(struct batcher *b, struct batcher_drawn *drawn, int *n, struct err *e)
{
    int rc = 0;
    *n = 0;
    for (int i = 0; i < b->count && !rc; i++) {
        struct batcher_seq *q = b->seq[i];
        if (q->agrees)
            rc = settle_part(b, q, &b->parts[q->first + q->looked_at], drawn, n, e);
    }
    return rc;
}
