/*
 * dispatch: the ways of a mixture's rows where ranks have some of the experts each (Lepikhin et
 * al., arXiv:2006.16668, as in DeepSpeed-MoE, arXiv:2201.05596, but that no token is dropped and
 * none is padded for): before a layer's experts compute, ranks tell each other how many rows they
 * have for each expert; then each row goes to the rank that has its expert, and what becomes of it
 * comes back the same way, as do gradients.
 *
 * Rows are sent in the order of experts, so those for one rank stand together; they arrive in the
 * order of the ranks that they come from, each one's in the order of experts.
 */
#ifndef RUNTIME_MODEL_DISPATCH_H
#define RUNTIME_MODEL_DISPATCH_H

#include "base/err.h"
#include "runtime/model/batch.h"

/* Rows that may come to this rank from n tokens of each rank of its group: whatever the routers
   choose, a token has k experts, no two the same. Of a model whose experts are all here: n * k. */
int64_t dispatch_most(const struct model_config *c, int64_t n);

struct dispatch;
/* c: a share by expert parallelism; n: the most tokens of a rank; flights: batches between forward
   and backward, at most. */
int dispatch_create(
    const struct model_config *c, int64_t n, int64_t flights, struct dispatch **out, struct err *e);
void dispatch_destroy(struct dispatch *d);

/* How many rows go where in a layer of the model, until it is told again of the same batch
   (batch's flight): offset (E + 1), device, of this rank's
   rows. expert (dispatch_most), device, becomes the expert of each row that arrives, counted from
   the first that is here. Waits for the device. */
void dispatch_tell(const struct batch *s, int64_t layer, const int32_t *offset, int32_t *expert);
/* M: how many arrive; 0 also where a collective has failed (parallel.h). */
int64_t dispatch_rows(const struct batch *s, int64_t layer);
/* rows (N * k, width) of t to arrived (M, width), and back. Only enqueue. */
void dispatch_send(const struct batch *s, int64_t layer, const void *rows, void *arrived,
    int64_t width, enum dtype t);
void dispatch_return(const struct batch *s, int64_t layer, const void *arrived, void *rows,
    int64_t width, enum dtype t);

#endif
