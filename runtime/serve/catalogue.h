/*
 * catalogue: the items of spec.serve.recommend in memory, as a file of a JSON object a line has
 * them: {"id": text or whole number, "text": text, ...}, and of what else stands in an object the
 * members that features name. Values of a number are scaled over all items when they are read; of
 * Shared, texts are numbered as they come. Knows no model. Read-only once it is open.
 */
#ifndef RUNTIME_SERVE_CATALOGUE_H
#define RUNTIME_SERVE_CATALOGUE_H

#include "base/err.h"
#include "api/jobspec.h"

#include <stdint.h>

struct catalogue;

/* features (count): borrowed. ERR_DATA names file and line. */
int catalogue_open(const char *path, const struct jobspec_feature *features, int count,
    struct catalogue **out, struct err *e);
void catalogue_close(struct catalogue *c);
int64_t catalogue_count(const struct catalogue *c);
int64_t catalogue_find(const struct catalogue *c, const char *id); /* -1: there is none */
const char *catalogue_id(const struct catalogue *c, int64_t item);
const char *catalogue_text(const struct catalogue *c, int64_t item);
/* Of a feature that is a number: from 0, of the least item, to 1, of the greatest, of LogValue by
   log(1 + number); NaN: the item has none. All are 0 where all are alike. */
float catalogue_value(const struct catalogue *c, int feature, int64_t item);
/* Of a Shared feature: the item's texts (*n) by their numbers, each once; and how many there are in
   all. */
const int32_t *catalogue_shared(const struct catalogue *c, int feature, int64_t item, int *n);
int32_t catalogue_kinds(const struct catalogue *c, int feature);

#endif
