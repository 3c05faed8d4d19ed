/*
 * pages: a sealed page has a serial, which no other text ever gets; a page's key is its tokens and
 * the serial of the page before it; before the first stands its salt, in the upper half of numbers,
 * which no serial reaches. Of two pages that were computed side by side for the same text one is
 * known, and the other bears its serial, so that what follows either is found. Pages without a user
 * stand in one list, those that hold nothing first, then by when they were dropped.
 */
#include "runtime/serve/pages.h"

#include "base/mem.h"
#include "base/random.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

struct page {
    int32_t users;
    int32_t next, prior;     /* of the list of those without a user */
    int32_t same;            /* the next of its bucket */
    bool known;              /* it is in its bucket */
    uint64_t serial, before; /* 0: not sealed; of the page before it, or its salt */
};

struct pages {
    int32_t count, tokens, left;
    int32_t first, last; /* without a user; PAGE_NONE: there is none */
    uint64_t serials, buckets;
    struct page *page; /* (count) */
    int32_t *ids;      /* (count, tokens) of sealed pages */
    int32_t *bucket;   /* (buckets), a power of two; PAGE_NONE: empty */
};

int pages_create(int32_t count, int32_t tokens, struct pages **out, struct err *e)
{
    struct pages *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for a table of pages");
    *p = (struct pages){.count = count, .tokens = tokens, .first = PAGE_NONE, .last = PAGE_NONE};
    for (p->buckets = 16; p->buckets < (uint64_t)count; p->buckets *= 2)
        ;
    p->page = mem_array((size_t)count, sizeof *p->page);
    p->ids = mem_array((size_t)count * (size_t)tokens, sizeof *p->ids);
    p->bucket = mem_array(p->buckets, sizeof *p->bucket);
    if (!p->page || !p->ids || !p->bucket) {
        pages_destroy(p);
        return err_set(e, ERR_MEMORY, "no memory for a table of %d pages", (int)count);
    }
    for (uint64_t i = 0; i < p->buckets; i++)
        p->bucket[i] = PAGE_NONE;
    for (int32_t i = 0; i < count; i++) {
        p->page[i].users = 1;
        pages_drop(p, i);
    }
    *out = p;
    return 0;
}

void pages_destroy(struct pages *p)
{
    if (!p)
        return;
    mem_free(p->page);
    mem_free(p->ids);
    mem_free(p->bucket);
    mem_free(p);
}

int32_t pages_left(const struct pages *p)
{
    return p->left;
}

/* -- pages without a user -- */

static void unlink_page(struct pages *p, int32_t i)
{
    struct page *x = &p->page[i];
    *(x->prior == PAGE_NONE ? &p->first : &p->page[x->prior].next) = x->next;
    *(x->next == PAGE_NONE ? &p->last : &p->page[x->next].prior) = x->prior;
    p->left--;
}

/* Between two neighbours; PAGE_NONE: an end. */
static void link_page(struct pages *p, int32_t i, int32_t prior, int32_t next)
{
    struct page *x = &p->page[i];
    x->prior = prior;
    x->next = next;
    *(prior == PAGE_NONE ? &p->first : &p->page[prior].next) = i;
    *(next == PAGE_NONE ? &p->last : &p->page[next].prior) = i;
    p->left++;
}

void pages_drop(struct pages *p, int32_t page)
{
    struct page *x = &p->page[page];
    assert(x->users > 0);
    if (--x->users)
        return;
    if (x->known)
        link_page(p, page, p->last, PAGE_NONE);
    else
        link_page(p, page, PAGE_NONE, p->first);
}

/* -- sealed pages -- */

static int32_t *bucket_of(struct pages *p, uint64_t before, const int32_t *ids)
{
    uint64_t h = random_mix(before);
    for (int32_t i = 0; i < p->tokens; i++)
        h = random_mix(h ^ (uint32_t)ids[i]);
    return &p->bucket[h & (p->buckets - 1)];
}

static int32_t *ids_of(const struct pages *p, int32_t page)
{
    return p->ids + (int64_t)page * p->tokens;
}

static int32_t find_known(struct pages *p, uint64_t before, const int32_t *ids)
{
    int32_t i = *bucket_of(p, before, ids);
    while (i != PAGE_NONE &&
        (p->page[i].before != before ||
            memcmp(ids_of(p, i), ids, (size_t)p->tokens * sizeof *ids) != 0))
        i = p->page[i].same;
    return i;
}

static void forget(struct pages *p, int32_t page)
{
    struct page *x = &p->page[page];
    if (x->known) {
        int32_t *at = bucket_of(p, x->before, ids_of(p, page));
        while (*at != page)
            at = &p->page[*at].same;
        *at = x->same;
    }
    x->known = false;
    x->serial = 0;
}

int32_t pages_take(struct pages *p)
{
    int32_t page = p->first;
    if (page == PAGE_NONE)
        return PAGE_NONE;
    unlink_page(p, page);
    forget(p, page);
    p->page[page].users = 1;
    return page;
}

static uint64_t beginning(uint64_t salt)
{
    return salt | (uint64_t)1 << 63;
}

void pages_seal(struct pages *p, uint64_t salt, int32_t page, int32_t before, const int32_t *ids)
{
    struct page *x = &p->page[page];
    uint64_t serial = before == PAGE_NONE ? beginning(salt) : p->page[before].serial;
    assert(x->users && !x->serial && serial);
    int32_t twin = find_known(p, serial, ids);
    x->before = serial;
    if (twin != PAGE_NONE) {
        x->serial = p->page[twin].serial;
        return;
    }
    int32_t *bucket = bucket_of(p, serial, ids);
    memcpy(ids_of(p, page), ids, (size_t)p->tokens * sizeof *ids);
    x->serial = ++p->serials;
    x->known = true;
    x->same = *bucket;
    *bucket = page;
}

int64_t pages_find(struct pages *p, uint64_t salt, const int32_t *ids, int64_t count, int32_t *out)
{
    int64_t n = 0;
    uint64_t before = beginning(salt);
    for (; (n + 1) * p->tokens <= count; n++) {
        int32_t page = find_known(p, before, ids + n * p->tokens);
        if (page == PAGE_NONE)
            break;
        if (!p->page[page].users++)
            unlink_page(p, page);
        before = p->page[page].serial;
        out[n] = page;
    }
    return n;
}
