/*
 * pairs: what of a job goes with what, tried: a table of what a training or a served model may
 * have, each with the least of a spec that has it, and what the job's rules say of each two
 * together. From it docs/api.md has its table, and tests/e2e/test_manifests.sh asks the API server.
 */
#ifndef CLI_PAIRS_H
#define CLI_PAIRS_H

#include "base/buf.h"
#include "base/err.h"

#define PAIRS_WHY_BYTES 256

int pairs_count(int group); /* of its features; 0: there is no such group */

/* A job with the i-th and the j-th of a group's features, i == j: with that one alone. Appends its
 * JSON to out, which may be NULL; why: the refusal, "spec.train...: sentence", or "". Returns 1
 * where there is no such job, for both are values of one field. */
int pairs_try(int group, int i, int j, struct buf *out, char why[PAIRS_WHY_BYTES], struct err *e);

/* Markdown, a section: a table a group, with what each feature does not go with. */
int pairs_render(struct buf *out, struct err *e);

/* All jobs as documents of one stream, "# expect: WHY" before each. */
int pairs_write(struct buf *out, struct err *e);

#endif
