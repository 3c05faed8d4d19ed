/*
 * tensorboard: event files that TensorBoard reads (TFRecord framing with masked CRC-32C,
 * hand-encoded Event protobufs; format: tensorflow/core/util/event.proto, record_writer): scalars,
 * histograms and texts (summary.proto), and what a training is made with
 * (tensorboard/plugins/hparams/plugin_data.proto). One writer, rank 0.
 */
#ifndef RUNTIME_TRAIN_TENSORBOARD_H
#define RUNTIME_TRAIN_TENSORBOARD_H

#include "base/err.h"
#include "runtime/train/histogram.h"

struct tensorboard;
/* A new file events.out.tfevents.<seconds>.<host>.<incarnation> in folder (made when absent), which
 * readers take after all that are there. first_step: the first that this run makes; what an earlier
 * one has said of it and later ones is shown no more. */
int tensorboard_create(const char *folder, int64_t incarnation, int64_t first_step,
    struct tensorboard **out, struct err *e);
int tensorboard_scalar(
    struct tensorboard *t, const char *tag, int64_t step, double value, struct err *e);
/* h holds a number at least. */
int tensorboard_histogram(
    struct tensorboard *t, const char *tag, int64_t step, const struct histogram *h, struct err *e);
/* For the tab Text, which shows it as Markdown; at most TENSORBOARD_TEXT_BYTES. */
#define TENSORBOARD_TEXT_BYTES (192 << 10)
int tensorboard_text(
    struct tensorboard *t, const char *tag, int64_t step, const char *text, struct err *e);
/* The numbers that tell this training from others, for the tab HParams; once, before any scalar. */
struct tensorboard_number {
    const char *name;
    double value;
};
int tensorboard_numbers(
    struct tensorboard *t, const struct tensorboard_number *numbers, int count, struct err *e);
int tensorboard_flush(struct tensorboard *t, struct err *e); /* for readers to see */
int tensorboard_sync(struct tensorboard *t, struct err *e);  /* and to outlive the machine */
int tensorboard_fd(const struct tensorboard *t); /* for whoever fsyncs what was flushed */
void tensorboard_close(struct tensorboard *t);

#endif
