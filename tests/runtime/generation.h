/*
 * generation: what a checkpoint holds, tensor by tensor, whatever layout wrote it and whatever
 * model it is of: two of them compared, and one written anew as one rank would that has all of it.
 */
#ifndef TESTS_RUNTIME_GENERATION_H
#define TESTS_RUNTIME_GENERATION_H

#include <stdint.h>

struct generation;
/* Of a run's folder (training.h), that of a step; the test ends where it cannot be read. */
struct generation *generation_open(const char *run, int64_t step);
void generation_close(struct generation *g);
double generation_loss(const struct generation *g);

/* Every tensor whose name ends so ("": all): elements at most `far` of the greatest of b's apart;
 * 0: the same bits. At least one there must be. One of rounding errors alone counts as a ten
 * thousandth of the greatest. */
void generation_near(struct generation *a, struct generation *b, const char *suffix, double far);
/* It becomes another run's: as it is, or the same state and elements in one file of whole
 * tensors. */
void generation_copy(const struct generation *g, const char *run);
void generation_rewrite(struct generation *g, const char *run);

#endif
