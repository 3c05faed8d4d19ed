/*
 * tok_bpe: a heap of candidate pairs, so a piece costs O(n log n) in its length and no text is
 * slow. A candidate that has gone stale, because one of its two has merged meanwhile, is passed
 * over when it comes up.
 */
#include "runtime/text/tok_bpe.h"

#include "base/mem.h"
#include "base/utf8.h"

#define TEXT_LIMIT INT32_MAX /* bytes of one piece, of a merge, ... */

struct tok_symbol {
    int32_t id, prev, next; /* prev, next: positions or -1; id -1: merged into its left neighbour */
};

struct tok_merge {
    int32_t rank, at, merged;
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

/* Appends the bytes of a half of a merge; false: it has none. */
static bool add_half(const struct tok_bpe *m, struct tok_text half, struct buf *out)
{
    return m->of_chars ? !buf_add(out, half.s, half.len) : tok_bytes(half, out);
}

static int build_merges(struct tok_bpe *m, const struct tok_def *d, const char *path, struct err *e)
{
    int rc = tok_pairs_init(&m->pairs, d->merge_count, e);
    if (rc)
        return rc;
    buf_auto struct buf b;
    buf_init(&b, TEXT_LIMIT);
    for (int64_t i = 0; i < d->merge_count; i++) {
        buf_reset(&b);
        bool ok = add_half(m, d->merges[i][0], &b);
        size_t left = b.len;
        ok = ok && add_half(m, d->merges[i][1], &b) && left && b.len > left && buf_ok(&b);
        struct tok_pair p = {.rank = d->ranks ? d->ranks[i] : (int32_t)i, .left = -1};
        p.right = p.merged = -1;
        if (ok) {
            p.left = tok_names_find(m->names, b.data, left);
            p.right = tok_names_find(m->names, b.data + left, b.len - left);
            p.merged = tok_names_find(m->names, b.data, b.len);
        }
        if (p.left < 0 || p.right < 0 || p.merged < 0)
            return err_set(e, ERR_DATA, "%s: merge %lld is not of tokens in the vocabulary", path,
                (long long)i);
        tok_pairs_put(&m->pairs, p);
    }
    return 0;
}

int tok_bpe_init(struct tok_bpe *m, const struct tok_def *d, const struct tok_names *names,
    const char *path, struct err *e)
{
    m->names = names;
    m->ignore_merges = d->ignore_merges;
    m->of_chars = d->model == TOK_BPE_CHARS;
    m->chars = d->chars;
    for (int b = 0; b < 256; b++) {
        char name[8] = {(char)b};
        if (m->of_chars)
            snprintf(name, sizeof name, "<0x%02X>", (unsigned int)b);
        m->byte_id[b] = tok_names_find(names, name, m->of_chars ? 6 : 1);
    }
    return build_merges(m, d, path, e);
}

void tok_bpe_done(struct tok_bpe *m)
{
    tok_pairs_done(&m->pairs);
}

/* -- encoding -- */

static bool before(const struct tok_merge *a, const struct tok_merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct tok_bpe_work *w, struct tok_merge c)
{
    int64_t i = w->heap_count++;
    for (; i && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static struct tok_merge heap_pop(struct tok_bpe_work *w)
{
    struct tok_merge top = w->heap[0], last = w->heap[--w->heap_count];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < w->heap_count; i = child) {
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* The pair that begins at symbol `at`, if it can merge, becomes a candidate. */
static void propose(const struct tok_bpe *m, struct tok_bpe_work *w, int32_t at)
{
    int32_t next = at < 0 ? -1 : w->symbols[at].next;
    if (next < 0)
        return;
    const struct tok_pair *p = tok_pairs_find(&m->pairs, w->symbols[at].id, w->symbols[next].id);
    if (p)
        heap_push(w, (struct tok_merge){p->rank, at, p->merged});
}

static int reserve(struct tok_bpe_work *w, size_t len, struct err *e)
{
    if ((int64_t)len <= w->room)
        return 0;
    size_t room = len < 256 ? 256 : 2 * len;
    struct tok_symbol *symbols = mem_grow(w->symbols, room, sizeof *symbols);
    if (symbols)
        w->symbols = symbols;
    struct tok_merge *heap = symbols ? mem_grow(w->heap, 3 * room, sizeof *heap) : NULL;
    if (!heap)
        return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", len);
    w->heap = heap;
    w->room = (int64_t)room;
    return 0;
}

static int merge_piece(const struct tok_bpe *m, struct tok_bpe_work *w, int32_t count,
    struct tok_ids *out, struct err *e)
{
    w->heap_count = 0;
    for (int32_t i = 0; i < count; i++)
        propose(m, w, i);
    while (w->heap_count) {
        struct tok_merge c = heap_pop(w);
        struct tok_symbol *left = &w->symbols[c.at];
        if (left->id < 0 || left->next < 0)
            continue;
        struct tok_symbol *right = &w->symbols[left->next];
        const struct tok_pair *p = tok_pairs_find(&m->pairs, left->id, right->id);
        if (!p || p->merged != c.merged) /* one of the two has merged since */
            continue;
        left->id = c.merged;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0)
            w->symbols[right->next].prev = c.at;
        propose(m, w, left->prev);
        propose(m, w, c.at);
    }
    int rc = 0;
    for (int32_t i = 0; !rc && i >= 0 && i < count; i = w->symbols[i].next)
        rc = tok_ids_add(out, w->symbols[i].id, e);
    return rc;
}

static void add_symbol(struct tok_bpe_work *w, int32_t *count, int32_t id)
{
    w->symbols[*count] = (struct tok_symbol){id, *count - 1, *count + 1};
    ++*count;
}

/* The bytes of a piece; the reference drops those that the vocabulary lacks, too. */
static int32_t fill_bytes(
    const struct tok_bpe *m, struct tok_bpe_work *w, const char *piece, size_t len)
{
    int32_t count = 0;
    for (size_t i = 0; i < len; i++)
        if (m->byte_id[(uint8_t)piece[i]] >= 0)
            add_symbol(w, &count, m->byte_id[(uint8_t)piece[i]]);
    return count;
}

static bool has_bytes(const struct tok_bpe *m, const char *s, size_t n)
{
    bool all = m->chars.byte_fallback;
    for (size_t i = 0; i < n; i++)
        all = all && m->byte_id[(uint8_t)s[i]] >= 0;
    return all;
}

/* The characters of a piece. An unknown one is put down when the next known one comes, as in the
   reference. */
static int32_t fill_chars(
    const struct tok_bpe *m, struct tok_bpe_work *w, const char *piece, size_t len)
{
    int32_t count = 0;
    bool waiting = false;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence(piece + i, len - i);
        int32_t id = tok_names_find(m->names, piece + i, n);
        if (id < 0 && has_bytes(m, piece + i, n)) {
            for (size_t k = 0; k < n; k++)
                add_symbol(w, &count, m->byte_id[(uint8_t)piece[i + k]]);
            continue;
        }
        if (waiting && (id >= 0 || !m->chars.fuse))
            add_symbol(w, &count, m->chars.unknown);
        if (id >= 0)
            add_symbol(w, &count, id);
        waiting = id < 0 && m->chars.unknown >= 0;
    }
    if (waiting)
        add_symbol(w, &count, m->chars.unknown);
    return count;
}

int tok_bpe_encode(const struct tok_bpe *m, struct tok_bpe_work *w, const char *piece, size_t len,
    struct tok_ids *out, struct err *e)
{
    if (m->ignore_merges) {
        int32_t id = tok_names_find(m->names, piece, len);
        if (id >= 0)
            return tok_ids_add(out, id, e);
    }
    if (len > TEXT_LIMIT / 2)
        return err_set(e, ERR_DATA, "%zu bytes without a place to cut cannot be tokenised", len);
    int rc = reserve(w, len, e);
    if (rc)
        return rc;
    int32_t count = m->of_chars ? fill_chars(m, w, piece, len) : fill_bytes(m, w, piece, len);
    if (count)
        w->symbols[count - 1].next = -1;
    return merge_piece(m, w, count, out, e);
}

void tok_bpe_work_done(struct tok_bpe_work *w)
{
    mem_free(w->symbols);
    mem_free(w->heap);
}

int tok_chars_decode(bool bytes, const char *token, size_t len, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    if (bytes && len == 6 && !memcmp(token, "<0x", 3) && token[5] == '>') {
        const char *high = memchr(digits, token[3], 16), *low = memchr(digits, token[4], 16);
        if (high && low)
            return buf_char(out, (char)((high - digits) << 4 | (low - digits)));
    }
    const char *end = token + len, *at;
    while ((at = memmem(token, (size_t)(end - token), TOK_SPACE, strlen(TOK_SPACE)))) {
        buf_add(out, token, (size_t)(at - token));
        buf_char(out, ' ');
        token = at + strlen(TOK_SPACE);
    }
    return buf_add(out, token, (size_t)(end - token));
}

int tok_bpe_decode(const struct tok_bpe *m, const char *token, size_t len, struct buf *out)
{
    return m->of_chars ? tok_chars_decode(m->chars.decodes_bytes, token, len, out)
                       : buf_add(out, token, len);
}
