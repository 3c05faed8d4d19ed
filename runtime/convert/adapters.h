/*
 * adapters: those that spec.serve.adapters names, in a rank that serves: from folders in peft's
 * format (runtime/convert/merge.h says which) to what stands beside the model
 * (runtime/model/beside.h). Their number in the spec is their number there.
 *
 * All are loaded one behind the other before the model serves, or one while it does: its folder is
 * opened on any thread, once for its shapes and once for its numbers, and what that has read is put
 * on the device by the thread that has it, piece by piece.
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
/* What each has of which matrix of the model c: nothing is loaded yet. ERR_DATA: it is not for c,
   or of a kind that is not served; the text names it. */
int adapters_describe(const struct jobspec_serve *s, const struct model_config *c,
    struct beside **out, struct err *e);
/* Opens and fills what was described in b, one at a time. own: w's model, or this rank's share of
   it; w: what lengths of rows (DoRA) are taken from. page: a beat for each; or NULL. digest: of
   all of them, whatever this rank has of each. */
int adapters_load(const struct jobspec_serve *s, const struct model_config *own, struct weights *w,
    struct dev *d, struct beside *b, struct wire_page *page, uint64_t *digest, struct err *e);

/* -- one of them -- */

struct adapter_folder; /* that was read */

struct adapter_model { /* that they are for; borrowed */
    const struct model_config *whole;
    const struct model_config *own; /* what this rank has of it */
    struct weights *weights;        /* its: the numbers are read, too; NULL: shapes alone */
};

/* m: borrowed for the call. Numbers take as much host memory as they will of the device's.
   ERR_DATA, as above. */
int adapter_folder_open(const struct jobspec_served_adapter *of, const struct adapter_model *m,
    struct adapter_folder **out, struct err *e);
void adapter_folder_close(struct adapter_folder *f); /* NULL is fine */
/* Of its numbers: tells it from one that computes otherwise. */
uint64_t adapter_folder_digest(const struct adapter_folder *f);
/* As the i-th of b. */
int adapter_folder_describe(const struct adapter_folder *f, struct beside *b, int i, struct err *e);
/* Some of its numbers, of about most_bytes, to the i-th of b, which is open; they leave host
   memory. *left: there are more. ERR_DATA: they are not those that were described. */
int adapter_folder_put(struct adapter_folder *f, struct beside *b, int i, int64_t most_bytes,
    bool *left, struct err *e);

#endif
