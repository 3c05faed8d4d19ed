/*
 * model_internal: a model as its own files see it: where the tensors of the table stand on the
 * device. In training the base is one flat range in the compute type, or a quantized one cut by
 * blocks.h, and what is trained one flat range of F32 masters with, in 16 bits, their copy. In
 * serving each tensor stands by itself, matrices in the type they have on disk (F32 ones narrowed
 * to the compute type), vectors and learned positions in F32.
 */
#ifndef RUNTIME_MODEL_INTERNAL_H
#define RUNTIME_MODEL_INTERNAL_H

#include "kernels/ops.h"
#include "runtime/family/tensors.h"
#include "runtime/model/carve.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"
#include "runtime/model/zero.h"

struct stored { /* a tensor on the device */
    enum dtype type;
    void *data;
};

struct model {
    struct dev *dev; /* NULL: a model that is only planned */
    struct model_conf conf;
    struct memplan plan;
    struct tensors base;  /* every tensor of the model */
    struct tensors added; /* what adapters add, and a classifier they train; else empty */
    struct tensors whole_base, whole_added; /* of a share: the same of the whole model */
    /* training: flat ranges */
    char *frozen;  /* base tensors in the compute type; NULL when all are trained, or quantized */
    float *master; /* trainable; in serving what `added` holds */
    bool masters_shared; /* they are the collective's */
    uint16_t *copy;      /* of master in conf.t, or NULL */
    bool copy_shared;
    /* what ranks divide: what of masters, gradient and base is here; all, where they do not */
    struct zero_slice own, own_gradient, own_base;
    int64_t *slices; /* (owners) elements of each one's; or NULL */
    struct zero_window weights_window, gradient_window; /* units 0: not divided */
    void *window;                                       /* of weights, in conf.t; or NULL */
    bool window_shared;
    /* serving, and a quantized base */
    struct carve arena;
    struct stored *stored; /* by the base table's order */
};

/* Is the base none of what is trained? */
bool model_is_frozen(const struct model_conf *c);
/* Are its frozen matrices in blocks? */
bool model_is_quantized(const struct model_conf *c);
/* The tables of a configuration, without a device. */
int model_describe(struct model *m, const struct model_conf *c, struct err *e);
void model_done(struct model *m);
/* Where a tensor of the base stands that is not trained. */
struct stored model_frozen(const struct model *m, const struct tensor *p);
/* Where a tensor stands; {0}: the model has none. gradient: a flat range beside the masters, or its
   window, or NULL; when the tensor is trained, *dw becomes its place there. */
struct stored model_bind(const struct model *m, enum tensor_role role, enum tensor_part part,
    int64_t layer, float *gradient, float **dw);
/* The same of a weight of one expert. */
struct stored model_bind_expert(const struct model *m, enum tensor_role role, int64_t layer,
    int64_t expert, float *gradient, float **dw);
/* Serving: cuts the place of every tensor, of the type that w stores it in; w NULL: of the compute
   type. A share must have passed model_check_stored. */
void model_carve_stored(struct model *m, const struct weights *w, struct carve *c);
/* ERR_USER: a share of a tensor would begin or end within a block of those that w has. */
int model_check_stored(const struct model *m, const struct weights *w, struct err *e);
/* Memory that the others reduce or take from: the collective's, where there are others. */
int model_alloc_shared(
    struct model *m, int64_t bytes, bool wanted, void **out, bool *shared, struct err *e);
/* Elements [first, first + count) of a tensor of what ranks divide: those here, among zeros. */
void model_read_here(
    struct model *m, const struct tensor *p, int64_t first, int64_t count, float *dst);
/* Adapters beside w, a tensor of the base (F32, host), become a part of it. */
int model_merge(struct model *m, const struct tensor *p, float *w, struct err *e);
int model_check_ids(
    const struct model *m, const int32_t *ids, int64_t n, int32_t least, struct err *e);

#endif
