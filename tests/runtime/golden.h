/*
 * golden: what the tests of this room read: files of tests/golden, and published models that
 * tests/golden/fetch.sh brings (golden_fetch prints a SKIP line and returns false where it cannot).
 * Tests run in the repository's root.
 */
#ifndef TESTS_RUNTIME_GOLDEN_H
#define TESTS_RUNTIME_GOLDEN_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define GOLDEN "tests/golden/"

bool golden_fetch(const char *model, char path[1024]);
struct json *golden_json(const char *path); /* fails the test when it cannot be read */
/* A list of ids, for the caller to free. */
int32_t *golden_ids(const struct json *list, int64_t *count);
/* A new empty folder under /tmp; removed by golden_remove. */
void golden_folder(char path[64]);
void golden_remove(const char *path);
/* Writes a file of a test; fails the test when it cannot. */
void golden_write(const char *path, const void *data, size_t size);

#endif
