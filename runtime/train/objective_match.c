/*
 * train/objective_match: PairMatching makes embeddings of texts, the means of their tokens' hidden
 * states (Reimers and Gurevych, arXiv:1908.10084). A batch is lost on as a whole (cosines.h),
 * whoever computed which part of it: all texts are embedded forward, micro-batch by micro-batch;
 * the ranks put the embeddings together, whose gradients each then has in the same bits; and each
 * micro-batch goes forward once more and back (Gao et al., "GradCache", arXiv:2101.06983), but
 * where a rank has only one, whose activations still stand. Means over tokens are taken on the host
 * (pass_means), where all that follows is: they are few numbers, and no operation of a device is
 * needed.
 *
 * An evaluation embeds each text of a file once. Without labels each a is looked for among all b
 * of the file, and those that it is paired with are relevant; with labels, cosines are correlated
 * with them.
 */
#include "runtime/train/internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/train/cosines.h"
#include "runtime/train/ranking.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct match_pair { /* rows of embeddings that belong together */
    int32_t a, b;
};

struct view { /* pairs of a file that are looked at */
    const struct data *from;
    int64_t start, pairs;
    int64_t texts;
    int32_t *text; /* (2 * pairs) the first `texts`: which of the file's, each once */
    int32_t *rows; /* (2 * pairs) which of these each a and b in turn is */
    /* of a ranking */
    int64_t candidates, queries;
    int32_t *candidate; /* (2 * pairs) rows of all b, each once; and, by row, its place there */
    struct match_pair *asked; /* (pairs) in order of a, then of b */
    int32_t *begin;           /* (pairs + 1) where the pairs of each query begin there */
};

struct match {
    bool labelled;
    struct view validation, test;
    float *e;          /* (rows, C) embeddings: of a batch, or of a view */
    float *lengths;    /* (own) what the means of one's own texts of a batch were divided by */
    float *de;         /* (own, C) */
    float *own_losses; /* (own) a pair's loss stands at its first text */
    float *products;   /* cosines_products of a batch */
    float *losses;     /* (batch) */
    float *labels;     /* (batch) or (pairs of a view) */
    float *scores;     /* (candidates) */
    int32_t *relevant; /* (candidates) */
    float *figures;    /* (queries, RANKING_FIGURES) */
    double *cosines, *truth; /* (pairs of a view) */
    struct classes *classes; /* of labels that are 0 or 1 */
    /* what was found last */
    const struct view *seen;
    double found[RANKING_FIGURES], pearson, spearman, auc;
};

/* -- files -- */

static int check_labels(
    const struct train *t, const char *path, const struct data *d, struct err *e)
{
    bool cosine = t->spec->train.pair.loss == PAIR_COSINE;
    if (cosine == data_match_labelled(d))
        return 0;
    return err_set(e, ERR_DATA,
        cosine ? "%s: spec.train.pair.loss: Cosine needs a label of each pair, and these have none"
               : "%s: spec.train.pair.loss: InBatchNegatives has no use for the labels of these "
                 "pairs; use Cosine, or leave them out",
        path);
}

static int match_file(struct train *t, const char *path, struct data **out, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int rc = data_open_matches(path, s->data.format, t->tok, s->sequence_length, out, e);
    if (rc || (rc = check_labels(t, path, *out, e)))
        return rc;
    if (data_tagged_truncated(*out) && train_leads(t))
        log_warn("texts are longer than spec.train.sequenceLength: what is beyond is left out",
            LOG_S("file", path), LOG_I("texts", data_tagged_truncated(*out)),
            LOG_I("of", 2 * data_samples(*out)));
    return 0;
}

/* -- views -- */

static int room(struct train *t, void *out, int64_t count, size_t size, struct err *e)
{
    void *p = mem_array((size_t)count + 1, size);
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for %lld pairs", (long long)count);
    t->host_bytes += (count + 1) * (int64_t)size;
    *(void **)out = p;
    return 0;
}

/* Each text once, by the first of its file that is the same. */
static int list_texts(struct view *v, struct err *e)
{
    mem_autofree int32_t *row =
        mem_array(2 * (size_t)data_samples(v->from), sizeof *row); /* 1 + row; 0: none yet */
    if (!row)
        return err_set(e, ERR_MEMORY, "no memory for %lld pairs", (long long)v->pairs);
    for (int64_t i = 0; i < 2 * v->pairs; i++) {
        int64_t text = 2 * v->start + i;
        int32_t *at = &row[data_match_same(v->from, text)];
        if (!*at) {
            v->text[v->texts] = (int32_t)text;
            *at = (int32_t)++v->texts;
        }
        v->rows[i] = *at - 1;
    }
    return 0;
}

static int by_query(const void *x, const void *y)
{
    const struct match_pair *p = x, *q = y;
    int order = (p->a > q->a) - (p->a < q->a);
    return order ? order : (p->b > q->b) - (p->b < q->b);
}

static void list_queries(struct view *v)
{
    int32_t *place = v->candidate + v->pairs; /* (texts), behind all that there can be */
    for (int64_t i = 0; i < v->pairs; i++)
        v->asked[i] = (struct match_pair){v->rows[2 * i], v->rows[2 * i + 1]};
    qsort(v->asked, (size_t)v->pairs, sizeof *v->asked, by_query);
    for (int64_t i = 0; i < v->texts; i++)
        place[i] = -1;
    for (int64_t i = 0; i < v->pairs; i++) {
        int32_t b = v->asked[i].b;
        if (place[b] < 0) {
            place[b] = (int32_t)v->candidates;
            v->candidate[v->candidates++] = b;
        }
        if (!i || v->asked[i].a != v->asked[i - 1].a)
            v->begin[v->queries++] = (int32_t)i;
    }
    v->begin[v->queries] = (int32_t)v->pairs;
}

static int view_open(
    struct train *t, struct view *v, const struct data *from, int64_t start, struct err *e)
{
    *v = (struct view){.from = from, .start = start, .pairs = data_samples(from) - start};
    int64_t n = v->pairs;
    int rc;
    if ((rc = room(t, &v->text, 2 * n, sizeof *v->text, e)) ||
        (rc = room(t, &v->rows, 2 * n, sizeof *v->rows, e)) || (rc = list_texts(v, e)) ||
        t->match->labelled)
        return rc;
    if ((rc = room(t, &v->candidate, 3 * n, sizeof *v->candidate, e)) ||
        (rc = room(t, &v->asked, n, sizeof *v->asked, e)) ||
        (rc = room(t, &v->begin, n + 1, sizeof *v->begin, e)))
        return rc;
    list_queries(v);
    return 0;
}

static void view_close(struct view *v)
{
    mem_free(v->text);
    mem_free(v->rows);
    mem_free(v->candidate);
    mem_free(v->asked);
    mem_free(v->begin);
}

/* -- life -- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int open_ranking(struct train *t, struct err *e)
{
    struct match *m = t->match;
    int64_t candidates = larger(m->validation.candidates, m->test.candidates);
    int64_t queries = larger(m->validation.queries, m->test.queries);
    int rc;
    if ((rc = room(t, &m->scores, candidates, sizeof *m->scores, e)) ||
        (rc = room(t, &m->relevant, candidates, sizeof *m->relevant, e)))
        return rc;
    return room(t, &m->figures, queries * RANKING_FIGURES, sizeof *m->figures, e);
}

static int open_similarity(struct train *t, int64_t pairs, struct err *e)
{
    static const char *const binary[] = {"0", "1"};
    struct match *m = t->match;
    int rc;
    if ((rc = room(t, &m->cosines, pairs, sizeof *m->cosines, e)) ||
        (rc = room(t, &m->truth, pairs, sizeof *m->truth, e)))
        return rc;
    return classes_create(binary, 2, pairs, &m->classes, e);
}

static int match_open(struct train *t, struct err *e)
{
    struct match *m = t->match = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for embeddings");
    int64_t batch = t->spec->train.batch_sequences, dim = t->config.dim, first, own;
    int rc;
    m->labelled = data_match_labelled(t->data);
    if ((rc = view_open(t, &m->validation, t->validation ? t->validation : t->data,
             t->validation ? 0 : t->train_samples, e)) ||
        (t->test && (rc = view_open(t, &m->test, t->test, 0, e))))
        return rc;
    int tensor = t->spec->parallelism.tensor > 1 ? t->spec->parallelism.tensor : 1;
    int replicas = t->orders->world / tensor;
    data_share(batch, replicas > 0 ? replicas : 1, 0, &first, &own); /* no rank has more */
    int64_t texts = larger(2 * batch, larger(m->validation.texts, m->test.texts));
    int64_t pairs = larger(batch, larger(m->validation.pairs, m->test.pairs));
    if ((rc = room(t, &m->e, texts * dim, sizeof *m->e, e)) ||
        (rc = room(t, &m->lengths, 2 * own, sizeof *m->lengths, e)) ||
        (rc = room(t, &m->de, 2 * own * dim, sizeof *m->de, e)) ||
        (rc = room(t, &m->own_losses, 2 * own, sizeof *m->own_losses, e)) ||
        (rc = room(
             t, &m->products, cosines_products(batch, m->labelled), sizeof *m->products, e)) ||
        (rc = room(t, &m->losses, batch, sizeof *m->losses, e)) ||
        (rc = room(t, &m->labels, pairs, sizeof *m->labels, e)))
        return rc;
    return m->labelled ? open_similarity(t, pairs, e) : open_ranking(t, e);
}

static void match_close(struct train *t)
{
    struct match *m = t->match;
    if (!m)
        return;
    view_close(&m->validation);
    view_close(&m->test);
    void *const all[] = {m->e, m->lengths, m->de, m->own_losses, m->products, m->losses, m->labels,
        m->scores, m->relevant, m->figures, m->cosines, m->truth};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]);
    classes_destroy(m->classes);
    mem_free(m);
    t->match = NULL;
}

/* -- both -- */

static struct pass_input input_of(const struct train *t)
{
    return (struct pass_input){.ids = t->inputs, .lengths = t->lengths};
}

static void fill(struct train *t, const struct data *d, int64_t text, int64_t j)
{
    data_match_text(d, text, t->length, t->inputs + j * t->length, t->lengths + j);
}

/* What each rank has and the others have zeros for, becomes everybody's, bit by bit. */
static int put_together(struct train *t, float *x, int64_t count, struct err *e)
{
    beat_phase(t->door->page, WIRE_PHASE_COLLECTIVE);
    return coll_allreduce(t->replicas, x, count, DTYPE_I32, COLL_SUM, e);
}

static struct cosines cosines_of(const struct train *t, int64_t n)
{
    const struct match *m = t->match;
    return (struct cosines){.n = n,
        .c = t->config.dim,
        .e = m->e,
        .labels = m->labelled ? m->labels : NULL,
        .temperature = (float)t->spec->train.pair.temperature};
}

/* -- a step -- */

struct share {            /* of a step's texts: pair k's are 2k and 2k + 1 */
    int64_t step, begin;  /* the place in the order of training of pair 0 */
    int64_t first, count; /* of texts, this rank's */
};

static int64_t text_of(const struct train *t, const struct share *s, int64_t i)
{
    int64_t sample = data_sample_at(t->train_samples, t->spec->train.seed, s->begin + i / 2);
    return 2 * sample + i % 2;
}

/* Of the whole batch, so that no rank's part of it decides. */
static int64_t longest(const struct train *t, const struct share *s)
{
    int64_t most = 0;
    for (int64_t i = 0; i < 2 * (int64_t)t->spec->train.batch_sequences; i++)
        most = larger(most, data_match_length(t->data, text_of(t, s, i)));
    return most;
}

/* Micro-batch [i, i + b) of the share; means NULL: only for backward. */
static int go_forward(
    struct train *t, const struct share *s, int64_t i, int64_t b, float *means, struct err *e)
{
    const struct pass_input in = input_of(t);
    for (int64_t j = 0; j < b; j++)
        fill(t, t->data, text_of(t, s, s->first + i + j), j);
    beat_phase(t->door->page, WIRE_PHASE_FORWARD);
    pass_set_place(t->pass, 2 * s->begin + s->first + i);
    return pass_means(t->pass, b, &in, true, means, e);
}

static int64_t micro_of(const struct train *t, int64_t left)
{
    return left < t->plan.micro_sequences ? left : t->plan.micro_sequences;
}

static int embed_batch(struct train *t, const struct share *s, struct err *e)
{
    struct match *m = t->match;
    int64_t dim = t->config.dim, all = 2 * (int64_t)t->spec->train.batch_sequences;
    memset(m->e, 0, (size_t)(all * dim) * sizeof *m->e);
    for (int64_t i = 0, b; i < s->count; i += b) {
        float *means = m->e + (s->first + i) * dim;
        b = micro_of(t, s->count - i);
        int rc = go_forward(t, s, i, b, means, e);
        if (rc)
            return rc;
        for (int64_t j = 0; j < b; j++)
            m->lengths[i + j] = cosines_normalize(means + j * dim, dim);
    }
    return put_together(t, m->e, all * dim, e);
}

/* m->de and m->own_losses of this rank's texts. */
static void lose_batch(struct train *t, const struct share *s)
{
    struct match *m = t->match;
    int64_t batch = t->spec->train.batch_sequences, dim = t->config.dim;
    for (int64_t k = 0; m->labelled && k < batch; k++)
        m->labels[k] = data_match_label(t->data, text_of(t, s, 2 * k) / 2);
    const struct cosines p = cosines_of(t, batch);
    cosines_loss(&p, m->products, m->losses);
    cosines_back(&p, m->products, s->first, s->count, m->de);
    for (int64_t i = 0; i < s->count; i++) {
        int64_t at = s->first + i;
        cosines_normalize_back(m->e + at * dim, m->lengths[i], m->de + i * dim, dim);
        for (int64_t c = 0; c < dim && t->state.scale.scale > 0; c++)
            m->de[i * dim + c] *= (float)t->state.scale.scale;
        m->own_losses[i] = at % 2 ? 0 : m->losses[at / 2];
    }
}

static int match_compute(struct train *t, int64_t step, struct err *e)
{
    struct match *m = t->match;
    struct share s = {.begin = (step - 1) * t->spec->train.batch_sequences};
    const struct pass_input in = input_of(t);
    int64_t first, count;
    train_share(t, step, &first, &count);
    s.first = 2 * (first - s.begin);
    s.count = 2 * count;
    train_set_length(t, longest(t, &s));
    train_begin_gradient(t);
    int rc = embed_batch(t, &s, e);
    if (rc)
        return rc;
    lose_batch(t, &s);
    bool again = s.count > t->plan.micro_sequences;
    for (int64_t i = 0, b; i < s.count; i += b) {
        b = micro_of(t, s.count - i);
        if (again && (rc = go_forward(t, &s, i, b, NULL, e)))
            return rc;
        train_begin_backward(t, i + b == s.count);
        pass_means_back(t->pass, b, &in, m->de + i * t->config.dim, m->own_losses + i);
    }
    return 0;
}

/* -- an evaluation -- */

static int embed_view(struct train *t, const struct view *v, struct err *e)
{
    const struct pass_input in = input_of(t);
    float *out = t->match->e;
    int64_t dim = t->config.dim, first, count;
    data_share(v->texts, train_parts(t), train_part(t), &first, &count);
    memset(out, 0, (size_t)(v->texts * dim) * sizeof *out);
    for (int64_t i = first, b; i < first + count; i += b) {
        int64_t most = 0;
        b = micro_of(t, first + count - i);
        for (int64_t j = 0; j < b; j++)
            most = larger(most, data_match_length(v->from, v->text[i + j]));
        train_set_length(t, most);
        for (int64_t j = 0; j < b; j++)
            fill(t, v->from, v->text[i + j], j);
        int rc = pass_means(t->pass, b, &in, false, out + i * dim, e);
        if (rc)
            return rc;
        for (int64_t j = 0; j < b; j++)
            cosines_normalize(out + (i + j) * dim, dim);
    }
    return put_together(t, out, v->texts * dim, e);
}

/* In batches as they stand in the file; the last one may be smaller. */
static double lose_view(struct train *t, const struct view *v)
{
    struct match *m = t->match;
    int64_t batch = t->spec->train.batch_sequences;
    double sum = 0;
    for (int64_t i = 0, n; i < v->pairs; i += n) {
        n = v->pairs - i < batch ? v->pairs - i : batch;
        struct cosines p = cosines_of(t, n);
        p.rows = v->rows + 2 * i;
        for (int64_t k = 0; m->labelled && k < n; k++)
            m->labels[k] = data_match_label(v->from, v->start + i + k);
        cosines_loss(&p, m->products, m->losses);
        for (int64_t k = 0; k < n; k++)
            sum += (double)m->losses[k];
        beat(t->door->page);
    }
    return sum / (double)v->pairs;
}

static void rank_query(struct train *t, const struct view *v, int64_t q)
{
    struct match *m = t->match;
    const struct cosines p = cosines_of(t, 0);
    const int32_t *place = v->candidate + v->pairs;
    int64_t n = 0;
#pragma omp parallel for schedule(static) if (v->candidates * p.c > 1 << 16)
    for (int64_t k = 0; k < v->candidates; k++)
        m->scores[k] = cosines_one(&p, v->asked[v->begin[q]].a, v->candidate[k]);
    for (int64_t i = v->begin[q]; i < v->begin[q + 1]; i++)
        if (i == v->begin[q] || v->asked[i].b != v->asked[i - 1].b)
            m->relevant[n++] = place[v->asked[i].b];
    ranking_of(m->scores, v->candidates, m->relevant, n, m->figures + q * RANKING_FIGURES);
}

static int rank_view(struct train *t, const struct view *v, struct err *e)
{
    struct match *m = t->match;
    int64_t count = v->queries * RANKING_FIGURES, first, own;
    memset(m->figures, 0, (size_t)count * sizeof *m->figures);
    data_share(v->queries, train_parts(t), train_part(t), &first, &own);
    for (int64_t q = first; q < first + own; q++) {
        rank_query(t, v, q);
        beat(t->door->page);
    }
    int rc = put_together(t, m->figures, count, e);
    for (int k = 0; k < RANKING_FIGURES && !rc; k++) {
        m->found[k] = 0;
        for (int64_t q = 0; q < v->queries; q++)
            m->found[k] += (double)m->figures[q * RANKING_FIGURES + k];
        m->found[k] /= (double)v->queries;
    }
    return rc;
}

static int correlate_view(struct train *t, const struct view *v, struct err *e)
{
    struct match *m = t->match;
    struct cosines p = cosines_of(t, 0);
    bool binary = true;
    p.rows = v->rows;
    classes_clear(m->classes);
    for (int64_t i = 0; i < v->pairs; i++) {
        float label = data_match_label(v->from, v->start + i);
        float cosine = cosines_one(&p, 2 * i, 2 * i + 1);
        m->cosines[i] = (double)cosine;
        m->truth[i] = (double)label;
        binary = binary && (label == 0 || label == 1);
        classes_score(m->classes, i, label > 0.5f, cosine);
    }
    m->pearson = ranking_pearson(m->cosines, m->truth, v->pairs);
    m->auc = binary ? classes_auc(m->classes) : NAN;
    return ranking_spearman(m->cosines, m->truth, v->pairs, &m->spearman, e);
}

static int match_look(struct train *t, const struct kept *h, double *means, struct err *e)
{
    struct match *m = t->match;
    const struct view *v = h->from == t->test ? &m->test : &m->validation;
    assert(v->from == h->from && v->start == h->start && v->pairs == h->n);
    int rc = embed_view(t, v, e);
    if (rc)
        return rc;
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    double mean = lose_view(t, v);
    if ((rc = m->labelled ? correlate_view(t, v, e) : rank_view(t, v, e)))
        return rc;
    m->seen = v;
    means[0] = mean;
    return 0;
}

/* -- what was found -- */

static double match_score(const struct train *t)
{
    const struct match *m = t->match;
    return m->labelled ? m->spearman : m->found[RANKING_NDCG];
}

struct figure {
    const char *name;
    double value;
};
#define FIGURES (RANKING_FIGURES > 3 ? RANKING_FIGURES : 3)

static int list_figures(const struct match *m, struct figure out[FIGURES])
{
    if (m->labelled) {
        out[0] = (struct figure){"pearson", m->pearson};
        out[1] = (struct figure){"spearman", m->spearman};
        out[2] = (struct figure){"rocAuc", m->auc};
        return 3;
    }
    for (int i = 0; i < RANKING_FIGURES; i++)
        out[i] = (struct figure){ranking_names[i], m->found[i]};
    return RANKING_FIGURES;
}

static int match_tell(struct train *t, const char *of, const double *means, struct err *e)
{
    struct figure f[FIGURES];
    int n = list_figures(t->match, f);
    (void)means;
    for (int i = 0; i < n; i++) {
        int rc = isnan(f[i].value) ? 0 : train_tell_figure(t, f[i].name, of, f[i].value, e);
        if (rc)
            return rc;
    }
    return 0;
}

static void match_log(const struct train *t, const char *of, const double *means)
{
    const struct match *m = t->match;
    const struct view *v = m->seen;
    const double *f = m->found;
    if (m->labelled)
        log_info("pairs", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", means[0]),
            LOG_I("pairs", v->pairs), LOG_F("spearman", m->spearman), LOG_F("pearson", m->pearson),
            LOG_F("rocAuc", m->auc));
    else
        log_info("ranking", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", means[0]),
            LOG_I("queries", v->queries), LOG_I("candidates", v->candidates),
            LOG_F("recall@1", f[RANKING_RECALL_1]), LOG_F("recall@5", f[RANKING_RECALL_5]),
            LOG_F("recall@10", f[RANKING_RECALL_10]), LOG_F("mrr@10", f[RANKING_MRR]),
            LOG_F("ndcg@10", f[RANKING_NDCG]));
}

static void match_write(const struct train *t, struct jsonw *w)
{
    const struct match *m = t->match;
    struct figure f[FIGURES];
    int n = list_figures(m, f);
    jsonw_open(w, m->labelled ? "similarity" : "ranking", '{');
    if (!m->labelled) {
        jsonw_int(w, "queries", m->seen->queries);
        jsonw_int(w, "candidates", m->seen->candidates);
    }
    for (int i = 0; i < n; i++)
        jsonw_num(w, f[i].name, f[i].value);
    jsonw_close(w);
}

/* -- the row -- */

static const struct objective_score score = {
    "match", "validationMatch", CKPT_SCORE_MATCH, match_score};

static const struct objective_loop loop = {
    .open_fn = match_open,
    .close_fn = match_close,
    .compute_fn = match_compute,
    .sums_fn = train_losses,
    .sums = 1,
    .look_fn = match_look,
    .tell_fn = match_tell,
    .log_fn = match_log,
    .score = &score,
    .write_fn = match_write,
};

const struct objective objective_match = {
    .name = "PairMatching",
    .samples = "pairs",
    .model = &objective_whole,
    .headless = true,
    .rows = 1,
    .parts = 2,
    .file_fn = match_file,
    .labels_fn = data_match_one,
    .tokens_fn = data_match_tokens,
    .loop = &loop,
};
