/*
 * table: a hash table from strings to borrowed pointers. The table copies keys and never frees
 * values. Thread: one.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct table_slot;
struct table { /* zero is an empty table */
    struct table_slot *slots;
    size_t cap, count, used; /* used: count and the slots of removed keys */
};

void table_done(struct table *t);
void *table_get(const struct table *t, const char *key); /* NULL when absent */
/* Replaces what is there; value is not NULL. */
int table_put(struct table *t, const char *key, void *value, struct err *e);
void *table_remove(struct table *t, const char *key);          /* what was there, or NULL */
const char *table_key(const struct table *t, const char *key); /* the table's own copy, or NULL */

/* For for (size_t at = 0; table_next(t, &at, &key, &value);): the present key may be removed. */
bool table_next(const struct table *t, size_t *at, const char **key, void **value);

#endif
