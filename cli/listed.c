/*
 * listed: a list outlives the file it was read from in an arena of its own, until the next.
 */
#include "cli/listed.h"

#include "api/limits.h"
#include "cli/local.h"

#include <stdio.h>
#include <string.h>

void listed_done(struct listed *l)
{
    arena_destroy(l->arena);
    l->arena = NULL;
}

int listed_reread(struct listed *l, struct jobspec *now, const char *storage, struct desired *d,
    struct arena *scratch, struct err *e)
{
    if (!d->lists_adapters || !now->serve.adapter_memory)
        return 0;
    int rc = local_map(now, storage, scratch, e), count = now->serve.adapter_count;
    if (rc ||
        report_adapters(now->serve.adapters, count) ==
            report_adapters(d->adapters, d->adapter_count))
        return rc;
    struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    struct jobspec_served_adapter *list =
        a ? report_copy_adapters(now->serve.adapters, count, a) : NULL;
    if (!list) {
        arena_destroy(a);
        return err_set(e, ERR_MEMORY, "no memory for %d adapters", count);
    }
    listed_done(l);
    l->arena = a;
    d->adapters = list;
    d->adapter_count = count;
    return 1;
}

const char *listed_wrong(struct listed *l, const struct report *r)
{
    if (!strncmp(l->wrong, r->adapters_wrong, sizeof l->wrong - 1))
        return NULL;
    snprintf(l->wrong, sizeof l->wrong, "%s", r->adapters_wrong);
    return *l->wrong ? l->wrong : NULL;
}
