/*
 * tok: byte-level BPE. Text is cut at added tokens, then by the pre-tokenizer (tok_split), and each
 * piece is merged by a heap of candidate pairs, lowest rank first, leftmost among equals: O(n log
 * n) in the length of a piece, so no text is slow. After creation everything is read-only; an
 * encoding's scratch is its own. Never sees a file.
 */
#include "runtime/text/tok.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_added.h"
#include "runtime/text/tok_def.h"
#include "runtime/text/tok_normal.h"
#include "runtime/text/tok_table.h"

#define TEXT_LIMIT INT32_MAX /* bytes of one piece, all tokens, ... */

struct tok {
    int32_t vocab, bos, eos;
    bool ignore_merges, nfc;
    uint8_t *kinds;
    char *bytes;            /* of all tokens, decoded */
    uint32_t *start;        /* vocab + 1 */
    struct tok_names names; /* normal tokens only */
    struct tok_pairs pairs;
    int32_t byte_id[256]; /* -1: the vocabulary lacks it */
    struct tok_split *split;
    struct tok_added added[2]; /* looked for in text as it is, and in normalised text */
    struct tok_affix prefix, suffix;
};

/* -- GPT-2's byte alphabet -- */

static bool printable(int b)
{
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

uint32_t tok_byte_char(uint8_t byte)
{
    if (printable(byte))
        return byte;
    uint32_t n = 0;
    for (int b = 0; b < byte; b++)
        n += !printable(b);
    return 256 + n;
}

/* The byte of a character, or -1. */
static int char_byte(uint32_t c)
{
    if (c < 256)
        return printable((int)c) ? (int)c : -1;
    for (int b = 0; c < 256 + 68 && b < 256; b++)
        if (!printable(b) && c-- == 256)
            return b;
    return -1;
}

bool tok_bytes(struct tok_text text, struct buf *out)
{
    size_t before = out->len;
    for (size_t i = 0; i < text.len;) {
        size_t n = utf8_sequence(text.s + i, text.len - i);
        const uint8_t *p = (const uint8_t *)text.s + i;
        int byte = n == 1 ? char_byte(p[0])
            : n == 2      ? char_byte((p[0] & 0x1fu) << 6 | (p[1] & 0x3fu))
                          : -1;
        if (byte < 0) {
            if (out->len > before)
                out->data[out->len = before] = 0;
            return false;
        }
        buf_char(out, (char)byte);
        i += n;
    }
    return true;
}

/* -- building -- */

static int build_bytes(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    buf_auto struct buf all;
    buf_init(&all, TEXT_LIMIT);
    for (int32_t i = 0; i < d->vocab; i++) {
        t->start[i] = (uint32_t)all.len;
        t->kinds[i] = d->kinds[i];
        if (d->kinds[i] == TOK_NORMAL && tok_bytes(d->tokens[i], &all))
            continue;
        if (d->kinds[i] == TOK_NORMAL) /* cannot come from bytes, so never from text */
            t->kinds[i] = TOK_UNUSED;
        buf_add(&all, d->tokens[i].s, d->tokens[i].len);
    }
    t->start[d->vocab] = (uint32_t)all.len;
    t->bytes = buf_take(&all);
    if (!t->bytes)
        return err_set(e, ERR_DATA, "%s: the vocabulary is empty or does not fit", path);
    int rc = tok_names_init(&t->names, d->vocab, t->bytes, t->start, e);
    for (int32_t i = 0; !rc && i < d->vocab; i++)
        if (t->kinds[i] == TOK_NORMAL)
            tok_names_add(&t->names, i);
    for (int b = 0; !rc && b < 256; b++)
        t->byte_id[b] = tok_names_find(&t->names, (const char[]){(char)b}, 1);
    return rc;
}

static int build_merges(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    int rc = tok_pairs_init(&t->pairs, d->merge_count, e);
    if (rc)
        return rc;
    buf_auto struct buf b;
    buf_init(&b, TEXT_LIMIT);
    for (int64_t i = 0; i < d->merge_count; i++) {
        buf_reset(&b);
        bool ok = tok_bytes(d->merges[i][0], &b);
        size_t left = b.len;
        ok = ok && tok_bytes(d->merges[i][1], &b) && left && b.len > left && buf_ok(&b);
        struct tok_pair p = {.rank = (int32_t)i, .left = -1, .right = -1, .merged = -1};
        if (ok) {
            p.left = tok_names_find(&t->names, b.data, left);
            p.right = tok_names_find(&t->names, b.data + left, b.len - left);
            p.merged = tok_names_find(&t->names, b.data, b.len);
        }
        if (p.left < 0 || p.right < 0 || p.merged < 0)
            return err_set(e, ERR_DATA, "%s: merge %lld is not of tokens in the vocabulary", path,
                (long long)i);
        tok_pairs_put(&t->pairs, p);
    }
    return 0;
}

static size_t token_len(const struct tok *t, int32_t id)
{
    return t->start[id + 1] - t->start[id];
}

static int build_added(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    int rc = 0;
    for (int k = 0; !rc && k < 2; k++)
        rc = tok_added_init(&t->added[k], d, t->bytes, t->start, k, e);
    for (int32_t i = 0; !rc && t->nfc && i < t->added[1].count; i++) {
        const struct tok_added_one *one = &t->added[1].list[i];
        const char *normal;
        size_t len;
        void *owned;
        rc = tok_normal_nfc(one->text, one->len, &normal, &len, &owned, e);
        if (!rc && (len != one->len || memcmp(normal, one->text, len)))
            rc = err_set(e, ERR_DATA, "added token \"%.*s\" is not in its normal form",
                (int)(one->len < 40 ? one->len : 40), one->text);
        mem_free(owned);
    }
    return rc ? err_wrap(e, "%s", path) : 0;
}

static int build(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    int rc;
    if (!t->start || !t->kinds)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    if ((rc = build_bytes(t, d, path, e)) || (rc = build_merges(t, d, path, e)) ||
        (rc = build_added(t, d, path, e)) || (rc = tok_split_create(&t->split, e)))
        return rc;
    for (int i = 0; i < d->pattern_count; i++)
        if (tok_split_add(t->split, d->patterns[i], e))
            return err_wrap(e, "%s", path);
    return 0;
}

int tok_create(const struct tok_def *d, const char *path, struct tok **out, struct err *e)
{
    struct tok *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    t->vocab = d->vocab;
    t->bos = d->bos;
    t->eos = d->eos;
    t->ignore_merges = d->ignore_merges;
    t->nfc = d->nfc;
    t->prefix = d->prefix;
    t->suffix = d->suffix;
    t->start = mem_array((size_t)d->vocab + 1, sizeof *t->start);
    t->kinds = mem_array((size_t)d->vocab + 1, sizeof *t->kinds);
    int rc = build(t, d, path, e);
    if (rc)
        tok_close(t);
    else
        *out = t;
    return rc;
}

void tok_close(struct tok *t)
{
    if (!t)
        return;
    tok_split_destroy(t->split);
    tok_names_done(&t->names);
    tok_pairs_done(&t->pairs);
    for (int k = 0; k < 2; k++)
        tok_added_done(&t->added[k]);
    mem_free(t->kinds);
    mem_free(t->start);
    mem_free(t->bytes);
    mem_free(t);
}

/* -- encoding -- */

struct symbol {
    int32_t id, prev, next; /* prev, next: positions or -1; id -1: merged into its left neighbour */
};

struct merge_at {
    int32_t rank, at, merged;
};

struct encoding {
    const struct tok *tok;
    struct tok_ids *out;
    struct symbol *symbols;
    struct merge_at *heap;
    int64_t room; /* symbols; the heap has three times as many */
    int64_t heap_count;
    bool special, guarded;
};

void tok_ids_done(struct tok_ids *ids)
{
    mem_free(ids->id);
    *ids = (struct tok_ids){0};
}

int tok_ids_add(struct tok_ids *out, int32_t id, struct err *e)
{
    if (out->count == out->capacity) {
        int64_t capacity = out->capacity ? 2 * out->capacity : 64;
        int32_t *grown = mem_grow(out->id, (size_t)capacity, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for %lld tokens", (long long)capacity);
        out->id = grown;
        out->capacity = capacity;
    }
    out->id[out->count++] = id;
    return 0;
}

static bool before(const struct merge_at *a, const struct merge_at *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct encoding *n, struct merge_at c)
{
    int64_t i = n->heap_count++;
    for (; i && before(&c, &n->heap[(i - 1) / 2]); i = (i - 1) / 2)
        n->heap[i] = n->heap[(i - 1) / 2];
    n->heap[i] = c;
}

static struct merge_at heap_pop(struct encoding *n)
{
    struct merge_at top = n->heap[0], last = n->heap[--n->heap_count];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < n->heap_count; i = child) {
        if (child + 1 < n->heap_count && before(&n->heap[child + 1], &n->heap[child]))
            child++;
        if (!before(&n->heap[child], &last))
            break;
        n->heap[i] = n->heap[child];
    }
    n->heap[i] = last;
    return top;
}

/* The pair that begins at symbol `at`, if it can merge, becomes a candidate. */
static void propose(struct encoding *n, int32_t at)
{
    int32_t next = at < 0 ? -1 : n->symbols[at].next;
    if (next < 0)
        return;
    const struct tok_pair *p =
        tok_pairs_find(&n->tok->pairs, n->symbols[at].id, n->symbols[next].id);
    if (p)
        heap_push(n, (struct merge_at){p->rank, at, p->merged});
}

static int reserve(struct encoding *n, size_t len, struct err *e)
{
    if ((int64_t)len <= n->room)
        return 0;
    size_t room = len < 256 ? 256 : 2 * len;
    struct symbol *symbols = mem_grow(n->symbols, room, sizeof *symbols);
    if (symbols)
        n->symbols = symbols;
    struct merge_at *heap = symbols ? mem_grow(n->heap, 3 * room, sizeof *heap) : NULL;
    if (!heap)
        return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", len);
    n->heap = heap;
    n->room = (int64_t)room;
    return 0;
}

static int merge_piece(struct encoding *n, int32_t count, struct err *e)
{
    n->heap_count = 0;
    for (int32_t i = 0; i < count; i++)
        propose(n, i);
    while (n->heap_count) {
        struct merge_at c = heap_pop(n);
        struct symbol *left = &n->symbols[c.at];
        if (left->id < 0 || left->next < 0)
            continue;
        struct symbol *right = &n->symbols[left->next];
        const struct tok_pair *p = tok_pairs_find(&n->tok->pairs, left->id, right->id);
        if (!p || p->merged != c.merged) /* one of the two has merged since */
            continue;
        left->id = c.merged;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0)
            n->symbols[right->next].prev = c.at;
        propose(n, left->prev);
        propose(n, c.at);
    }
    int rc = 0;
    for (int32_t i = 0; !rc && i >= 0 && i < count; i = n->symbols[i].next)
        rc = tok_ids_add(n->out, n->symbols[i].id, e);
    return rc;
}

static int encode_piece(void *context, const char *piece, size_t len, struct err *e)
{
    struct encoding *n = context;
    const struct tok *t = n->tok;
    if (t->ignore_merges) {
        int32_t id = tok_names_find(&t->names, piece, len);
        if (id >= 0)
            return tok_ids_add(n->out, id, e);
    }
    if (len > TEXT_LIMIT / 2)
        return err_set(e, ERR_DATA, "%zu bytes without a place to cut cannot be tokenised", len);
    int rc = reserve(n, len, e);
    if (rc)
        return rc;
    int32_t count = 0;
    for (size_t i = 0; i < len; i++) {
        int32_t id = t->byte_id[(uint8_t)piece[i]];
        if (id < 0) /* the reference drops such bytes too */
            continue;
        n->symbols[count] = (struct symbol){id, count - 1, count + 1};
        count++;
    }
    if (count)
        n->symbols[count - 1].next = -1;
    return merge_piece(n, count, e);
}

/* What lies between added tokens. */
static int encode_words(struct encoding *n, const char *text, size_t len, struct err *e)
{
    buf_auto struct buf clean;
    buf_init(&clean, TEXT_LIMIT);
    if (n->guarded) {
        if (tok_added_unguard(text, len, &clean))
            return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", len);
        text = buf_cstr(&clean);
        len = clean.len;
    }
    return tok_split_run(n->tok->split, text, len, encode_piece, n, e);
}

/* text between tokens of `added` by between_fn. */
static int encode_around(struct encoding *n, const struct tok_added *added, const char *text,
    size_t len, int (*between_fn)(struct encoding *, const char *, size_t, struct err *),
    struct err *e)
{
    struct tok_match m;
    size_t at = 0;
    for (; tok_added_next(added, text, len, at, n->special, &m); at = m.to) {
        int rc;
        if ((rc = between_fn(n, text + at, m.from - at, e)) || (rc = tok_ids_add(n->out, m.id, e)))
            return rc;
    }
    return between_fn(n, text + at, len - at, e);
}

static int encode_plain(struct encoding *n, const char *text, size_t len, struct err *e)
{
    void *owned = NULL;
    int rc = n->tok->nfc ? tok_normal_nfc(text, len, &text, &len, &owned, e) : 0;
    if (!rc)
        rc = encode_around(n, &n->tok->added[1], text, len, encode_words, e);
    mem_free(owned);
    return rc;
}

static int encode(struct encoding *n, const char *text, int64_t len, struct err *e)
{
    size_t size = (size_t)len;
    size_t valid = utf8_valid_prefix(text, size);
    if (valid < size)
        return err_set(e, ERR_DATA, "invalid UTF-8 at byte %zu", valid);
    int64_t before_count = n->out->count;
    int rc = encode_around(n, &n->tok->added[0], text, size, encode_plain, e);
    mem_free(n->symbols);
    mem_free(n->heap);
    if (rc)
        n->out->count = before_count;
    return rc;
}

int tok_encode(const struct tok *t, const char *text, int64_t len, bool special,
    struct tok_ids *out, struct err *e)
{
    return encode(&(struct encoding){.tok = t, .out = out, .special = special}, text, len, e);
}

static int add_affix(const struct tok_affix *affix, struct tok_ids *out, struct err *e)
{
    int rc = 0;
    for (int i = 0; !rc && i < affix->count; i++)
        rc = tok_ids_add(out, affix->id[i], e);
    return rc;
}

int tok_encode_document(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e)
{
    int64_t before_count = out->count;
    int rc;
    if ((rc = add_affix(&t->prefix, out, e)) || (rc = tok_encode(t, text, len, true, out, e)) ||
        (rc = add_affix(&t->suffix, out, e)))
        out->count = before_count;
    return rc;
}

int tok_guard(const struct tok *t, const char *text, size_t len, struct buf *out)
{
    return tok_added_guard(t->added, 2, text, len, out);
}

int tok_encode_guarded(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e)
{
    return encode(
        &(struct encoding){.tok = t, .out = out, .special = true, .guarded = true}, text, len, e);
}

/* -- the rest -- */

int tok_decode(const struct tok *t, int32_t id, bool skip_special, struct buf *out)
{
    if (id < 0 || id >= t->vocab || (skip_special && t->kinds[id] == TOK_SPECIAL))
        return 0;
    return buf_add(out, t->bytes + t->start[id], token_len(t, id));
}

bool tok_is_special(const struct tok *t, int32_t id)
{
    return id >= 0 && id < t->vocab && t->kinds[id] == TOK_SPECIAL;
}

int32_t tok_vocab(const struct tok *t)
{
    return t->vocab;
}

int32_t tok_bos(const struct tok *t)
{
    return t->bos;
}

int32_t tok_eos(const struct tok *t)
{
    return t->eos;
}
