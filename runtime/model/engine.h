/*
 * engine: a loaded model in serving. One pass runs rows of several sequences: tokens that follow
 * what each has in the cache, one or a chunk. All memory is allocated at create.
 *
 * Whose each page of the cache is, and what of it is valid, is the caller's knowledge, so going
 * back to fewer tokens costs nothing. Where the device gives a row the same bits whatever the other
 * rows are (dev_rows_alike), so does a pass, to the bit: logits, and what they leave in the cache.
 *
 * Of a model that ranks share (model_conf's tensor and pipeline) all of them call alike, each with
 * weights and cache of its share, and have the same bits: logits, and tokens that are drawn. The
 * stages of a pipeline work on chunks one behind the other as long as nobody wants logits. A rank
 * that fails leaves the others, which learn of it as of any failed collective (coll.h).
 */
#ifndef RUNTIME_MODEL_ENGINE_H
#define RUNTIME_MODEL_ENGINE_H

#include "base/err.h"
#include "runtime/model/batch.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"

#define ENGINE_ROWS    256  /* tokens of one pass */
#define ENGINE_CONTEXT 8192 /* of a sequence that is served, where nobody says and c allows more */

struct engine;

/* How the token that follows is drawn: at a temperature (0: greedy), from the nucleus of
   probability top_p, by a number u of [0, 1). */
struct sample_draw {
    float temperature, top_p, u;
};

/* Tokens of a sequence that is served, of a model c: `asked`, 0: nobody says. ERR_USER: c has not
   so many. */
int engine_context(const struct model_config *c, int64_t asked, int64_t *out, struct err *e);

/* m is borrowed until destroy. */
int engine_create(struct model *m, struct engine **out, struct err *e);
void engine_destroy(struct engine *g);
/* Adds its part of the plan. */
int engine_plan(struct model *m, struct memplan *plan, struct err *e);
int engine_adapters(const struct engine *g); /* that a part may have; 0: none */
/* From now on watch_fn sees what each product of the layers reads (batch.h). */
void engine_watch(struct engine *g, batch_watch_fn *watch_fn, void *watcher);

/* Tokens of a sequence, which follow `past` cached ones. */
struct engine_part {
    const int32_t *ids; /* (count) */
    int64_t count, past;
    const int32_t *pages;           /* of its tokens, these included */
    int adapter;                    /* of the model's (beside.h), open, from 1 on; 0: none */
    const struct sample_draw *draw; /* the token that follows the last is drawn; NULL: it is not */
    int32_t next;                   /* the drawn one; unchanged on failure */
    float *logits;                  /* (V) F32, host, of the last token; NULL: not wanted */
};

/* Parts of different sequences in one pass, or of one in their order, ENGINE_ROWS tokens at most.
   Refused before anything is run: ids that the model has not (-ERR_DATA), more tokens than a
   sequence may have (-ERR_USER). On a device that can record, one token that is drawn is one
   launch. */
int engine_run(struct engine *g, struct engine_part *parts, int n, struct err *e);

/* The same of one sequence that has the cache to itself, in its order. Runs `count` tokens after
   `past` cached ones; logits of the last (or of all) to the host, F32; logits NULL: none are
   computed. */
int engine_extend(struct engine *g, const int32_t *ids, int64_t count, int64_t past,
    bool all_logits, float *logits, struct err *e);
/* The same, and losses (count) of -ln p of the targets (count) that follow the tokens. Stages that
   have no head, and do not wait for it, give zeros. The first call takes memory for logits on the
   host. */
int engine_losses(struct engine *g, const int32_t *ids, const int32_t *targets, int64_t count,
    int64_t past, double *losses, struct err *e);
/* Runs the token `id` after `past` cached ones and draws the one that follows it. The logits stay
   on the device. */
int engine_next(struct engine *g, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e);

#endif
