/*
 * Goal: a part in memory is to the byte the file that a writer makes, outlives who wrote it, and is
 * there whole or not at all: not while it is made, not cut short, not with a flipped bit. Of parts
 * in many memories the newest generation is found whose parts are all there. Method: slots of a
 * file of memory written by a child that ends within; random worlds whose answer is known by their
 * making; every call failed once (FAULT builds).
 * needs: faults
 */
#include "runtime/ckpt/copy.h"

#include "base/io.h"
#include "base/random.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOTAL 5000
#define ROOM  (TOTAL * 4)
#define WORLD 3
#define RANK  1

static struct err e;
static float x[TOTAL];

static void fill(int step)
{
    for (int i = 0; i < TOTAL; i++)
        x[i] = (float)(step * 10000 + i);
}

static int make_memory(void)
{
    int fd = memfd_create("copies", MFD_CLOEXEC);
    ck_assert(fd >= 0 && !ftruncate(fd, (off_t)1 << 50));
    return fd;
}

static int put(struct ckpt_writer *w, int64_t count, struct err *why)
{
    return ckpt_put(w, "x", TOTAL, 0, count, DTYPE_F32, x, why);
}

static struct ckpt_state state_of(int step)
{
    return (struct ckpt_state){
        .step = step, .samples = step * 8, .incarnation = 4, .world = WORLD, .loss = 1.5};
}

static int copy(struct ckpt_copy_slot *s, int step, struct err *why)
{
    struct ckpt_writer *w = NULL;
    const struct ckpt_state state = state_of(step);
    fill(step);
    int rc = ckpt_copy_begin(s, "", step, RANK, &w, why);
    if (rc)
        return rc;
    rc = put(w, TOTAL, why);
    if (!rc)
        return ckpt_copy_seal(s, w, &state, RANK, why);
    ckpt_abandon(w);
    return rc;
}

static struct ckpt_copy look(int fd, int slot)
{
    struct ckpt_copy c;
    struct ckpt_state s = {.step = -1};
    ck_assert_msg(!ckpt_copy_look(fd, slot, &c, &s, &e), "%s", e.text);
    ck_assert(
        c.world ? s.step == c.step && s.samples == 8 * c.step && s.loss == 1.5 : s.step == -1);
    return c;
}

static void is_step(int fd, int slot, int step)
{
    const struct ckpt_copy c = look(fd, slot);
    float is[TOTAL];
    ck_assert(c.step == step && c.incarnation == 4 && c.world == WORLD && c.rank == RANK);
    ck_assert_msg(!ckpt_copy_check(fd, &c, &e), "%s", e.text);
    ck_assert(!ckpt_copy_read(fd, &c, is, sizeof is, c.bytes - (int64_t)sizeof is, &e));
    fill(step);
    ck_assert(!memcmp(is, x, sizeof x));
    ck_assert_int_eq(ckpt_copy_read(fd, &c, is, 2, c.bytes - 1, &e), -ERR_CORRUPT);
}

/* Slots of two ranks of a pod; turns stand beside each other. */
START_TEST(a_part_is_the_file_that_a_writer_makes)
{
    int fd = make_memory(), slot = ckpt_copy_slot(1, CKPT_COPY_OWN, 1);
    struct ckpt_copy_slot s, other;
    char folder[64], hash[17];
    int64_t bytes;
    struct ckpt_writer *w;
    ck_assert(!ckpt_copy_open(fd, slot, ROOM, &s, &e));
    ck_assert(!ckpt_copy_open(fd, ckpt_copy_slot(1, CKPT_COPY_OWN, 0), ROOM, &other, &e));
    ck_assert_int_eq(look(fd, slot).world, 0);
    ck_assert_msg(!copy(&s, 5, &e), "%s", e.text);
    ck_assert_msg(!copy(&other, 6, &e), "%s", e.text);
    is_step(fd, slot, 5);
    golden_folder(folder);
    ck_assert(!ckpt_begin(folder, 5, RANK, &w, &e));
    fill(5);
    ck_assert(!put(w, TOTAL, &e) && !ckpt_finish(w, hash, &bytes, &e));
    ck_assert_str_eq(look(fd, slot).hash, hash);
    ck_assert_int_eq(look(fd, slot).bytes, bytes);
    golden_remove(folder);
    ckpt_copy_close(&s);
    ckpt_copy_close(&s);
    is_step(fd, slot, 5);
    ck_assert(!ckpt_copy_drop(fd, slot, &e));
    ck_assert_int_eq(look(fd, slot).world, 0);
    is_step(fd, ckpt_copy_slot(1, CKPT_COPY_OWN, 0), 6);
    ckpt_copy_close(&other);
    close(fd);
}
END_TEST

/* Dies in the middle of a copy, of which there was one before. */
START_TEST(what_is_half_made_is_none)
{
    int fd = make_memory();
    struct ckpt_copy_slot s;
    struct ckpt_writer *w;
    for (int stage = 0; stage < 3; stage++) {
        pid_t pid = fork();
        if (!pid) {
            bool ok = !ckpt_copy_open(fd, stage, ROOM, &s, &e) && !copy(&s, 5, &e) &&
                (!stage || !ckpt_copy_begin(&s, "", 6, RANK, &w, &e)) &&
                (stage < 2 || !put(w, TOTAL / 2, &e));
            _exit(!ok);
        }
        int status = 1;
        ck_assert(waitpid(pid, &status, 0) == pid && status == 0);
        ck_assert_int_eq(look(fd, stage).world, stage ? 0 : WORLD);
    }
    is_step(fd, 0, 5);
    close(fd);
}
END_TEST

START_TEST(damage_is_seen)
{
    int fd = make_memory();
    struct ckpt_copy_slot s;
    ck_assert(!ckpt_copy_open(fd, 0, ROOM, &s, &e) && !copy(&s, 5, &e));
    const struct ckpt_copy c = look(fd, 0);
    char *file = ckpt_copy_file(&s, c.bytes);
    for (int64_t at = 0; at < c.bytes; at += at ? c.bytes - 1 : 100) {
        file[at] ^= 4;
        ck_assert_int_eq(ckpt_copy_check(fd, &c, &e), -ERR_CORRUPT);
        file[at] ^= 4;
        if (at)
            break;
    }
    ck_assert(!ckpt_copy_check(fd, &c, &e));
    const char *text;
    int64_t n = ckpt_copy_sealed(&s, &text);
    ck_assert(n > 100 && n < CKPT_COPY_SEAL_BYTES);
    for (int64_t at = 0; at < n; at += 13) {
        ((char *)text)[at] ^= 1;
        ck_assert_int_eq(look(fd, 0).world, 0);
        ((char *)text)[at] ^= 1;
    }
    is_step(fd, 0, 5);
    const int64_t wrong[] = {-1, 0, 1, n - 1, n + 1, CKPT_COPY_SEAL_BYTES, INT64_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) { /* lengths */
        ck_assert(!io_pwrite_full(fd, &wrong[i], sizeof *wrong, 0, &e));
        ck_assert_int_eq(look(fd, 0).world, 0);
    }
    ckpt_copy_close(&s);
    close(fd);
}
END_TEST

/* As it crosses to another pod: the file, then the seal. */
START_TEST(a_part_of_another_pod_is_kept)
{
    int from = make_memory(), to = make_memory();
    struct ckpt_copy_slot s, t, small;
    const char *text;
    ck_assert(!ckpt_copy_open(from, 0, ROOM, &s, &e) && !copy(&s, 5, &e));
    ck_assert(!ckpt_copy_open(to, 2, ROOM, &t, &e) && !copy(&t, 4, &e));
    ck_assert(!ckpt_copy_open(to, 3, 100, &small, &e));
    ck_assert_ptr_null(ckpt_copy_file(&small, s.sealed));
    int64_t n = ckpt_copy_sealed(&s, &text);
    ckpt_copy_break(&t);
    ck_assert_int_eq(look(to, 2).world, 0);
    memcpy(ckpt_copy_file(&t, s.sealed), ckpt_copy_file(&s, s.sealed), (size_t)s.sealed);
    ckpt_copy_put_seal(&t, text, n);
    is_step(to, 2, 5);
    ckpt_copy_close(&s);
    ckpt_copy_close(&t);
    ckpt_copy_close(&small);
    close(from);
    close(to);
}
END_TEST

/* What a smaller part leaves of a larger one's memory goes back. */
START_TEST(memory_is_what_a_part_needs)
{
    int fd = make_memory();
    struct ckpt_copy_slot s;
    struct stat large, less;
    ck_assert(!ckpt_copy_open(fd, 7, 8 << 20, &s, &e));
    ckpt_copy_close(&s);
    ck_assert(!fstat(fd, &large));
    ck_assert_int_ge(large.st_blocks * 512, (8 << 20) + CKPT_COPY_BESIDE);
    ck_assert(!ckpt_copy_open(fd, 7, 1 << 20, &s, &e));
    ckpt_copy_close(&s);
    ck_assert(!fstat(fd, &less));
    ck_assert_int_le(less.st_blocks * 512, (1 << 20) + CKPT_COPY_BESIDE + 4096);
    ck_assert_int_eq(ckpt_copy_open(fd, 7, INT64_MAX / 2, &s, &e), -ERR_MEMORY);
    ck_assert_int_eq(ckpt_copy_open(fd, 7, -1, &s, &e), -ERR_MEMORY);
    close(fd);
}
END_TEST

/* -- which of them -- */

#define MOST 4000

struct made { /* a generation */
    int64_t step, incarnation;
    int world;
    bool whole;
};

static int below(uint64_t *r, int n)
{
    return (int)(random_next(r) % (uint64_t)n);
}

static int add_generation(struct ckpt_copy *all, int n, uint64_t *r, const struct made *g)
{
    int lacks = g->whole ? -1 : below(r, g->world);
    for (int rank = 0; rank < g->world; rank++)
        for (int k = 0, times = 1 + below(r, 2); k < times && rank != lacks; k++)
            all[n++] = (struct ckpt_copy){.step = g->step,
                .incarnation = g->incarnation,
                .world = g->world,
                .rank = rank,
                .intact = below(r, 2),
                .holder = n,
                .slot = below(r, 8)};
    return n;
}

static bool is_newer(const struct made *a, const struct made *b)
{
    return a->step != b->step ? a->step > b->step : a->incarnation > b->incarnation;
}

START_TEST(the_newest_whole_generation_is_found)
{
    uint64_t seed = (uint64_t)time(NULL), r = seed;
    printf("seed %llu\n", (unsigned long long)seed);
    static struct ckpt_copy all[MOST];
    for (int round = 0; round < 2000; round++) {
        struct made best = {.world = 0};
        int64_t above = below(&r, 12), limit = 8 + below(&r, 12);
        int n = 0;
        for (int k = 0; k < 6; k++) {
            const struct made g = {below(&r, 20), 10 * k + 1, 1 + below(&r, 6), below(&r, 2)};
            n = add_generation(all, n, &r, &g);
            bool counts = g.whole && g.step > above && g.step <= limit;
            best = counts && (!best.world || is_newer(&g, &best)) ? g : best;
        }
        for (int k = 0; k < 3; k++) /* what is padded */
            all[n++] = (struct ckpt_copy){.world = 0};
        for (int i = n - 1; i > 0; i--) {
            int j = below(&r, i + 1);
            struct ckpt_copy t = all[i];
            all[i] = all[j];
            all[j] = t;
        }
        int at = ckpt_copy_newest(all, n, above, limit);
        ck_assert_msg(
            (at >= 0) == (best.world > 0), "seed %llu, round %d", (unsigned long long)seed, round);
        if (at < 0)
            continue;
        ck_assert(all[at].step == best.step && all[at].incarnation == best.incarnation);
        for (int rank = 0; rank < best.world; rank++) {
            bool intact = all[at].intact;
            ck_assert_int_eq(all[at].rank, rank);
            for (; at < n && all[at].world == best.world && all[at].step == best.step &&
                 all[at].incarnation == best.incarnation && all[at].rank == rank;
                 at++) {
                ck_assert(intact || !all[at].intact);
                intact = all[at].intact;
            }
        }
    }
}
END_TEST

/* -- failed calls -- */

static int copy_once(void *user)
{
    int *fd = user;
    struct ckpt_copy_slot s = {.at = NULL};
    struct ckpt_copy c = {.world = 0};
    struct err why;
    int rc = ckpt_copy_open(*fd, 0, ROOM, &s, &why);
    rc = rc ? rc : copy(&s, 5, &why);
    rc = rc ? rc : ckpt_copy_look(*fd, 0, &c, NULL, &why);
    rc = rc ? rc : c.world ? ckpt_copy_check(*fd, &c, &why) : -ERR_MEMORY;
    ckpt_copy_close(&s);
    return rc;
}

START_TEST(every_failed_call_is_told)
{
    int fd = make_memory();
    fault_each(FAULT_IO, copy_once, &fd);
    fault_each(FAULT_MEM, copy_once, &fd);
    close(fd);
}
END_TEST

UNIT_MAIN("ckpt_copy", a_part_is_the_file_that_a_writer_makes, what_is_half_made_is_none,
    damage_is_seen, a_part_of_another_pod_is_kept, memory_is_what_a_part_needs,
    the_newest_whole_generation_is_found, every_failed_call_is_told)
