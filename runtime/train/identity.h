/*
 * identity: what a training is made of, so that a checkpoint goes on only as the training that
 * wrote it, and a refusal can name what differs. All of spec.train, spec.model and spec.precision
 * counts, a field that is new included, but for a short list of fields that change no bit of the
 * result; in place of a path counts what stands there: the weights (size, header and a sample of
 * the data of each file), the configuration, and every token of the data. steps counts unless the
 * learning rate does not depend on it. A field that a checkpoint does not know yet had its default.
 * Text: a JSON object of strings, as manifest.json holds it. Pure but for reading configuration
 * files. Called by train.c and resume.c.
 */
#ifndef RUNTIME_TRAIN_IDENTITY_H
#define RUNTIME_TRAIN_IDENTITY_H

#include "api/jobspec.h"
#include "runtime/ckpt/ckpt.h"
#include "runtime/data/data.h"
#include "runtime/family/weights.h"

struct identity_source {
    const struct jobspec *spec;
    const struct weights *weights, *teacher; /* teacher: or NULL */
    const struct data *data, *validation;    /* validation: or NULL */
    const struct data_labels *labels;        /* of all files; NULL: there are none */
    int64_t train_samples, steps;
};

int identity_write(const struct identity_source *s, char out[CKPT_IDENTITY_BYTES], struct err *e);

struct identity_difference { /* the first; values are cut to what a sentence bears */
    char key[64], was[48], is[48];
    int count; /* of all */
};
int identity_compare(
    const char *was, const char *is, struct identity_difference *out, struct err *e);

/* The hash that manifests of version 1 hold in place of an identity. */
int identity_hash_v1(const struct identity_source *s, char out[65], struct err *e);

#endif
