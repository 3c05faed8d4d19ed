/*
 * jobspec_check: first the rules of manifests/crd.yaml, then what CEL could say only in more words
 * than C. It must not change the spec.
 */
#include "api/jobspec_check.h"

#include "api/limits.h"
#include "api/names.h"
#include "api/rules.h"
#include "api/search.h"
#include "base/utf8.h"

#define FIXED_BYTES 32768 /* of a job file: field names, numbers, brackets */

static int check_run(const struct field_source *s, const struct jobspec_run *run, struct err *e)
{
    size_t n = 0; /* as CEL counts: characters */
    for (int i = 0; i < run->command_count; i++)
        n += utf8_count(run->command[i]);
    for (int i = 0; i < run->arg_count; i++)
        n += utf8_count(run->args[i]);
    for (int i = 0; i < run->env.count; i++)
        n += utf8_count(run->env.keys[i]) + utf8_count(run->env.values[i]);
    return n <= LIMIT_RUN_CHARACTERS
        ? 0
        : field_refuse(s, "run", e,
              "command, args and env hold %zu characters together, and %d are allowed", n,
              LIMIT_RUN_CHARACTERS);
}

int jobspec_check(const struct field_source *s, const struct jobspec *spec, const struct json *body,
    struct err *e)
{
    struct json *subject json_auto = NULL;
    int rc = rules_subject(spec, body, &subject, e);
    if (rc || (rc = rules_check(s, subject, NULL, e)))
        return rc;
    if (search_wanted(spec))
        rc = search_check(s, spec, body, e);
    return rc || spec->task != TASK_RUN ? rc : check_run(s, &spec->run, e);
}

/* Measured only where it could be too much: a byte is at most six in JSON, and all that is no text
 * or name fits into FIXED_BYTES. */
int jobspec_check_size(
    const struct field_source *s, const struct jobspec *spec, size_t used, struct err *e)
{
    buf_auto struct buf b;
    buf_init(&b, used * 6 + FIXED_BYTES);
    if (b.limit <= LIMIT_JOB_FILE_BYTES)
        return 0;
    int rc = jobspec_encode(spec, &b, e);
    if (rc || b.len <= LIMIT_JOB_FILE_BYTES)
        return rc;
    return field_refuse(s, "", e, "%zu bytes as " NAME_JOB_FILE ", and %d are allowed", b.len,
        LIMIT_JOB_FILE_BYTES);
}
