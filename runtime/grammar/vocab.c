/*
 * vocab: tokens sorted by their bytes make a tree in the order of a walk from left to right: each
 * node says how deep it is and where its branch ends.
 */
#include "runtime/grammar/vocab.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_LIMIT ((size_t)256 << 20)

struct vocab_node {
    uint32_t behind; /* the node behind its branch */
    uint32_t token;  /* the first of those that end here, in `ids` */
    uint8_t depth, byte;
    uint16_t tokens; /* how many */
};

struct vocab {
    int32_t count;
    struct vocab_node *node;
    uint32_t nodes;
    int32_t *ids;
};

struct vocab_word { /* a token's text, while they are sorted */
    const char *text;
    uint8_t len;
    int32_t id;
};

static int by_text(const void *x, const void *y)
{
    const struct vocab_word *a = x, *b = y;
    int d = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return d ? d : a->len != b->len ? a->len - b->len : (a->id > b->id) - (a->id < b->id);
}

static size_t shared(const struct vocab_word *a, const struct vocab_word *b)
{
    size_t n = 0;
    while (n < a->len && n < b->len && a->text[n] == b->text[n])
        n++;
    return n;
}

static void put_words(struct vocab *v, const struct vocab_word *words, size_t n)
{
    uint32_t open[VOCAB_TOKEN_BYTES + 1]; /* the nodes on the way to the word before */
    size_t deep = 0;
    for (size_t i = 0; i < n; i++) {
        size_t same = i ? shared(&words[i - 1], &words[i]) : 0;
        while (deep > same)
            v->node[open[--deep]].behind = v->nodes;
        for (; deep < words[i].len; deep++) {
            open[deep] = v->nodes;
            v->node[v->nodes++] = (struct vocab_node){
                .token = (uint32_t)i, .depth = (uint8_t)deep, .byte = (uint8_t)words[i].text[deep]};
        }
        v->ids[i] = words[i].id;
        v->node[open[deep - 1]].tokens++;
    }
    while (deep)
        v->node[open[--deep]].behind = v->nodes;
}

/* *n: of those that have a text; text: of all of them. */
static int read_words(int32_t count, int (*text_fn)(void *user, int32_t id, struct buf *out),
    void *user, struct buf *text, struct vocab_word *words, size_t *n, struct err *e)
{
    *n = 0;
    for (int32_t id = 0; id < count; id++) {
        size_t before = text->len;
        if (text_fn(user, id, text) || !buf_ok(text))
            return err_set(e, ERR_MEMORY, "no memory for the texts of %d tokens", count);
        size_t len = text->len - before;
        if (len && len <= VOCAB_TOKEN_BYTES)
            words[(*n)++] = (struct vocab_word){.len = (uint8_t)len, .id = id};
        else if (len)
            text->data[text->len = before] = 0;
    }
    for (size_t i = 0, at = 0; i < *n; at += words[i++].len)
        words[i].text = text->data + at;
    return 0;
}

int vocab_create(int32_t count, int (*text_fn)(void *user, int32_t id, struct buf *out), void *user,
    struct vocab **out, struct err *e)
{
    mem_autofree struct vocab_word *words = mem_array((size_t)count, sizeof *words);
    struct vocab *v = mem_zalloc(sizeof *v);
    buf_auto struct buf text;
    size_t n = 0;
    buf_init(&text, TEXT_LIMIT);
    int rc = words && v ? read_words(count, text_fn, user, &text, words, &n, e)
                        : err_set(e, ERR_MEMORY, "no memory for %d tokens", count);
    if (!rc) {
        qsort(words, n, sizeof *words, by_text);
        v->count = count;
        v->node = mem_array(text.len + 1, sizeof *v->node);
        v->ids = mem_array(n + 1, sizeof *v->ids);
        if (!v->node || !v->ids)
            rc = err_set(e, ERR_MEMORY, "no memory for the texts of %d tokens", count);
    }
    if (rc) {
        vocab_destroy(v);
        return rc;
    }
    put_words(v, words, n);
    void *fit = mem_grow(v->node, v->nodes + 1, sizeof *v->node); /* branches share nodes */
    v->node = fit ? fit : v->node;
    *out = v;
    return 0;
}

void vocab_destroy(struct vocab *v)
{
    if (!v)
        return;
    mem_free(v->node);
    mem_free(v->ids);
    mem_free(v);
}

static void walk(const struct vocab *v, struct matcher *m, uint64_t *bits)
{
    int32_t state[VOCAB_TOKEN_BYTES + 1] = {matcher_state(m)};
    for (uint32_t i = 0; i < v->nodes;) {
        const struct vocab_node *n = &v->node[i];
        int32_t next = matcher_next(m, state[n->depth], n->byte);
        if (next == MATCHER_NO) {
            i = n->behind;
            continue;
        }
        state[n->depth + 1] = next;
        for (uint32_t k = 0; k < n->tokens; k++) {
            uint32_t id = (uint32_t)v->ids[n->token + k];
            bits[id / 64] |= (uint64_t)1 << id % 64;
        }
        i++;
    }
}

int vocab_allowed(const struct vocab *v, struct matcher *m, const uint64_t **bits, struct err *e)
{
    int32_t state = matcher_state(m);
    int rc = matcher_failure(m, e);
    if (rc)
        return rc;
    uint64_t *found = matcher_kept(m, state);
    if (!found) {
        size_t words = ((size_t)v->count + 63) / 64;
        found = mem_array(words, sizeof *found);
        if (!found)
            return err_set(e, ERR_MEMORY, "no memory for which tokens may follow");
        walk(v, m, found);
        matcher_keep(m, state, found, words * sizeof *found);
    }
    *bits = found;
    return matcher_failure(m, e);
}
