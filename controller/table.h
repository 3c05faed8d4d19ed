/*
 * table: a hash table from strings to borrowed pointers, for the caches and the queue of the
 * controller. The table copies keys and never frees values. Thread: one.
 */
#ifndef CONTROLLER_TABLE_H
#define CONTROLLER_TABLE_H

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
int table_put(
    struct table *t, const char *key, void *value, struct err *e); /* replaces; value not NULL */
void *table_remove(struct table *t, const char *key);              /* what was there, or NULL */
const char *table_key(const struct table *t, const char *key); /* the table's own copy, or NULL */

/* for (size_t at = 0; table_next(t, &at, &key, &value);): the present key may be removed meanwhile.
 */
bool table_next(const struct table *t, size_t *at, const char **key, void **value);

#endif
