/*
 * tok_unigram: a trie, laid out level by level, so that building and walking it recurse nowhere;
 * and for each place of a text the best way there. Where no token reaches beyond a place, the way
 * there is the text's, and what came before it is told and forgotten: scratch is of the longest
 * stretch without such a place. Sums of scores go on, so that equal ones are equal where the
 * tokenizers package has them so.
 */
#include "runtime/text/tok_unigram.h"

#include "base/mem.h"
#include "base/utf8.h"

#define UNKNOWN_PENALTY 10
#define TEXT_LIMIT      INT32_MAX

/* -- building -- */

struct name {
    const char *s;
    size_t len;
    int32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int d = memcmp(x->s, y->s, n);
    if (!d)
        d = (x->len > y->len) - (x->len < y->len);
    return d ? d : (x->id > y->id) - (x->id < y->id);
}

static bool is_listed(const struct tok_def *d, int32_t i)
{
    return d->flags[i] & TOK_OF_MODEL && d->tokens[i].len;
}

/* Tokens by their texts, of equal ones the last. */
static struct name *sort_names(const struct tok_def *d, int32_t *count)
{
    int32_t n = 0, kept = 0;
    struct name *list = mem_array((size_t)d->vocab + 1, sizeof *list);
    if (!list)
        return NULL;
    for (int32_t i = 0; i < d->vocab; i++)
        if (is_listed(d, i))
            list[n++] = (struct name){d->tokens[i].s, d->tokens[i].len, i};
    qsort(list, (size_t)n, sizeof *list, by_text);
    for (int32_t i = 0; i < n; i++) {
        bool same = kept && list[kept - 1].len == list[i].len &&
            !memcmp(list[kept - 1].s, list[i].s, list[i].len);
        list[same ? kept - 1 : kept++] = list[i];
    }
    *count = kept;
    return list;
}

/* The root, and a node for each byte that a name does not share with the one before it. */
static size_t count_nodes(const struct name *list, int32_t count)
{
    size_t nodes = 1;
    for (int32_t i = 0; i < count; i++) {
        size_t same = 0;
        while (i && same < list[i - 1].len && same < list[i].len &&
            list[i - 1].s[same] == list[i].s[same])
            same++;
        nodes += list[i].len - same;
    }
    return nodes;
}

struct range { /* of names that begin alike */
    int32_t from, to;
};

/* The children of node i, whose names are those of `is` from byte `depth` on, go behind `used`
   nodes. */
static size_t add_children(struct tok_unigram_node *nodes, struct range *ranges, size_t i,
    size_t used, size_t depth, const struct name *list)
{
    struct range is = ranges[i];
    if (is.from < is.to && list[is.from].len == depth)
        nodes[i].id = list[is.from++].id;
    nodes[i].children = (uint32_t)used;
    for (int32_t k = is.from; k < is.to; k++) {
        uint8_t label = (uint8_t)list[k].s[depth];
        if (k == is.from || nodes[used - 1].label != label) {
            nodes[used] = (struct tok_unigram_node){.label = label, .id = -1};
            ranges[used++] = (struct range){k, k};
            nodes[i].child_count++;
        }
        ranges[used - 1].to = k + 1;
    }
    return used;
}

static int build_trie(struct tok_unigram *m, const struct tok_def *d, struct err *e)
{
    int32_t count = 0;
    mem_autofree struct name *list = sort_names(d, &count);
    size_t size = list ? count_nodes(list, count) : 0;
    if (size > TEXT_LIMIT)
        return err_set(e, ERR_DATA, "the vocabulary does not fit");
    mem_autofree struct range *ranges = size ? mem_array(size, sizeof *ranges) : NULL;
    m->nodes = ranges ? mem_array(size, sizeof *m->nodes) : NULL;
    if (!m->nodes)
        return err_set(e, ERR_MEMORY, "no memory for a vocabulary of %d tokens", d->vocab);
    m->nodes[0] = (struct tok_unigram_node){.id = -1};
    ranges[0] = (struct range){0, count};
    size_t used = 1, depth = 0;
    for (size_t i = 0, level = 1; i < used; i++) {
        if (i == level) { /* all of one depth are behind us */
            level = used;
            depth++;
        }
        used = add_children(m->nodes, ranges, i, used, depth, list);
    }
    return 0;
}

int tok_unigram_init(struct tok_unigram *m, const struct tok_def *d, const struct tok_names *names,
    const uint8_t *kinds, struct err *e)
{
    m->names = names;
    m->kinds = kinds;
    m->unknown = d->chars.unknown;
    m->scores = mem_array((size_t)d->vocab, sizeof *m->scores);
    if (!m->scores)
        return err_set(e, ERR_MEMORY, "no memory for a vocabulary of %d tokens", d->vocab);
    memcpy(m->scores, d->scores, (size_t)d->vocab * sizeof *m->scores);
    double least = m->scores[m->unknown];
    for (int32_t i = 0; i < d->vocab; i++)
        if (d->flags[i] & TOK_OF_MODEL && m->scores[i] < least)
            least = m->scores[i];
    m->unknown_score = least - UNKNOWN_PENALTY;
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned int)b);
        m->byte_id[b] = d->chars.byte_fallback ? tok_names_find(names, name, 6) : -1;
    }
    return build_trie(m, d, e);
}

void tok_unigram_done(struct tok_unigram *m)
{
    mem_free(m->scores);
    mem_free(m->nodes);
    m->scores = NULL;
    m->nodes = NULL;
}

/* -- encoding -- */

struct tok_unigram_end { /* the best way to a place, by its last token */
    double score;
    int32_t from; /* where that begins; -1: there is no way yet */
    int32_t id;
};

struct viterbi { /* what is being encoded */
    const struct tok_unigram *m;
    struct tok_unigram_work *w;
    const char *text;
    bool special;
    size_t base;    /* the place of ends[0]: all before it is told */
    size_t known;   /* places that ends holds, from base on */
    size_t unknown; /* where the unknown characters before base begin; base: there are none */
    struct tok_ids *out;
};

/* Room for the places up to `to`. */
static int reserve(struct viterbi *r, size_t to, struct err *e)
{
    struct tok_unigram_work *w = r->w;
    size_t count = to - r->base + 1;
    if ((int64_t)count > w->room) {
        size_t room = count < 256 ? 256 : 2 * count;
        struct tok_unigram_end *ends = mem_grow(w->ends, room, sizeof *ends);
        if (!ends)
            return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", count);
        w->ends = ends;
        w->room = (int64_t)room;
    }
    for (; r->known < count; r->known++)
        w->ends[r->known].from = -1;
    return 0;
}

static void offer(struct viterbi *r, size_t from, size_t to, int32_t id, double score)
{
    struct tok_unigram_end *is = &r->w->ends[to - r->base];
    score += r->w->ends[from - r->base].score;
    if (is->from < 0 || score > is->score)
        *is = (struct tok_unigram_end){score, (int32_t)(from - r->base), id};
}

static const struct tok_unigram_node *find_child(
    const struct tok_unigram *m, const struct tok_unigram_node *n, uint8_t label)
{
    uint32_t low = n->children, high = low + n->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->nodes[middle].label < label)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < n->children + n->child_count && m->nodes[low].label == label;
    return found ? &m->nodes[low] : NULL;
}

/* All tokens that text[at .. len) begins with, and its first character, of n bytes, where that is
   none. *reach: where the farthest ends. */
static int extend(struct viterbi *r, size_t at, size_t n, size_t len, size_t *reach, struct err *e)
{
    const struct tok_unigram *m = r->m;
    const struct tok_unigram_node *node = m->nodes;
    bool single = false;
    int rc;
    for (size_t to = at; to < len && (node = find_child(m, node, (uint8_t)r->text[to]));) {
        to++;
        if (node->id < 0 || (!r->special && m->kinds[node->id] == TOK_SPECIAL))
            continue;
        if ((rc = reserve(r, to, e)))
            return rc;
        offer(r, at, to, node->id, m->scores[node->id]);
        single = single || to - at == n;
        *reach = to > *reach ? to : *reach;
    }
    if (single)
        return 0;
    if ((rc = reserve(r, at + n, e)))
        return rc;
    offer(r, at, at + n, m->unknown, m->unknown_score);
    *reach = at + n > *reach ? at + n : *reach;
    return 0;
}

static bool has_bytes(const struct tok_unigram *m, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (m->byte_id[(uint8_t)s[i]] < 0)
            return false;
    return true;
}

/* Unknown characters beside one another: a token that they happen to be, their bytes, or the
   unknown token. */
static int tell_unknown(struct viterbi *r, const char *s, size_t len, struct err *e)
{
    const struct tok_unigram *m = r->m;
    if (!len)
        return 0;
    int32_t id = tok_names_find(m->names, s, len);
    if (id >= 0 && !r->special && m->kinds[id] == TOK_SPECIAL)
        id = -1;
    if (id >= 0 || !has_bytes(m, s, len))
        return tok_ids_add(r->out, id >= 0 ? id : m->unknown, e);
    int rc = 0;
    for (size_t i = 0; !rc && i < len; i++)
        rc = tok_ids_add(r->out, m->byte_id[(uint8_t)s[i]], e);
    return rc;
}

/* Tells the way to `at`, which is the text's, and forgets it. */
static int tell(struct viterbi *r, size_t at, struct err *e)
{
    struct tok_unigram_end *ends = r->w->ends;
    int32_t last = (int32_t)(at - r->base), next = last;
    double score = ends[last].score;
    int rc;
    for (int32_t is = last, from; is; is = from) { /* turned round: `from` becomes the next place */
        from = ends[is].from;
        ends[is].from = next;
        next = is;
    }
    for (int32_t begin = 0, is = next; begin < last; begin = is, is = ends[is].from) {
        if (ends[is].id == r->m->unknown)
            continue;
        size_t from = r->base + (size_t)begin;
        if ((rc = tell_unknown(r, r->text + r->unknown, from - r->unknown, e)) ||
            (rc = tok_ids_add(r->out, ends[is].id, e)))
            return rc;
        r->unknown = r->base + (size_t)is;
    }
    r->base = at;
    r->known = 1;
    ends[0] = (struct tok_unigram_end){.score = score};
    return 0;
}

int tok_unigram_encode(const struct tok_unigram *m, struct tok_unigram_work *w, const char *text,
    size_t len, bool special, struct tok_ids *out, struct err *e)
{
    struct viterbi r = {.m = m, .w = w, .text = text, .special = special, .out = out};
    size_t reach = 0;
    if (!len)
        return 0;
    if (len > TEXT_LIMIT / 2)
        return err_set(e, ERR_DATA, "%zu bytes without a place to cut cannot be tokenised", len);
    int rc = reserve(&r, 0, e);
    if (rc)
        return rc;
    w->ends[0] = (struct tok_unigram_end){0};
    for (size_t at = 0, n; at < len; at += n) {
        n = utf8_sequence(text + at, len - at);
        if ((at == reach && at && (rc = tell(&r, at, e))) ||
            (rc = extend(&r, at, n, len, &reach, e)))
            return rc;
    }
    rc = tell(&r, len, e);
    return rc ? rc : tell_unknown(&r, text + r.unknown, len - r.unknown, e);
}

void tok_unigram_work_done(struct tok_unigram_work *w)
{
    mem_free(w->ends);
}
