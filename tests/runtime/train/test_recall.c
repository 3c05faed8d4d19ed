/*
 * Goal: of what pods' memories hold, all ranks find the same newest generation that is whole and
 * as it was sealed, and read of it what they want, wherever it lies; a part that is lost or damaged
 * is made good by its copy in another pod, or the generation is passed over; what fails on one rank
 * fails on all. Method: worlds of real ranks on memory that was filled by ranks of another world.
 */
#include "runtime/train/recall.h"

#include "runtime/ckpt/copy.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/unit.h"

#include <sys/mman.h>
#include <unistd.h>

#define PODS  3
#define PARTS 3      /* of the world that wrote them */
#define TOTAL 200000 /* more than a window */
#define EACH  (TOTAL / PARTS)

static struct err e;
static int memory[PODS];
static float x[TOTAL];

/* One part of a step in a pod's memory. */
struct part {
    int step, rank, pod, slot;
    bool damaged, longer;
};

static void fill(int step)
{
    for (int i = 0; i < TOTAL; i++)
        x[i] = (float)(step * 1000000 + i);
}

static void put_part(const struct part *p)
{
    struct ckpt_copy_slot s;
    struct ckpt_writer *w;
    const struct ckpt_state state = {
        .step = p->step, .samples = p->step, .incarnation = 2, .world = PARTS};
    int64_t first = EACH * p->rank, n = p->rank + 1 < PARTS ? EACH + p->longer : TOTAL - first;
    fill(p->step);
    ck_assert(!ckpt_copy_open(memory[p->pod], p->slot, TOTAL * 4, &s, &e));
    ck_assert(!ckpt_copy_begin(&s, "", p->step, p->rank, &w, &e));
    ck_assert(!ckpt_put(w, "x", TOTAL, first, n, DTYPE_F32, x + first, &e));
    ck_assert(!ckpt_copy_seal(&s, w, &state, p->rank, &e));
    if (p->damaged)
        ckpt_copy_file(&s, s.sealed)[s.sealed - 9] ^= 16;
    ckpt_copy_close(&s);
}

struct scene {
    struct part parts[8];
    int64_t above;
    int step; /* that is found; 0: none */
    bool opens, fails;
};

#define OWN(rank, step) \
    { \
        step, rank, rank, (step) % 2, false, false \
    }
#define NEXT(rank, step) \
    { \
        step, rank, ((rank) + 1) % PODS, 2 + (step) % 2, false, false \
    }
#define WORSE(rank, step) \
    { \
        step, rank, rank, (step) % 2, true, false \
    }

static const struct scene scenes[] = {
    {{OWN(0, 7), OWN(1, 7), OWN(2, 7), OWN(0, 8), OWN(1, 8), OWN(2, 8)}, 5, 8, true, false},
    /* a pod has gone with its memory */
    {{OWN(0, 8), OWN(1, 8), NEXT(0, 8), NEXT(2, 8)}, -1, 8, true, false},
    {{OWN(0, 7), OWN(1, 7), OWN(2, 7), OWN(0, 8), OWN(2, 8)}, 5, 7, true, false},
    {{OWN(0, 7), OWN(1, 7), OWN(2, 7), OWN(0, 8), WORSE(1, 8), OWN(2, 8)}, 5, 7, true, false},
    {{OWN(0, 7), OWN(2, 7), OWN(0, 8), WORSE(1, 8), OWN(2, 8), NEXT(1, 8)}, 5, 8, true, false},
    {{OWN(0, 7), OWN(1, 7), OWN(2, 7)}, 7, 0, false, false},
    {{OWN(0, 7), OWN(1, 7)}, -1, 0, false, false},
    /* two have the same element */
    {{OWN(0, 7), {7, 1, 1, 1, false, true}, OWN(2, 7)}, -1, 7, false, false},
    /* one rank fails */
    {{OWN(0, 7), OWN(1, 7), OWN(2, 7)}, -1, 7, true, true}};

static const struct scene *scene;

static int read_all(struct ckpt_reader *r, int rank)
{
    static float is[TOTAL];
    int64_t first = rank == 1 ? 5 : 0, n = TOTAL - first; /* not all the same */
    struct err why;
    fill(scene->step);
    for (int64_t at = first; rank < 3 && at < TOTAL; at += 70001) {
        int64_t count = TOTAL - at < 70001 ? TOTAL - at : 70001;
        if (ckpt_get(r, "x", TOTAL, at, count, DTYPE_F32, is + at, &why))
            return 1;
    }
    return rank < 3 && memcmp(is + first, x + first, (size_t)n * 4) != 0;
}

static int body(struct coll *c, int rank, const struct ranks *w)
{
    const struct recall_conf conf = {c, rank, w->size, w->peers, memory[w->replica[rank]]};
    struct recall *r = NULL;
    struct ckpt_reader *reader = NULL;
    struct ckpt_state s = {.step = 0};
    struct err why = {.text = ""};
    if (recall_find(&conf, scene->above, 100, &r, &s, &why))
        return 1;
    if (!scene->step)
        return r ? 2 : 0;
    if (!r || s.step != scene->step || s.samples != scene->step || s.world != PARTS)
        return 3;
    int rc = recall_open(r, &reader, &why);
    if (scene->opens != !rc || (rc && rc != -ERR_CORRUPT))
        return 4;
    if (!rc && read_all(reader, rank))
        return 5;
    if (!rc && recall_end(r, scene->fails && rank == 2, &why) != (scene->fails ? -ERR_PEER : 0))
        return 6;
    ckpt_close(reader);
    recall_destroy(r);
    return coll_barrier(c, &why) ? 7 : 0;
}

START_TEST(what_is_whole_is_found_and_read)
{
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        scene = &scenes[i];
        printf("scene %zu\n", i);
        for (int k = 0; k < PODS; k++) {
            memory[k] = memfd_create("copies", MFD_CLOEXEC);
            ck_assert(memory[k] >= 0 && !ftruncate(memory[k], (off_t)1 << 50));
        }
        for (int k = 0; k < 8 && scene->parts[k].step; k++)
            put_part(&scene->parts[k]);
        ranks_run((struct ranks){.size = 4, .replica = {0, 1, 1, 2}}, body);
        for (int k = 0; k < PODS; k++)
            close(memory[k]);
    }
}
END_TEST

/* A pod that is new has none; alone it finds nothing, with others what they have. */
START_TEST(a_pod_without_memory_reads_that_of_others)
{
    static const struct scene all = {{OWN(0, 7), OWN(1, 7), OWN(2, 7)}, -1, 7, true, false};
    scene = &all;
    for (int k = 0; k < PODS; k++)
        memory[k] = memfd_create("copies", MFD_CLOEXEC);
    for (int k = 0; k < PODS; k++) {
        ck_assert(!ftruncate(memory[k], (off_t)1 << 50));
        put_part(&(struct part){7, k, 0, k * CKPT_COPY_SLOTS, false, false});
    }
    close(memory[2]);
    memory[2] = -1;
    ranks_run((struct ranks){.size = 3, .replica = {0, 1, 2}}, body);
}
END_TEST

UNIT_MAIN_WITHIN(
    "recall", 120, what_is_whole_is_found_and_read, a_pod_without_memory_reads_that_of_others)
