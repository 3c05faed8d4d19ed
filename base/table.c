/*
 * table: open addressing with linear probing; a removed key leaves a mark, so that removing while
 * walking is safe, and marks go when the table next grows. Kept at most three quarters full. It
 * must not look at the values.
 */
#include "base/table.h"

#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

struct table_slot {
    char *key; /* NULL: never used; REMOVED: was */
    void *value;
};

static char removed_mark;
#define REMOVED     (&removed_mark)
#define FIRST_SLOTS 16

/* Without a seed: whoever chooses the keys can make them collide. */
static size_t hash_key(const char *key)
{
    uint64_t h = hash_bytes(HASH_START, key, strlen(key));
    return (size_t)(h ^ h >> 32);
}

static struct table_slot *find(const struct table *t, const char *key)
{
    if (!t->cap)
        return NULL;
    for (size_t i = hash_key(key);; i++) {
        struct table_slot *s = &t->slots[i & (t->cap - 1)];
        if (!s->key)
            return NULL;
        if (s->key != REMOVED && !strcmp(s->key, key))
            return s;
    }
}

static void insert(struct table *t, char *key, void *value)
{
    size_t i = hash_key(key);
    while (t->slots[i & (t->cap - 1)].key)
        i++;
    t->slots[i & (t->cap - 1)] = (struct table_slot){key, value};
    t->count++;
    t->used++;
}

static int grow(struct table *t, struct err *e)
{
    struct table bigger = {.cap = FIRST_SLOTS};
    while (bigger.cap < t->count * 2 + 2)
        bigger.cap *= 2;
    bigger.slots = mem_array(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots)
        return err_set(e, ERR_MEMORY, "no memory for a table of %zu", bigger.cap);
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i].key && t->slots[i].key != REMOVED)
            insert(&bigger, t->slots[i].key, t->slots[i].value);
    mem_free(t->slots);
    *t = bigger;
    return 0;
}

void table_done(struct table *t)
{
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i].key != REMOVED)
            mem_free(t->slots[i].key);
    mem_free(t->slots);
    *t = (struct table){0};
}

void *table_get(const struct table *t, const char *key)
{
    const struct table_slot *s = find(t, key);
    return s ? s->value : NULL;
}

const char *table_key(const struct table *t, const char *key)
{
    const struct table_slot *s = find(t, key);
    return s ? s->key : NULL;
}

int table_put(struct table *t, const char *key, void *value, struct err *e)
{
    assert(value);
    struct table_slot *s = find(t, key);
    if (s) {
        s->value = value;
        return 0;
    }
    if ((t->used + 1) * 4 > t->cap * 3) {
        int rc = grow(t, e);
        if (rc)
            return rc;
    }
    char *copy = mem_strdup(key);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a key");
    insert(t, copy, value);
    return 0;
}

void *table_remove(struct table *t, const char *key)
{
    struct table_slot *s = find(t, key);
    if (!s)
        return NULL;
    void *value = s->value;
    mem_free(s->key);
    *s = (struct table_slot){REMOVED, NULL};
    t->count--;
    return value;
}

bool table_next(const struct table *t, size_t *at, const char **key, void **value)
{
    for (; *at < t->cap; (*at)++) {
        struct table_slot *s = &t->slots[*at];
        if (!s->key || s->key == REMOVED)
            continue;
        *key = s->key;
        *value = s->value;
        (*at)++;
        return true;
    }
    return false;
}
