/*
 * adapters: those that spec.serve.adapters names, in a rank that serves: from folders in peft's
 * format (runtime/convert/merge.h says which) to what stands beside the model
 * (runtime/model/beside.h). Their number in the spec is their number there.
 */
#ifndef RUNTIME_CONVERT_ADAPTERS_H
#define RUNTIME_CONVERT_ADAPTERS_H

#include "base/err.h"
#include "api/jobspec.h"
#include "api/wire.h"
#include "runtime/family/weights.h"
#include "runtime/model/beside.h"

/* The one of that name, from 1 on; 0: there is none. */
int adapters_find(const struct jobspec_serve *s, const char *name);
/* What each has of which matrix: nothing is loaded yet. ERR_DATA: it is not for a model c, or of a
   kind that is not served; the text names it. */
int adapters_describe(const struct jobspec_serve *s, const struct model_config *c,
    struct beside **out, struct err *e);
/* Fills b, which is open, one at a time; w: the model, which lengths of rows (DoRA) are taken from.
   page: a beat for each; or NULL. */
int adapters_load(const struct jobspec_serve *s, struct weights *w, struct beside *b,
    struct wire_page *page, struct err *e);

#endif
