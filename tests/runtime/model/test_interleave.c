/*
 * Goal: the order in which micro-batches go through chunks of layers runs each once, forward before
 * backward and after the layers below, keeps no more of them than it says, and no ranks wait for
 * each other; the time that is idle is that of the paper. Method: many pipelines by a model of
 * ranks whose messages are handed over only when both are there (so without a buffer between), a
 * forward taking a unit and a backward two.
 */
#include "runtime/model/interleave.h"

#include "tests/unit.h"

#define STAGES  6
#define CHUNKS  4
#define BATCHES 15
#define BACK    2 /* times as long as a forward */

struct one { /* of the ranks */
    struct interleave x;
    int64_t turn; /* whose exchange comes next; -1: that before the first */
    int64_t done; /* when it has run that turn */
    int64_t busy;
    int64_t kept[CHUNKS], most[CHUNKS];
    bool sent_up, sent_down, end; /* of this exchange: what is through */
};

static bool has_run[2][STAGES * CHUNKS][BATCHES]; /* forward, backward; by virtual stage */
static struct one ranks[STAGES];

static int virtual_of(const struct one *r, struct interleave_item i)
{
    return i.chunk * r->x.stages + r->x.stage;
}

/* Forward or backward of an item, after what it needs. */
static void run_item(struct one *r, struct interleave_item i, bool back)
{
    int at = virtual_of(r, i), last = r->x.stages * r->x.chunks - 1;
    if (!i.is)
        return;
    ck_assert(i.k >= 0 && i.k < r->x.batches && i.chunk >= 0 && i.chunk < r->x.chunks);
    ck_assert(!has_run[back][at][i.k]);
    if (back)
        ck_assert(has_run[0][at][i.k] && (at == last || has_run[1][at + 1][i.k]));
    else
        ck_assert(at == 0 || has_run[0][at - 1][i.k]);
    ck_assert(i.k == 0 || has_run[back][at][i.k - 1]);
    has_run[back][at][i.k] = true;
    r->kept[i.chunk] += back ? -1 : 1;
    if (r->kept[i.chunk] > r->most[i.chunk])
        r->most[i.chunk] = r->kept[i.chunk];
    r->done += back ? BACK : 1;
    r->busy += back ? BACK : 1;
}

/* What crosses behind a turn: from rank r up, of the forward then; down, of the backward. */
static bool goes_up(const struct one *r)
{
    struct interleave_item i = interleave_forward(&r->x, r->turn);
    return i.is && virtual_of(r, i) + 1 < r->x.stages * r->x.chunks;
}

static bool goes_down(const struct one *r)
{
    struct interleave_item i = interleave_backward(&r->x, r->turn);
    return i.is && virtual_of(r, i) > 0;
}

static bool awaits_from_below(const struct one *r)
{
    struct interleave_item i = interleave_forward(&r->x, r->turn + 1);
    return i.is && virtual_of(r, i) > 0;
}

static bool awaits_from_above(const struct one *r)
{
    struct interleave_item i = interleave_backward(&r->x, r->turn + 1);
    return i.is && virtual_of(r, i) + 1 < r->x.stages * r->x.chunks;
}

/* Are they of the same micro-batch, one layer's edge between? */
static void same_message(const struct one *low, const struct one *high, bool up)
{
    struct interleave_item a =
        up ? interleave_forward(&low->x, low->turn) : interleave_backward(&low->x, low->turn + 1);
    struct interleave_item b = up ? interleave_forward(&high->x, high->turn + 1)
                                  : interleave_backward(&high->x, high->turn);
    ck_assert(a.is && b.is && a.k == b.k);
    ck_assert_int_eq(virtual_of(low, a) + 1, virtual_of(high, b));
}

/* Ranks that are all in their exchange of one hour hand over what they have for each other. */
static void exchange_hour(int n, int64_t hour)
{
    int64_t begins[STAGES];
    for (int i = 0; i < n; i++)
        begins[i] = ranks[i].done;
    for (int i = 0; i < n; i++) {
        struct one *low = &ranks[i], *high = &ranks[(i + 1) % n];
        bool here = !low->end && low->turn + low->x.stage == hour;
        bool there = !high->end && high->turn + high->x.stage == hour;
        bool up = here && goes_up(low), down = there && goes_down(high);
        ck_assert_int_eq(up, there && awaits_from_below(high));
        ck_assert_int_eq(down, here && awaits_from_above(low));
        if (up)
            same_message(low, high, true);
        if (down)
            same_message(low, high, false);
        if (!up && !down)
            continue;
        int64_t both = begins[i] > begins[(i + 1) % n] ? begins[i] : begins[(i + 1) % n];
        low->done = low->done > both ? low->done : both;
        high->done = high->done > both ? high->done : both;
    }
}

static void run_turn(struct one *r)
{
    r->turn++;
    r->end = r->turn == interleave_turns(&r->x);
    run_item(r, interleave_forward(&r->x, r->turn), false);
    run_item(r, interleave_backward(&r->x, r->turn), true);
}

/* Hour by hour: every message of an hour is between ranks that are in it. The time of the last. */
static int64_t run_all(int n)
{
    int64_t hours = interleave_turns(&ranks[0].x) + n, time = 0;
    for (int64_t hour = -1; hour < hours; hour++) {
        exchange_hour(n, hour);
        for (int i = 0; i < n; i++)
            if (!ranks[i].end && ranks[i].turn + i == hour)
                run_turn(&ranks[i]);
    }
    for (int i = 0; i < n; i++) {
        ck_assert(ranks[i].end);
        time = ranks[i].done > time ? ranks[i].done : time;
    }
    return time;
}

static void check(int stages, int chunks, int64_t batches)
{
    memset(has_run, 0, sizeof has_run);
    for (int i = 0; i < stages; i++)
        ranks[i] = (struct one){.x = {stages, i, chunks, batches}, .turn = -1};
    int64_t time = run_all(stages), work = batches * chunks * (1 + BACK);
    for (int i = 0; i < stages; i++) {
        ck_assert_int_eq(ranks[i].busy, work);
        for (int k = 0; k < chunks; k++) {
            ck_assert_int_eq(ranks[i].kept[k], 0);
            ck_assert_msg(ranks[i].most[k] == interleave_in_flight(&ranks[i].x, k),
                "stage %d of %d, chunk %d of %d, %lld batches: %lld, not %lld", i, stages, k,
                chunks, (long long)batches, (long long)ranks[i].most[k],
                (long long)interleave_in_flight(&ranks[i].x, k));
            ck_assert(!k || ranks[i].most[k] <= ranks[i].most[k - 1]);
        }
    }
    if (batches % stages == 0) /* the paper's: a chunk's time for each further stage */
        ck_assert_int_eq(time - work, (stages - 1) * (1 + BACK));
    else
        ck_assert_int_le(
            time - work, (stages - 1 + (stages - batches % stages) * chunks) * (1 + BACK));
}

START_TEST(each_runs_once_in_order_and_nobody_waits_for_ever)
{
    for (int stages = 2; stages <= STAGES; stages++)
        for (int chunks = 2; chunks <= CHUNKS; chunks++)
            for (int64_t batches = 1; batches <= BATCHES; batches++)
                check(stages, chunks, batches);
}
END_TEST

UNIT_MAIN("interleave", each_runs_once_in_order_and_nobody_waits_for_ever)
