/*
 * model_files: files of models in a temporary folder, and what they hold beside what others do. A
 * failure ends the test.
 */
#ifndef TESTS_RUNTIME_MODEL_FILES_H
#define TESTS_RUNTIME_MODEL_FILES_H

#include "runtime/family/weights.h"

extern char model_files_folder[64]; /* the caller makes and removes it (golden.h) */

void model_files_path(char path[128], const char *name); /* of a file in it */
void model_files_copy(const char *from, const char *name);
void model_files_write(const char *path, const char *text);
struct weights *model_files_open(const char *path);
/* A tensor as F32, the caller's to free. */
float *model_files_read(struct weights *w, const char *name, int64_t *count);
/* Every tensor of b equals a's within the tolerance. */
void model_files_compare(struct weights *a, struct weights *b, float tolerance);

#endif
