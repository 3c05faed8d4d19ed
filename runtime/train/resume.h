/*
 * resume: how a world begins: all ranks find that they read the same model and data, rank 0 looks
 * whether the checkpoints are this training's and claims their folder, and every rank loads the
 * newest generation that all can read; or, where the memories of pods that live have a newer one,
 * that (runtime/train/recall.h). No checkpoint in the folder is touched when it is refused.
 * What one rank finds, all return: every decision goes through the collective. Called by open.c.
 */
#ifndef RUNTIME_TRAIN_RESUME_H
#define RUNTIME_TRAIN_RESUME_H

#include "runtime/ckpt/ckpt.h"
#include "runtime/coll/coll.h"
#include "runtime/door/orders.h"
#include "runtime/model/model.h"
#include "runtime/train/optim.h"
#include "runtime/train/shard.h"

struct resume {
    const struct orders *orders;
    struct dev *dev;
    struct coll *coll;
    struct model *model;
    struct optim *optim;
    const struct shard_extra *extras; /* what is read beside */
    int extra_count;
    int64_t steps;
    /* What is to be done with the model as it begins, once the folder is claimed and before
       anything is loaded into it; NULL: nothing. All ranks call. */
    int (*begin_fn)(void *user, const char *identity, struct err *e);
    void *user;
    char identity[CKPT_IDENTITY_BYTES];
    char hash_v1[65]; /* for checkpoints of version 1 */
};

/* *state: of a new training; it stays so when there is no checkpoint. Generations that not all
 * ranks can read are set aside by rank 0 (ckpt_set_aside), once all hold an older one. ERR_USER:
 * checkpoints of another training, with what differs. ERR_DATA: ranks that read different files.
 * ERR_CORRUPT: no generation can be read, and a file of the newest. */
int resume_run(const struct resume *c, struct ckpt_state *state, struct err *e);

#endif
