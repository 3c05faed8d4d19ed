/*
 * train/objective_dpo: DPO learns from pairs which of two answers is better (preference.h). A
 * sample is two rows, whose loss is no sum over tokens.
 *
 * What the model has for each answer before it is trained, the reference, is computed once, by the
 * model that is trained, before a checkpoint is loaded into it: there is never a second model. It
 * is kept in memory, eight bytes a pair, and in a file beside the checkpoints, in which a later
 * attempt of the same training finds it; one that is damaged or of another training is computed
 * anew. Only pairs that a step or an evaluation will look at have one. Every rank computes a share
 * of each lot, and in the sum that makes it the world's all learn whether somebody wants to stop.
 */
#include "runtime/train/internal.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/files/hash.h"
#include "runtime/train/preference.h"

#include <assert.h>

static_assert(PREFERENCE_SUMS <= OBJECTIVE_SUMS && PREFERENCE_LOSS == 0, "as a loop tells sums");

#define PAIRS_EVALUATED 128

#define FILE_NAME "reference.bin"
#define MAGIC     "llmjobRP"
#define LOT       256 /* pairs between two sums: so far may one rank be behind another */

struct pairs {
    int64_t all;      /* of train, and those of a file of validation behind them */
    float *reference; /* (all, 2): log p before training; 0 where it is not wanted. Host */
    double *of_batch; /* (micro, 2) of the micro-batch in hand, host */
    double *log_p;    /* likewise */
    float *scales;    /* likewise */
    double sums[PREFERENCE_SUMS]; /* since pairs_sums */
};

struct reference_header {
    char magic[8];
    uint64_t training; /* a digest of its identity */
    int64_t pairs, wanted;
    uint64_t digest; /* of the numbers */
};

/* -- which pairs -- */

/* Those that steps take, epoch after epoch the same, then those that evaluations look at. */
static int64_t trained(const struct train *t)
{
    int64_t batch = t->spec->train.batch_sequences, n = t->train_samples;
    return t->steps <= n / batch ? t->steps * batch : n;
}

static int64_t pair_of(const struct train *t, const struct data *d, int64_t sample)
{
    return sample + (d == t->data ? 0 : data_samples(t->data));
}

static int64_t sample_of(const struct train *t, int64_t i, const struct data **d)
{
    *d = t->data;
    if (i < trained(t))
        return data_sample_at(t->train_samples, t->spec->train.seed, i);
    return train_looked_at(t, i - trained(t), d);
}

/* -- a micro-batch -- */

static void pairs_fill(struct train *t, const struct data *d, int64_t sample, int64_t j)
{
    struct pairs *p = t->pairs;
    int64_t at = 2 * pair_of(t, d, sample);
    for (int64_t k = 0; k < 2; k++)
        p->of_batch[2 * j + k] = (double)p->reference[at + k];
}

static struct preference_batch batch_of(const struct train *t, int64_t b)
{
    const struct pairs *p = t->pairs;
    return (struct preference_batch){.pairs = b,
        .tokens = t->length,
        .reference = p->of_batch,
        .log_p = p->log_p,
        .scales = p->scales};
}

static struct pass_input input_of(const struct train *t)
{
    return (struct pass_input){.ids = t->inputs, .targets = t->labels};
}

static int pairs_loss(struct train *t, int64_t b, float scale, bool backward, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    const struct preference c = {s->dpo.beta, s->dpo.label_smoothing, s->dpo.loss};
    struct preference_batch batch = batch_of(t, b);
    const struct pass_input in = input_of(t);
    batch.drops = backward;
    return preference_step(t->pass, &c, &batch, &in, scale, backward, t->pairs->sums, e);
}

static int pairs_sums(struct train *t, double *sums, struct err *e)
{
    (void)e;
    memcpy(sums, t->pairs->sums, sizeof t->pairs->sums);
    memset(t->pairs->sums, 0, sizeof t->pairs->sums);
    return 0;
}

/* -- the reference -- */

/* This rank's of the wanted pairs [from, from + n); v (n, 2). */
static int compute_share(struct train *t, int64_t from, int64_t n, float *v, struct err *e)
{
    const struct pass_input in = input_of(t);
    for (int64_t i = 0, b; i < n; i += b) {
        const struct data *d;
        int64_t longest = 0;
        b = n - i < t->plan.micro_sequences ? n - i : t->plan.micro_sequences;
        for (int64_t j = 0; j < b; j++) {
            int64_t sample = sample_of(t, from + i + j, &d), m = data_pair_longest(d, sample);
            longest = m > longest ? m : longest;
        }
        train_set_length(t, longest);
        for (int64_t j = 0; j < b; j++) {
            int64_t sample = sample_of(t, from + i + j, &d);
            train_fill(t, d, sample, j);
        }
        struct preference_batch batch = batch_of(t, b);
        batch.reference = NULL;
        int rc = preference_step(t->pass, NULL, &batch, &in, 0, false, NULL, e);
        if (rc)
            return rc;
        for (int64_t j = 0; j < 2 * b; j++)
            v[2 * i + j] = (float)batch.log_p[j];
    }
    return 0;
}

static int compute_lot(struct train *t, int64_t from, int64_t n, struct err *e)
{
    float v[2 * LOT + 1] = {0}; /* the world's; the last: somebody wants to stop */
    const struct data *d;
    int64_t first, count;
    data_share(n, train_parts(t), train_part(t), &first, &count);
    int rc = compute_share(t, from + first, count, v + 2 * first, e);
    if (rc)
        return rc;
    v[2 * LOT] = atomic_load(&t->door->stop) ? 1 : 0;
    rc = coll_allreduce(t->replicas, v, 2 * LOT + 1, DTYPE_F32, COLL_SUM, e);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++) {
        int64_t sample = sample_of(t, from + i, &d);
        memcpy(t->pairs->reference + 2 * pair_of(t, d, sample), v + 2 * i, 2 * sizeof *v);
    }
    if (v[2 * LOT] > 0)
        return err_set(e, ERR_DRAINED, "stopped on request before the first step");
    return 0;
}

static struct reference_header header_of(
    const struct train *t, const char *identity, int64_t wanted)
{
    struct reference_header h = {.training = hash_xxh3(identity, strlen(identity)),
        .pairs = t->pairs->all,
        .wanted = wanted,
        .digest = hash_xxh3(t->pairs->reference, (size_t)t->pairs->all * 2 * sizeof(float))};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

/* True: the numbers of this training stood there whole. Rank 0's. */
static bool find_reference(struct train *t, const char *path, const char *identity, int64_t wanted)
{
    struct io_map map = {0};
    size_t bytes = (size_t)t->pairs->all * 2 * sizeof(float);
    struct reference_header h;
    bool found = false;
    if (io_exists(path) && !io_map(path, &map, NULL) && map.size == sizeof h + bytes) {
        memcpy(t->pairs->reference, map.data + sizeof h, bytes);
        h = header_of(t, identity, wanted);
        found = !memcmp(map.data, &h, sizeof h);
    }
    io_unmap(&map);
    return found;
}

/* Rank 0's. */
static int keep_reference(
    const struct train *t, const char *path, const char *identity, int64_t wanted, struct err *e)
{
    struct reference_header h = header_of(t, identity, wanted);
    buf_auto struct buf all;
    buf_init(&all, SIZE_MAX);
    if (buf_add(&all, &h, sizeof h) ||
        buf_add(&all, t->pairs->reference, (size_t)t->pairs->all * 2 * sizeof(float)))
        return err_set(e, ERR_MEMORY, "no memory to keep the reference");
    return io_write_file(path, all.data, all.len, 0644, e);
}

static int pairs_begin(void *train, const char *identity, struct err *e)
{
    struct train *t = train;
    char path[LIMIT_PATH_BYTES + 64];
    int64_t wanted = trained(t) + train_looked_at(t, -1, NULL);
    snprintf(path, sizeof path, "%s/" FILE_NAME, t->spec->checkpoint.path);
    bool found = train_leads(t) && find_reference(t, path, identity, wanted);
    int rc = coll_broadcast(t->coll, &found, sizeof found, 0, e);
    if (rc || found)
        return rc ? rc
                  : coll_broadcast(t->coll, t->pairs->reference,
                        (size_t)t->pairs->all * 2 * sizeof(float), 0, e);
    if (train_leads(t))
        log_info("what the model has for each answer is computed", LOG_I("pairs", wanted));
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    memset(t->pairs->reference, 0, (size_t)t->pairs->all * 2 * sizeof(float));
    for (int64_t i = 0, n; i < wanted; i += n) {
        n = wanted - i < LOT ? wanted - i : LOT;
        if ((rc = compute_lot(t, i, n, e)))
            return rc;
    }
    return train_leads(t) ? keep_reference(t, path, identity, wanted, e) : 0;
}

/* -- life -- */

static int pairs_host(struct train *t, struct err *e)
{
    struct pairs *p = t->pairs = mem_zalloc(sizeof *p);
    size_t rows = 2 * (size_t)t->plan.micro_sequences;
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for pairs");
    p->all = data_samples(t->data) + (t->validation ? data_samples(t->validation) : 0);
    p->reference = mem_array((size_t)p->all, 2 * sizeof *p->reference);
    p->of_batch = mem_array(rows, sizeof *p->of_batch);
    p->log_p = mem_array(rows, sizeof *p->log_p);
    p->scales = mem_array(rows, sizeof *p->scales);
    if (!p->reference || !p->of_batch || !p->log_p || !p->scales)
        return err_set(
            e, ERR_MEMORY, "no memory for the reference of %lld pairs", (long long)p->all);
    memset(p->reference, 0, (size_t)p->all * 2 * sizeof *p->reference);
    return 0;
}

static void pairs_close(struct train *t)
{
    struct pairs *p = t->pairs;
    if (!p)
        return;
    mem_free(p->reference);
    mem_free(p->of_batch);
    mem_free(p->log_p);
    mem_free(p->scales);
    mem_free(p);
}

/* -- telling -- */

static const char *const names[PREFERENCE_SUMS] = {
    [PREFERENCE_CHOSEN] = "rewards/chosen",
    [PREFERENCE_REJECTED] = "rewards/rejected",
    [PREFERENCE_ACCURACY] = "rewards/accuracies",
    [PREFERENCE_MARGIN] = "rewards/margins",
    [PREFERENCE_LOGP_CHOSEN] = "logps/chosen",
    [PREFERENCE_LOGP_REJECTED] = "logps/rejected",
};

static int pairs_tell(struct train *t, const char *of, const double *means, struct err *e)
{
    for (int i = 0; i < PREFERENCE_SUMS; i++) {
        int rc = names[i] ? train_tell_figure(t, names[i], of, means[i], e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static void pairs_log(const struct train *t, const char *of, const double *means)
{
    log_info("preferences", LOG_S("of", of), LOG_I("step", t->state.step),
        LOG_F("loss", means[PREFERENCE_LOSS]), LOG_F("accuracy", means[PREFERENCE_ACCURACY]),
        LOG_F("margin", means[PREFERENCE_MARGIN]), LOG_F("rewardChosen", means[PREFERENCE_CHOSEN]),
        LOG_F("rewardRejected", means[PREFERENCE_REJECTED]));
}

/* -- the row -- */

static int open_pairs(
    const struct train *t, const char *path, const char *tokens, struct data **out, struct err *e)
{
    return data_open_pairs(path, tokens, t->spec->train.sequence_length, out, e);
}

static int pairs_file(struct train *t, const char *path, struct data **out, struct err *e)
{
    return train_open_corpus(t, path, open_pairs, out, e);
}

static int64_t one_pair(const struct data *d, int64_t sample)
{
    (void)d;
    (void)sample;
    return 1;
}

static const struct objective_loop loop = {
    .host_fn = pairs_host,
    .close_fn = pairs_close,
    .begin_fn = pairs_begin,
    .compute_fn = train_compute,
    .fill_fn = pairs_fill,
    .loss_fn = pairs_loss,
    .sums_fn = pairs_sums,
    .sums = PREFERENCE_SUMS,
    .look_fn = train_look,
    .tell_fn = pairs_tell,
    .log_fn = pairs_log,
};

const struct objective objective_dpo = {
    .name = "DPO",
    .samples = "pairs",
    .model = &objective_left_to_right,
    .rows = 2,
    .parts = 1,
    .evaluated = PAIRS_EVALUATED,
    .file_fn = pairs_file,
    .batch_fn = data_pair_sample,
    .labels_fn = one_pair,
    .tokens_fn = data_length,
    .longest_fn = data_pair_longest,
    .loop = &loop,
};
