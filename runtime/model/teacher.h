/*
 * teacher: a second model, run forward only, whose predictions a training learns from beside its
 * text. It stands in the compute type, whatever its files have, all of it frozen, and sees what the
 * student sees; its residual stream is one for all layers, since nothing goes back. Logits of both,
 * over one vocabulary or the same labels, are made for the same rows at the same time
 * (head_teacher), so no more than a chunk of each is ever in memory. Only enqueues.
 */
#ifndef RUNTIME_MODEL_TEACHER_H
#define RUNTIME_MODEL_TEACHER_H

#include "runtime/model/head.h"
#include "runtime/model/model.h"

struct teacher;

/* student: its `teacher` says which. The bytes that one takes. */
int teacher_plan(const struct model_conf *student, int64_t *bytes, struct err *e);
/* Weights are still to be loaded into teacher_model. */
int teacher_create(
    struct dev *d, const struct model_conf *student, struct teacher **out, struct err *e);
void teacher_destroy(struct teacher *t); /* NULL is fine */
struct model *teacher_model(const struct teacher *t);
/* What the student's head reads of it. */
const struct head_teacher *teacher_head(const struct teacher *t);
/* Over the student's batch, before the student's own head. */
void teacher_forward(struct teacher *t, const struct batch *student);

#endif
