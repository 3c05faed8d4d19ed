/*
 * training: whole trainings for tests: real ranks, one process each, on a tiny Llama with random
 * weights and a byte tokenizer, and what rank 0 told. A job is changed by its test before it runs;
 * it may be an evaluation, too.
 */
#ifndef TESTS_RUNTIME_TRAINING_H
#define TESTS_RUNTIME_TRAINING_H

#include "api/exitcode.h"
#include "api/jobspec.h"
#include "api/limits.h"

#include <stdbool.h>

#define TRAINING_STEPS 50
#define TRAINING_BATCH 8
#define TRAINING_T     16
#define TRAINING_WORLD 8

/* A folder with model/ and corpus.txt; training_setup makes it, training_teardown removes it. */
extern char training_folder[64];
void training_setup(void);
void training_teardown(void);
/* A path in it, good until the eighth call after this one. */
const char *training_path(const char *name);
/* Fifty steps in F32; checkpoints go to the folder `run`, the model to output/. */
struct jobspec training_job(const char *run);

/* Adapters of rank 4 on q_proj and down_proj, in place of full training. */
void training_lora(struct jobspec *s);

/* A config.json of a mixture of six experts, two a token, for random weights. */
const char *training_mixture(void);

struct outcome {                     /* of a whole world, from rank 0's frames */
    double loss[TRAINING_STEPS + 1]; /* by step; 0 where no step was reported */
    int first, last;                 /* steps reported */
    int evaluations, saves;
    int saved_at[TRAINING_STEPS + 1]; /* by step: which was reported last when its save was */
    double first_validation, validation, f1, match; /* f1, match -1: none was told */
    enum exit_class exit[TRAINING_WORLD];           /* -1: it was killed */
    char message[256];
    char damaged[64];      /* the checkpoint that was passed over, "": none */
    int64_t damaged_bytes; /* of all that were */
    bool drained, done;
    int64_t memory_bytes; /* of rank 0's plan */
    int tensor, pipeline, zero_stage;
    char layout_reason[LIMIT_REASON_BYTES];
    char balance[LIMIT_REASON_BYTES]; /* what was told of shares last; "": nothing was */
    int64_t held_out;
    int64_t end_ms; /* from the kill, if there was one, to the last rank's end */
};

struct training {
    const struct jobspec *spec;
    const struct jobspec *last; /* what the last rank sees in its place; NULL: the same */
    int size, incarnation;
    int stop_after;   /* from this step's report on rank 0 is asked to stop; 0: never */
    int kill_after;   /* the same, and the last rank is killed */
    int lock_after;   /* once this step is saved nobody can commit, until the ranks have ended */
    const char *kind; /* of the devices; NULL: cpu */
    const char *last_kind; /* of the last rank's; NULL: the same */
    int devices;           /* of a pod, which its ranks share when there are more; 0: enough */
    bool staged;
    int pod;              /* ranks a pod; 0: two */
    int64_t budget_bytes; /* 0: 1 GiB */
    int64_t data_bytes;   /* private memory that a rank may have; 0: any */
    int64_t end_ms;       /* for a rank to end in once its collectives failed; 0: DOOR_END_MS */
    const int *copies;    /* (pods) memory that outlives ranks, training_copies'; NULL: none */
    /* LLMJOB_DIE_AT of the ranks (base/point.h), of which any may be killed then; NULL: none is */
    const char *die_at;
};
struct outcome training_run(const struct training *t);
/* As an agent makes it; the caller's to close. */
int training_copies(void);
/* All ranks must end well, and all steps be there. */
struct outcome training_run_whole(const struct jobspec *spec, int size);

/* The newest checkpoints of two runs: every parameter and both moments equal to the bit. */
void training_same_checkpoints(const char *a, const char *b);
/* A job's losses and norms of gradients in FP16 are near those in FP32. */
void training_near_in_fp16(struct jobspec (*job_fn)(const char *run));
void training_same_files(const char *a, const char *b);

#endif
