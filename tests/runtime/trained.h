/*
 * trained: a published model that is open for training on the CPU, in FP32, with a pass over it; a
 * step of a golden file, and its gradients beside golden ones, which are at most a relative 1e-4
 * away. A failure ends the test.
 */
#ifndef TESTS_RUNTIME_TRAINED_H
#define TESTS_RUNTIME_TRAINED_H

#include "base/json.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"

struct trained {
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct pass *pass;
};

/* Opens device and files; what is to be created of them, with LoRA on q_proj and v_proj unless the
   rank is 0, for the caller to change. */
struct model_conf trained_conf(
    struct trained *t, const char *folder, int64_t b, int64_t length, int lora_rank);
void trained_open(struct trained *t, const struct model_conf *c);
void trained_close(struct trained *t);
/* The batch of a file: the mean loss of the targets that count, and its gradient. */
double trained_step(struct trained *t, const struct json *step, bool backward);

/* |a - b| / |b| */
double trained_distance(const float *a, const float *b, int64_t n);
/* The tensor <prefix><name>, of so many elements. */
const float *trained_part(
    const struct safetensors *s, const char *prefix, const char *name, int64_t count);
/* What is trained becomes the file's, where it has it: `count` tensors. */
void trained_set(struct trained *t, const struct safetensors *s, const char *prefix, int count);
/* The gradient of every trained tensor is the file's. */
void trained_compare(struct trained *t, const struct safetensors *s, const char *prefix);
void trained_read(struct trained *t, const char *name, float *out, int64_t n); /* of the model */

#endif
