/*
 * tok_table: linear probing over a power of two of slots. Sizes come from counts that the readers
 * have bounded (TOK_VOCAB_LIMIT, TOK_MERGES_LIMIT), so a table never fills.
 */
#include "runtime/text/tok_table.h"

#include "base/mem.h"
#include "runtime/files/hash.h"

#include <string.h>

static uint64_t slots_for(int64_t count)
{
    uint64_t n = 16;
    while (n < 2 * (uint64_t)count)
        n *= 2;
    return n;
}

int tok_names_init(
    struct tok_names *t, int32_t vocab, const char *bytes, const uint32_t *start, struct err *e)
{
    uint64_t n = slots_for(vocab);
    int32_t *slot = mem_array(n, sizeof *slot);
    if (!slot)
        return err_set(e, ERR_MEMORY, "no memory for a vocabulary of %d tokens", vocab);
    memset(slot, 0xff, n * sizeof *slot);
    *t = (struct tok_names){.slot = slot, .mask = n - 1, .bytes = bytes, .start = start};
    return 0;
}

void tok_names_done(struct tok_names *t)
{
    mem_free(t->slot);
    t->slot = NULL;
}

/* The slot that holds these bytes, or the empty one where they belong. */
static uint64_t names_slot(const struct tok_names *t, const char *s, size_t len)
{
    uint64_t i = hash_xxh3(s, len) & t->mask;
    for (;; i = (i + 1) & t->mask) {
        int32_t id = t->slot[i];
        if (id < 0)
            return i;
        size_t n = t->start[id + 1] - t->start[id];
        if (n == len && !memcmp(t->bytes + t->start[id], s, len))
            return i;
    }
}

void tok_names_add(struct tok_names *t, int32_t id)
{
    uint64_t i = names_slot(t, t->bytes + t->start[id], t->start[id + 1] - t->start[id]);
    if (t->slot[i] < 0)
        t->slot[i] = id;
}

int32_t tok_names_find(const struct tok_names *t, const char *s, size_t len)
{
    return t->slot[names_slot(t, s, len)];
}

int tok_pairs_init(struct tok_pairs *t, int64_t count, struct err *e)
{
    uint64_t n = slots_for(count);
    struct tok_pair *slot = mem_array(n, sizeof *slot);
    if (!slot)
        return err_set(e, ERR_MEMORY, "no memory for %lld merges", (long long)count);
    for (uint64_t i = 0; i < n; i++)
        slot[i].left = -1;
    *t = (struct tok_pairs){.slot = slot, .mask = n - 1};
    return 0;
}

void tok_pairs_done(struct tok_pairs *t)
{
    mem_free(t->slot);
    t->slot = NULL;
}

static struct tok_pair *pairs_slot(const struct tok_pairs *t, int32_t left, int32_t right)
{
    /* Fibonacci hashing; the high bits are the well-mixed ones. */
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t i = (key * 0x9e3779b97f4a7c15u) >> 24 & t->mask;
    for (;; i = (i + 1) & t->mask) {
        struct tok_pair *p = &t->slot[i];
        if (p->left < 0 || (p->left == left && p->right == right))
            return p;
    }
}

void tok_pairs_put(struct tok_pairs *t, struct tok_pair p)
{
    *pairs_slot(t, p.left, p.right) = p;
}

const struct tok_pair *tok_pairs_find(const struct tok_pairs *t, int32_t left, int32_t right)
{
    const struct tok_pair *p = pairs_slot(t, left, right);
    return p->left < 0 ? NULL : p;
}
