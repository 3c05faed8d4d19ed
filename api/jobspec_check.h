/*
 * jobspec_check: the rules of an LLMJob that cross fields, the CEL of manifests/crd.yaml in the
 * same words, and the size that all parts of a job can read. Pure; -ERR_USER names the field at
 * fault.
 */
#ifndef API_JOBSPEC_CHECK_H
#define API_JOBSPEC_CHECK_H

#include "api/jobspec.h"
#include "base/field.h"

/* body: the JSON that spec was decoded from. */
int jobspec_check(const struct field_source *s, const struct jobspec *spec, const struct json *body,
    struct err *e);
/* used: bytes of the spec in its arena. */
int jobspec_check_size(
    const struct field_source *s, const struct jobspec *spec, size_t used, struct err *e);
/* What of a training keeps ranks from sharing its model, by tensor or, pipeline, by stages, too;
 * NULL: nothing. */
const char *jobspec_not_of_shares(const struct jobspec *spec, bool pipeline);
/* The greatest zeroStage that a training may have, of a model that nothing else is shared of. */
int jobspec_most_zero(const struct jobspec *spec);

#endif
