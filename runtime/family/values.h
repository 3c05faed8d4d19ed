/*
 * values: one value of a description, from a config.json or a GGUF file, as the families read them;
 * and such a value written. Errors are ERR_DATA and name the file and the key; an absent key that
 * may be absent leaves *out as it is.
 */
#ifndef RUNTIME_FAMILY_VALUES_H
#define RUNTIME_FAMILY_VALUES_H

#include "base/json.h"
#include "runtime/files/gguf.h"

#include <stdbool.h>
#include <stdint.h>

struct values_size { /* a positive whole number; absent or null: def, unless that is 0 */
    const char *key;
    int64_t def;
    int64_t *out;
};
int values_sizes(const struct json *config, const char *path, const struct values_size *list,
    int count, struct err *e);
/* A truth value that must be this one, or absent. */
int values_require(
    const struct json *config, const char *path, const char *key, bool value, struct err *e);
/* A share that training leaves out; absent or null: def. As it stands: who drops by it checks it
   (train_check_dropout). */
float values_share(const struct json *config, const char *key, double def);
/* A token; -1: none. */
int32_t values_id(const struct json *v);
/* The nearest double that prints short: 1e-05, not 9.999999747378752e-06. */
double values_short(float f);

int values_gguf_int(const struct gguf *g, const char *key, int64_t *out, struct err *e);
int values_gguf_id(const struct gguf *g, const char *key, int32_t *out, struct err *e);
const struct gguf_tensor *values_gguf_tensor(const struct gguf *g, const char *name); /* or NULL */

#endif
