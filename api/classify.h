/*
 * classify: what a spec may say of the streams that a served classifier watches (serve.classify),
 * beside what its table says. Pure.
 */
#ifndef API_CLASSIFY_H
#define API_CLASSIFY_H

#include "api/jobspec.h"
#include "base/err.h"
#include "base/field.h"

extern const struct field_format classify_url_format; /* of a webhook */

/* Of a job that serves. As the CEL of manifests/crd.yaml. */
int classify_check(const struct field_source *s, const struct jobspec *spec, struct err *e);

#endif
