/*
 * Goal: ranks that have a model together say what one rank says: logits, losses and tokens that
 * are drawn, from a cache of their share, of weights of their share. Method: worlds of real
 * processes on the tiny models of tests/golden, of families that differ in what is cut, and of
 * blocks of a GGUF file; each rank holds the whole model beside its share and compares. What a rank
 * allocates is what was planned, and a part of the whole; what cannot be cut is refused by name; a
 * rank that is gone ends the others' waits.
 */
#include "runtime/model/group.h"

#include "base/mem.h"
#include "runtime/model/engine.h"
#include "tests/far.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>
#include <unistd.h>

#define CONTEXT 48
#define PROMPT  19
#define MORE    9
#define FAR     1e-5

static struct err e;

/* -- what is compared -- */

static const char *model; /* folder or file */
static enum dtype compute;
static double far; /* relative to the greatest logit */
static struct layout layout;

struct served {
    struct weights *w;
    struct model *m;
    struct engine *g;
    struct memplan plan;
};

static int open_served(struct served *s, const struct group *group)
{
    struct model_conf c = {.t = compute, .kv_capacity = CONTEXT};
    int rc;
    if ((rc = weights_open(model, NULL, &s->w, &e)))
        return rc;
    c.config = *weights_config(s->w);
    if ((group && (rc = group_share(group, &c, &e))) ||
        (rc = memplan_model(&c, s->w, &s->plan, &e)) ||
        (rc = model_create(ranks_device, &c, &s->m, &e)) || (rc = model_load(s->m, s->w, &e)))
        return rc;
    return engine_create(s->m, &s->g, &e);
}

static void close_served(struct served *s)
{
    engine_destroy(s->g);
    model_destroy(s->m);
    weights_close(s->w);
}

/* Says which, and where: only the process that looks can. */
static bool is_near(const char *what, const float *is, const float *want, int64_t n)
{
    double most = 0, apart = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        apart = farther(apart, fabs((double)is[i] - (double)want[i]));
    }
    if (apart <= far * most && most > 0)
        return true;
    fprintf(stderr, "%s, %s: %g apart of %g\n", model, what, apart, most);
    return false;
}

static int32_t token(int64_t vocab, int i)
{
    return (int32_t)((i * 37 + 11) % vocab);
}

/* A prompt, more behind it, and the last one alone. */
static int compare_logits(
    const struct served *one, const struct served *many, struct coll *c, const struct ranks *w)
{
    int64_t vocab = model_vocab(one->m);
    int32_t ids[PROMPT + MORE];
    float *is = mem_array((size_t)(PROMPT * vocab), 4),
          *want = mem_array((size_t)(PROMPT * vocab), 4);
    int step = 0;
    for (int i = 0; i < PROMPT + MORE; i++)
        ids[i] = token(vocab, i);
    if (model_vocab(many->m) != vocab || engine_extend(one->g, ids, PROMPT, 0, true, want, &e) ||
        engine_extend(many->g, ids, PROMPT, 0, true, is, &e))
        step = 1;
    else if (!is_near("a prompt", is, want, PROMPT * vocab))
        step = 2;
    else if (!ranks_same(c, is, (size_t)(PROMPT * vocab) * 4, w))
        step = 3;
    else if (engine_extend(one->g, ids + PROMPT, MORE, PROMPT, false, want, &e) ||
        engine_extend(many->g, ids + PROMPT, MORE, PROMPT, false, is, &e))
        step = 4;
    else if (!is_near("what follows it", is, want, vocab))
        step = 5;
    else if (engine_extend(one->g, ids, 2, 5, true, want, &e) ||
        engine_extend(many->g, ids, 2, 5, true, is, &e) || !is_near("rows", is, want, 2 * vocab))
        step = 6;
    mem_free(is);
    mem_free(want);
    return step;
}

/* Of the stages the last one has losses. */
static int compare_losses(const struct served *one, const struct served *many, bool last)
{
    int64_t vocab = model_vocab(one->m);
    int32_t ids[PROMPT], targets[PROMPT];
    double is[PROMPT], want[PROMPT];
    for (int i = 0; i < PROMPT; i++) {
        ids[i] = token(vocab, i + 3);
        targets[i] = token(vocab, i * 5);
    }
    if (engine_losses(one->g, ids, targets, PROMPT, 0, want, &e) ||
        engine_losses(many->g, ids, targets, PROMPT, 0, is, &e))
        return 11;
    for (int i = 0; i < PROMPT; i++)
        if (last ? !(fabs(is[i] / want[i] - 1) < far && want[i] > 0) : is[i] != 0) {
            fprintf(stderr, "%s, loss %d: %.9g, one rank %.9g\n", model, i, is[i], want[i]);
            return 12;
        }
    return 0;
}

static int compare_drawn(
    const struct served *one, const struct served *many, struct coll *c, const struct ranks *w)
{
    static const struct sample_draw draws[] = {{.top_p = 1}, {1, 1, 0.7f}, {2, 0.8f, 0.2f}};
    int32_t drawn[12];
    for (int i = 0; i < 12; i++) {
        const struct sample_draw *draw = &draws[i % 3];
        int32_t want, id = i ? drawn[i - 1] : 5;
        if (engine_next(one->g, id, i, draw, &want, &e) ||
            engine_next(many->g, id, i, draw, &drawn[i], &e))
            return 21;
        if (drawn[i] != want) {
            fprintf(stderr, "%s, token %d: %d, one rank %d\n", model, i, drawn[i], want);
            return 22;
        }
    }
    return ranks_same(c, drawn, sizeof drawn, w) ? 0 : 23;
}

/* The parts of all ranks are the whole and what each of them has, too: norms, and an embedding that
   is the head, on the first stage and the last. */
static int compare_plans(
    const struct served *one, const struct served *many, struct coll *c, const struct ranks *w)
{
    const int64_t mine[2] = {many->plan.weights, many->plan.cache};
    int64_t all[RANKS_MAX][2], sum[2] = {0};
    if (model_memory_bytes(many->m) != many->plan.total ||
        coll_allgather(c, mine, sizeof mine, all, &e))
        return 31;
    for (int i = 0; i < w->size; i++)
        for (int k = 0; k < 2; k++)
            sum[k] += all[i][k];
    if (sum[1] != one->plan.cache)
        return 32;
    bool tied = weights_config(one->w)->tied_embeddings && layout.pp > 1;
    double most = 1.15 * (double)one->plan.weights + (tied ? (double)one->plan.weights : 0);
    return sum[0] >= one->plan.weights && (double)sum[0] <= most ? 0 : 33;
}

static int body(struct coll *c, int rank, const struct ranks *w)
{
    struct served one = {NULL}, many = {NULL};
    struct group group = {.tensor = NULL};
    int step;
    if (group_open(c, &layout, rank, &group, &e) || open_served(&one, NULL) ||
        open_served(&many, &group))
        step = 90;
    else if (!(step = compare_plans(&one, &many, c, w)) &&
        !(step = compare_logits(&one, &many, c, w)) &&
        !(step = compare_losses(&one, &many, group.place.pp + 1 == layout.pp)))
        step = compare_drawn(&one, &many, c, w);
    if (step)
        fprintf(stderr, "rank %d, %s: step %d, %s\n", rank, model, step, e.text);
    close_served(&one);
    close_served(&many);
    return step;
}

#define LAYOUTS 3
static const struct layout layouts[LAYOUTS] = {
    {1, 2, 1, 1, 1}, {1, 1, 2, 1, 1}, {1, 2, 2, 1, 1}}; /* the last one has it all */

/* By the last `count` layouts. */
static void compare(const char *path, enum dtype t, double apart, int count)
{
    model = path;
    compute = t;
    far = apart;
    for (int i = LAYOUTS - count; i < LAYOUTS; i++) {
        layout = layouts[i];
        ranks_run(
            (struct ranks){.size = layout.tp * layout.pp, .replica = {0, 0, 1, 1}, .kind = "cpu"},
            body);
    }
}

START_TEST(a_group_says_what_one_rank_says)
{
    static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2",
        GOLDEN "tiny-qwen3", GOLDEN "tiny-mistral", GOLDEN "tiny-qwen3-moe"};
    for (int i = 0; i < 5; i++)
        compare(folders[i], DTYPE_F32, FAR, LAYOUTS);
    compare(GOLDEN "tiny-qwen2", DTYPE_F32, FAR, 1);
    compare(GOLDEN "tiny-llama3", DTYPE_F32, FAR, 1);
    compare(GOLDEN "tiny-mixtral", DTYPE_F32, FAR, 1);
    compare(GOLDEN "tiny-qwen3", DTYPE_BF16, 2e-2, 1);
}
END_TEST

/* -- blocks -- */

static char folder[64];

/* Some columns of F32, and some rows of blocks. */
static void make_mixture(struct buf *out)
{
    gguf_make_mixture("qwen3-moe", true, out);
}

static const char *write_blocks(void (*make)(struct buf *out))
{
    static char path[96];
    buf_auto struct buf file;
    buf_init(&file, 8 << 20);
    make(&file);
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    golden_write(path, file.data, file.len);
    return path;
}

START_TEST(blocks_are_cut_as_they_are)
{
    compare(write_blocks(gguf_make_tiny), DTYPE_F32, FAR, LAYOUTS);
    golden_remove(folder);
    compare(write_blocks(gguf_make_gpt2), DTYPE_F32, FAR, 1);
    golden_remove(folder);
    compare(write_blocks(make_mixture), DTYPE_F32, FAR, LAYOUTS);
    golden_remove(folder);
}
END_TEST

/* -- what cannot be shared out -- */

static void refused(const char *path, struct layout l, const char *says)
{
    const struct group group = {.layout = l};
    struct served s = {NULL};
    model = path;
    ck_assert_int_eq(open_served(&s, &group), -ERR_USER);
    ck_assert_msg(strstr(e.text, says) != NULL, "%s", e.text);
    close_served(&s);
}

START_TEST(what_cannot_be_cut_is_refused)
{
    ck_assert(!dev_open("cpu", 0, 1, &ranks_device, &e));
    refused(GOLDEN "tiny-llama", (struct layout){1, 3, 1, 1, 1}, "spec.parallelism.tensor: 3");
    refused(GOLDEN "tiny-llama", (struct layout){1, 1, 3, 1, 1}, "spec.parallelism.pipeline: 3");
    refused(write_blocks(gguf_make_gpt2), (struct layout){1, 3, 1, 1, 1},
        "spec.parallelism.tensor: a rank's columns of model.layers.1.mlp.down_proj.weight, [0, "
        "43), are not whole blocks of 32, as q8_0 has them");
    golden_remove(folder);
    dev_close(ranks_device);
}
END_TEST

/* -- a rank that is gone -- */

static int gone_body(struct coll *c, int rank, const struct ranks *w)
{
    static float logits[1024];
    const int32_t ids[] = {1, 2, 3};
    struct served s = {NULL};
    struct group group = {.tensor = NULL};
    (void)w;
    if (group_open(c, &layout, rank, &group, &e) || open_served(&s, &group))
        return 1;
    if (rank + 1 == w->size)
        _exit(0); /* without a word */
    int rc = engine_extend(s.g, ids, 3, 0, false, logits, &e);
    close_served(&s);
    if (rc == -ERR_PEER || rc == -ERR_HANG)
        return 0;
    fprintf(stderr, "rank %d: %d, %s\n", rank, rc, e.text);
    return 2;
}

START_TEST(a_rank_that_is_gone_ends_the_others_waits)
{
    model = GOLDEN "tiny-llama";
    compute = DTYPE_F32;
    for (int i = 0; i < LAYOUTS; i++) {
        layout = layouts[i];
        ranks_run((struct ranks){.size = layout.tp * layout.pp,
                      .replica = {0, 0, 1, 1},
                      .timeout_ms = 5000,
                      .kind = "cpu"},
            gone_body);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "group", .timeout_s = 120},
        (const TTest *const[]){a_group_says_what_one_rank_says, blocks_are_cut_as_they_are,
            what_cannot_be_cut_is_refused, a_rank_that_is_gone_ends_the_others_waits, NULL});
}
