/*
 * entities: truth and guess are walked side by side, and an entity is compared where it ends, so
 * nothing is kept of a sentence but where either side's present entity began. A mode sees labels in
 * its own way (it cuts types differently), so each has its table of types.
 */
#include "runtime/train/entities.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_TRUE, KIND_GUESSED, KIND_RIGHT, KINDS }; /* counts of a type */
enum { TOTAL_TOKENS, TOTAL_RIGHT, TOTALS };

struct entities_seen { /* a label, as a mode sees it */
    char tag;          /* one of "OBIES.", or '?' */
    int32_t type;
};

struct entities_sight { /* of one mode */
    const char **types; /* (type_count), sorted bytewise, which is by code point */
    int64_t type_count;
    struct entities_seen *labels; /* (label_count) */
    struct entities_seen outside; /* what stands behind a sentence, and before it */
    int32_t *counts;              /* (type_count, KINDS) */
    char *text;                   /* of the types */
};

struct entities {
    int64_t label_count, count;
    struct entities_sight
        sights[ENTITIES_MODES]; /* strict without types where there is no scheme */
    const char *scheme;         /* of strict; or NULL */
    int32_t *counts;            /* (count): TOTALS, then each sight's */
    struct score *rows;         /* (the most types), while a report is made */
    double *column;             /* (the most types), likewise */
};

/* -- labels -- */

static size_t first_character(const char *name)
{
    size_t n = utf8_sequence(name, strlen(name));
    return n ? n : 1;
}

/* What is no letter of a scheme is all the same to seqeval, but for the point. */
static char label_tag(const char *name)
{
    return strchr("OBIES.", name[0]) ? name[0] : '?';
}

/* As seqeval cuts it, in place: behind the first hyphen; strict, without the hyphens around. */
static const char *cut_type(char *name, enum entities_mode m)
{
    char *rest = name + first_character(name), *hyphen = strchr(rest, '-');
    if (m == ENTITIES_LENIENT) {
        rest = hyphen ? hyphen + 1 : rest;
    } else {
        rest += strspn(rest, "-");
        size_t n = strlen(rest);
        while (n && rest[n - 1] == '-')
            rest[--n] = 0;
    }
    return *rest ? rest : "_";
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int32_t type_index(const struct entities_sight *s, const char *type)
{
    const char **at = bsearch(&type, s->types, (size_t)s->type_count, sizeof *s->types, by_text);
    return (int32_t)(at - s->types);
}

static int no_memory(int64_t count, struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the report of %lld labels", (long long)count);
}

/* The types of all labels and of "O", each once. */
static int sight_init(struct entities_sight *s, enum entities_mode m, const char *const *names,
    int64_t count, struct err *e)
{
    size_t size = 1, n = (size_t)count;
    for (size_t i = 0; i < n; i++)
        size += strlen(names[i]) + 1;
    s->text = mem_alloc(size);
    s->types = mem_array(2 * n + 1, sizeof *s->types);
    s->labels = mem_array(n + 1, sizeof *s->labels);
    if (!s->text || !s->types || !s->labels)
        return no_memory(count, e);
    const char **cut = s->types + n + 1; /* (count): the type of each label, while it is made */
    char *to = s->text;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]) + 1;
        memcpy(to, names[i], length);
        s->types[i] = cut[i] = cut_type(to, m);
        to += length;
    }
    s->types[n] = "_";
    qsort(s->types, n + 1, sizeof *s->types, by_text);
    for (size_t i = 0; i <= n; i++)
        if (!i || strcmp(s->types[i], s->types[s->type_count - 1]) != 0)
            s->types[s->type_count++] = s->types[i];
    for (size_t i = 0; i < n; i++)
        s->labels[i] = (struct entities_seen){label_tag(names[i]), type_index(s, cut[i])};
    s->outside = (struct entities_seen){'O', type_index(s, "_")};
    return 0;
}

static const char *choose_scheme(const char *const *names, int64_t count)
{
    bool begins = false, ends = false;
    for (int64_t i = 0; i < count; i++) {
        if (!strchr("OBIES", names[i][0]))
            return NULL;
        begins |= names[i][0] == 'B';
        ends |= names[i][0] == 'E' || names[i][0] == 'S';
    }
    return ends ? "IOBES" : begins ? "IOB2" : NULL;
}

static int fill(struct entities *t, const char *const *names, int64_t count, struct err *e)
{
    t->label_count = count;
    t->scheme = choose_scheme(names, count);
    t->count = TOTALS;
    int64_t most = 0;
    for (enum entities_mode m = 0; m < ENTITIES_MODES; m++) {
        struct entities_sight *s = &t->sights[m];
        if (m == ENTITIES_STRICT && !t->scheme)
            continue;
        int rc = sight_init(s, m, names, count, e);
        if (rc)
            return rc;
        t->count += s->type_count * KINDS;
        most = most > s->type_count ? most : s->type_count;
    }
    t->counts = mem_array((size_t)t->count, sizeof *t->counts);
    t->rows = mem_array((size_t)most, sizeof *t->rows);
    t->column = mem_array((size_t)most, sizeof *t->column);
    if (!t->counts || !t->rows || !t->column)
        return no_memory(count, e);
    int32_t *at = t->counts + TOTALS;
    for (int m = 0; m < ENTITIES_MODES; m++) {
        t->sights[m].counts = at;
        at += t->sights[m].type_count * KINDS;
    }
    return 0;
}

int entities_create(const char *const *names, int64_t count, struct entities **out, struct err *e)
{
    for (int64_t i = 0; i < count; i++)
        if (!*names[i])
            return err_set(e, ERR_DATA, "label %lld has an empty name", (long long)i);
    struct entities *t = mem_zalloc(sizeof *t);
    int rc = t ? fill(t, names, count, e) : no_memory(count, e);
    if (rc) {
        entities_destroy(t);
        return rc;
    }
    *out = t;
    return 0;
}

void entities_destroy(struct entities *t)
{
    if (!t)
        return;
    for (int m = 0; m < ENTITIES_MODES; m++) {
        mem_free(t->sights[m].types);
        mem_free(t->sights[m].labels);
        mem_free(t->sights[m].text);
    }
    mem_free(t->counts);
    mem_free(t->rows);
    mem_free(t->column);
    mem_free(t);
}

/* -- counting -- */

struct entities_walk { /* along the labels of one side */
    struct entities_seen last;
    int64_t begin; /* of the entity that was begun last */
    bool open;     /* strict: there is one */
};

/* Does the entity end before `next`, and is one begun there? As conlleval has it. */
static bool lenient_ends(const struct entities_walk *w, struct entities_seen next)
{
    char tag = w->last.tag;
    if (tag == 'E' || tag == 'S')
        return true;
    if ((tag == 'B' || tag == 'I') && strchr("BSO", next.tag))
        return true;
    return tag != 'O' && tag != '.' && w->last.type != next.type;
}

static bool lenient_begins(const struct entities_walk *w, struct entities_seen next)
{
    if (next.tag == 'B' || next.tag == 'S')
        return true;
    if (strchr("ESO", w->last.tag) && strchr("EI", next.tag))
        return true;
    return next.tag != 'O' && next.tag != '.' && w->last.type != next.type;
}

static bool lenient_step(
    struct entities_walk *w, struct entities_seen next, int64_t at, struct entities_walk *ended)
{
    bool ends = lenient_ends(w, next);
    *ended = *w;
    if (lenient_begins(w, next))
        w->begin = at;
    w->last = next;
    return ends;
}

/* In IOB2 whatever goes on no longer has ended; in IOBES only behind E and S. */
static bool strict_step(struct entities_walk *w, struct entities_seen next, int64_t at, bool closed,
    struct entities_walk *ended)
{
    char tag = w->last.tag;
    bool inside = w->open && strchr("BI", tag) && strchr("IE", next.tag);
    inside = inside && w->last.type == next.type;
    bool ends = w->open && !inside && (!closed || strchr("SE", tag));
    *ended = *w;
    if (!inside) {
        w->open = next.tag == 'B' || next.tag == 'S';
        w->begin = at;
    }
    w->last = next;
    return ends;
}

static void count_sentence(
    struct entities *t, enum entities_mode m, const int32_t *truth, const int32_t *guess, int64_t n)
{
    struct entities_sight *s = &t->sights[m];
    struct entities_walk walks[2] = {{.last = s->outside}, {.last = s->outside}}, ended[2];
    bool closed = t->scheme && !strcmp(t->scheme, "IOBES");
    for (int64_t i = 0; i <= n; i++) {
        bool ends[2];
        for (int side = 0; side < 2; side++) {
            struct entities_walk *w = &walks[side];
            struct entities_seen next = i < n ? s->labels[(side ? guess : truth)[i]] : s->outside;
            ends[side] = m == ENTITIES_STRICT ? strict_step(w, next, i, closed, &ended[side])
                                              : lenient_step(w, next, i, &ended[side]);
            if (ends[side])
                s->counts[ended[side].last.type * KINDS + (side ? KIND_GUESSED : KIND_TRUE)]++;
        }
        if (ends[0] && ends[1] && ended[0].begin == ended[1].begin &&
            ended[0].last.type == ended[1].last.type)
            s->counts[ended[0].last.type * KINDS + KIND_RIGHT]++;
    }
}

int entities_add(
    struct entities *t, const int32_t *truth, const int32_t *guess, int64_t n, struct err *e)
{
    if (n > INT32_MAX - t->counts[TOTAL_TOKENS])
        return err_set(e, ERR_DATA, "more than %d labels to report on", INT32_MAX);
    t->counts[TOTAL_TOKENS] += (int32_t)n;
    for (int64_t i = 0; i < n; i++) {
        assert(truth[i] >= 0 && truth[i] < t->label_count);
        assert(guess[i] >= 0 && guess[i] < t->label_count);
        t->counts[TOTAL_RIGHT] += truth[i] == guess[i];
    }
    count_sentence(t, ENTITIES_LENIENT, truth, guess, n);
    if (t->scheme)
        count_sentence(t, ENTITIES_STRICT, truth, guess, n);
    return 0;
}

int32_t *entities_counts(struct entities *t, int64_t *n)
{
    *n = t->count;
    return t->counts;
}

void entities_clear(struct entities *t)
{
    memset(t->counts, 0, (size_t)t->count * sizeof *t->counts);
}

/* -- scores -- */

static struct score score_of(int64_t truth, int64_t guessed, int64_t right)
{
    struct score s = {scores_divide((double)right, (double)guessed),
        scores_divide((double)right, (double)truth), 0, truth};
    s.f1 = scores_divide(2 * s.precision * s.recall, s.precision + s.recall);
    return s;
}

/* Counts of a type; all 0 where neither truth nor guess has one. */
static struct score type_score(const struct entities_sight *s, int64_t type, bool *met)
{
    const int32_t *c = s->counts + type * KINDS;
    *met = c[KIND_TRUE] || c[KIND_GUESSED];
    return score_of(c[KIND_TRUE], c[KIND_GUESSED], c[KIND_RIGHT]);
}

static struct score average_score(const struct entities *t, int64_t n, bool weighted)
{
    return scores_average(t->rows, n, weighted, t->column);
}

bool entities_has_strict(const struct entities *t)
{
    return t->scheme;
}

double entities_accuracy(const struct entities *t)
{
    return scores_divide((double)t->counts[TOTAL_RIGHT], (double)t->counts[TOTAL_TOKENS]);
}

struct score entities_micro(const struct entities *t, enum entities_mode m)
{
    const struct entities_sight *s = &t->sights[m];
    int64_t sums[KINDS] = {0};
    for (int64_t i = 0; i < s->type_count * KINDS; i++)
        sums[i % KINDS] += s->counts[i];
    return score_of(sums[KIND_TRUE], sums[KIND_GUESSED], sums[KIND_RIGHT]);
}

/* -- reports -- */

/* Each row of a report in turn: the types that were met, then three averages. */
typedef void row_fn(void *user, const char *name, const struct score *s, bool is_average);

static void each_row(const struct entities *t, enum entities_mode m, row_fn *fn, void *user)
{
    const struct entities_sight *s = &t->sights[m];
    int64_t n = 0;
    for (int64_t i = 0; i < s->type_count; i++) {
        bool met;
        t->rows[n] = type_score(s, i, &met);
        if (met)
            fn(user, s->types[i], &t->rows[n++], false);
    }
    struct score micro = entities_micro(t, m), macro = average_score(t, n, false),
                 weighted = average_score(t, n, true);
    fn(user, "micro avg", &micro, true);
    fn(user, "macro avg", &macro, true);
    fn(user, "weighted avg", &weighted, true);
}

struct entities_print {
    struct buf *out;
    size_t width;
    bool averages; /* have begun */
};

static void widen(void *user, const char *name, const struct score *s, bool is_average)
{
    struct entities_print *p = user;
    size_t n = utf8_count(name);
    (void)s, (void)is_average;
    p->width = n > p->width ? n : p->width;
}

static void print_row(void *user, const char *name, const struct score *s, bool is_average)
{
    struct entities_print *p = user;
    if (is_average && !p->averages)
        buf_char(p->out, '\n');
    p->averages = is_average;
    scores_print(p->out, p->width, name, s);
}

void entities_table(const struct entities *t, enum entities_mode m, struct buf *out)
{
    struct entities_print p = {.out = out};
    each_row(t, m, widen, &p);
    scores_print_head(out, p.width);
    each_row(t, m, print_row, &p);
}

static void write_row(void *user, const char *name, const struct score *s, bool is_average)
{
    (void)is_average;
    scores_json(user, name, s);
}

void entities_json(const struct entities *t, struct jsonw *w, const char *key)
{
    static const char *const modes[] = {"lenient", "strict"};
    jsonw_open(w, key, '{');
    jsonw_num(w, "accuracy", entities_accuracy(t));
    jsonw_int(w, "tokens", t->counts[TOTAL_TOKENS]);
    jsonw_str(w, "scheme", t->scheme);
    for (enum entities_mode m = 0; m < ENTITIES_MODES; m++) {
        if (m == ENTITIES_STRICT && !t->scheme) {
            jsonw_null(w, modes[m]);
            continue;
        }
        jsonw_open(w, modes[m], '{');
        each_row(t, m, write_row, w);
        jsonw_close(w);
    }
    jsonw_close(w);
}
