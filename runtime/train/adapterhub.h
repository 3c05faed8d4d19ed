/*
 * adapterhub: adapters behind sub-layers (runtime/model/bottleneck.h) as a folder that AdapterHub's
 * `adapters` reads and writes (version 1.3, with use_safetensors): adapter_config.json and
 * adapter.safetensors, and for a classifier that was trained beside it head_config.json and
 * model_head.safetensors. What is read here is Houlsby's (DoubleSeqBnConfig) and Pfeiffer's
 * (SeqBnConfig), with ReLU, GELU or SiLU, of one size in all layers; what else such a folder can
 * hold is ERR_DATA that names it.
 */
#ifndef RUNTIME_TRAIN_ADAPTERHUB_H
#define RUNTIME_TRAIN_ADAPTERHUB_H

#include "base/json.h"
#include "runtime/model/model.h"
#include "runtime/train/export.h"

/* The model's own adapter, into the folder, which is there. */
int adapterhub_write(const struct export *x, const char *folder, struct err *e);

/* Is an adapter_config.json one of AdapterHub's? Else it is peft's. */
bool adapterhub_is(const struct json *config);

struct adapterhub;

/* *out is NULL when the folder holds an adapter in peft's format. c: the model's, which must
   outlive what is opened. */
int adapterhub_open(
    const char *folder, const struct model_config *c, struct adapterhub **out, struct err *e);
void adapterhub_close(struct adapterhub *a); /* NULL is fine */
/* For a model to be served with it: it must stay open until the model is loaded. NULL: without. */
void adapterhub_serve(const struct adapterhub *a, struct model_conf *c);

#endif
