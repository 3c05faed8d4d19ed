/*
 * Goal: what rank 0 sends comes whole and in order, whatever its size, with what is to be done of
 * it; who follows ends where rank 0 says so, or is gone, or sends what cannot be. Method: worlds of
 * real processes (ranks.h); messages as short as may be, as one broadcast holds, and longer.
 */
#include "runtime/serve/relay.h"

#include "api/wire.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/unit.h"

#include <string.h>
#include <unistd.h>

#define LIMIT 5000

static struct err e;
static const size_t sizes[] = {0, 1, 1007, 1008, 1009, 1024, LIMIT, 3};
#define SIZES (int)(sizeof sizes / sizeof *sizes)

static uint8_t byte_of(size_t size, size_t i)
{
    return (uint8_t)(size * 7 + i * 31 + i / 256);
}

static int lead(struct relay *r)
{
    for (int k = 0; k < SIZES; k++) {
        uint8_t *message = relay_message(r);
        for (size_t i = 0; i < sizes[k]; i++)
            message[i] = byte_of(sizes[k], i);
        if (relay_send(r, RELAY_RUN, sizes[k], &e) || (k % 2 && relay_send(r, RELAY_REST, 0, &e)))
            return 1;
    }
    return relay_send(r, RELAY_END, 0, &e) ? 2 : 0;
}

struct follower {
    struct relay *relay;
    int seen;
};

static int compare(void *user, size_t bytes, struct err *why)
{
    struct follower *f = user;
    const uint8_t *message = relay_message(f->relay);
    bool right = f->seen < SIZES && bytes == sizes[f->seen] &&
        atomic_load(&ranks_page.phase) == WIRE_PHASE_SERVE_PREFILL;
    for (size_t i = 0; i < bytes && right; i++)
        right = message[i] == byte_of(bytes, i);
    f->seen++;
    return right ? 0 : err_set(why, ERR_DATA, "message %d is another", f->seen);
}

static int follow(struct relay *r, int seen)
{
    struct follower f = {.relay = r};
    int rc = relay_follow(r, compare, &f, WIRE_PHASE_SERVE_PREFILL, &ranks_page, &e);
    return f.seen == seen ? rc : 1;
}

static int all_body(struct coll *c, int rank, const struct ranks *w)
{
    struct relay *r;
    (void)w;
    int step = relay_create(c, LIMIT, &r, &e) ? 10 : 0;
    if (!step)
        step = rank ? (follow(r, SIZES) == -ERR_DRAINED ? 0 : 11) : lead(r);
    if (!step && rank && atomic_load(&ranks_page.phase) != WIRE_PHASE_SERVE_IDLE)
        step = 12; /* of the last rest */
    relay_destroy(r);
    return step;
}

START_TEST(messages_come_whole_and_in_order)
{
    ranks_run((struct ranks){.size = 3, .replica = {0, 0, 1}}, all_body);
    ranks_run((struct ranks){.size = 1, .replica = {0}}, all_body);
}
END_TEST

/* Rank 1 expects less than what comes. */
static int long_body(struct coll *c, int rank, const struct ranks *w)
{
    struct relay *r;
    if (relay_create(c, rank ? 10 : LIMIT, &r, &e))
        return 1;
    int rc = rank ? follow(r, 0) : relay_send(r, RELAY_RUN, 11, &e);
    relay_destroy(r);
    if (!rank)
        ranks_stay_silent(w);
    if (rank && !strstr(e.text, "rank 0 gives order 1 of 11 bytes"))
        return 2;
    return rc == (rank ? -ERR_BUG : 0) ? 0 : 3;
}

static int gone_body(struct coll *c, int rank, const struct ranks *w)
{
    struct relay *r;
    (void)w;
    if (relay_create(c, LIMIT, &r, &e))
        return 1;
    if (!rank)
        _exit(0); /* without a word */
    int rc = follow(r, 0);
    relay_destroy(r);
    return rc == -ERR_PEER ? 0 : 2;
}

/* What run_fn says ends it. */
static int wrong_body(struct coll *c, int rank, const struct ranks *w)
{
    struct relay *r;
    if (relay_create(c, LIMIT, &r, &e))
        return 1;
    int rc = rank ? follow(r, 1) : relay_send(r, RELAY_RUN, 2, &e);
    relay_destroy(r);
    if (!rank)
        ranks_stay_silent(w);
    return rc == (rank ? -ERR_DATA : 0) ? 0 : 2;
}

START_TEST(what_is_amiss_ends_it)
{
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .timeout_ms = 10000}, long_body);
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .timeout_ms = 10000}, gone_body);
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .timeout_ms = 10000}, wrong_body);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "relay", .timeout_s = 60},
        (const TTest *const[]){messages_come_whole_and_in_order, what_is_amiss_ends_it, NULL});
}
