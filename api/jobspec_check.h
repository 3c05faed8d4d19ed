/*
 * jobspec_check: whether a job may be as it is: the rules that cross its fields (api/rules), what
 * those cannot say, and the size that all parts of a job can read. Pure; -ERR_USER names the field
 * at fault.
 */
#ifndef API_JOBSPEC_CHECK_H
#define API_JOBSPEC_CHECK_H

#include "api/jobspec.h"
#include "base/field.h"

/* body: the JSON that spec was decoded from, before anything was filled in that is no default. */
int jobspec_check(const struct field_source *s, const struct jobspec *spec, const struct json *body,
    struct err *e);
/* used: bytes of the spec in its arena. */
int jobspec_check_size(
    const struct field_source *s, const struct jobspec *spec, size_t used, struct err *e);

#endif
