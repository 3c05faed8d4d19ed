/*
 * scale: by how much the loss of FP16 training is multiplied before backward, so that small
 * gradients are none of FP16's zeros (Micikevicius et al., arXiv:1710.03740), as
 * torch.amp.GradScaler has it: half as much behind a step whose gradient was not finite, and which
 * changes nothing; twice as much when SCALE_CLEAN_STEPS in a row were finite. These are powers of
 * two: nothing is rounded by them. Pure; the state stands in the checkpoints.
 */
#ifndef RUNTIME_TRAIN_SCALE_H
#define RUNTIME_TRAIN_SCALE_H

#include "runtime/ckpt/ckpt.h"

#include <stdbool.h>

#define SCALE_FIRST       0x1p16
#define SCALE_LEAST       1.0
#define SCALE_MOST        0x1p24
#define SCALE_CLEAN_STEPS 2000

/* What a gradient of `s` is multiplied by: 1 where there is no scale. */
static inline double scale_factor(const struct ckpt_scale *s)
{
    return s->scale > 0 ? s->scale : 1;
}

/* Takes note of a step. False: its gradient was not finite by the least scale either. */
bool scale_step(struct ckpt_scale *s, bool finite);

#endif
