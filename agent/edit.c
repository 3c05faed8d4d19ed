/*
 * edit: the job file is replaced as a whole (io_write_file), so that whoever reads it meanwhile has
 * the one or the other.
 */
#include "agent/edit.h"

#include "api/limits.h"
#include "api/names.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

void edit_done(struct edit *x)
{
    arena_destroy(x->arena);
    x->arena = NULL;
}

static int write_job(const struct jobspec *s, const char *path, struct err *e)
{
    buf_auto struct buf json;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(s, &json, e);
    return rc ? rc : io_write_file(path, json.data, json.len, 0600, e);
}

/* What is listed is the adapters' whole truth from here on, or, where that fails, nothing of it. */
static int take_list(struct edit *x, struct jobspec *next, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", x->run_dir, NAME_JOB_FILE);
    int rc = write_job(next, path, e);
    if (rc || (rc = roster_change(x->roster, next->serve.adapters, next->serve.adapter_count, e)))
        return rc;
    memcpy(x->job_file, path, sizeof path);
    x->spec->serve.adapters = next->serve.adapters;
    x->spec->serve.adapter_count = next->serve.adapter_count;
    return 0;
}

int edit_desired(struct edit *x, const struct desired *d, struct err *e)
{
    const struct jobspec_serve *s = x ? &x->spec->serve : NULL;
    if (!s || !x->roster || !s->adapter_memory || !d->lists_adapters || d->release ||
        report_adapters(d->adapters, d->adapter_count) ==
            report_adapters(s->adapters, s->adapter_count))
        return 0;
    struct jobspec next = *x->spec;
    struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    next.serve.adapter_count = d->adapter_count;
    next.serve.adapters = a ? report_copy_adapters(d->adapters, d->adapter_count, a) : NULL;
    int rc = next.serve.adapters ? take_list(x, &next, e)
                                 : err_set(e, ERR_MEMORY, "no memory for adapters");
    if (rc) {
        arena_destroy(a);
        return rc;
    }
    arena_destroy(x->arena);
    x->arena = a;
    log_info("adapters are listed anew", LOG_I("adapters", s->adapter_count));
    return 0;
}
