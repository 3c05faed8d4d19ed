/*
 * entities: how well entities were found, as seqeval 1.2.2 reports it: its classification_report
 * and accuracy_score to the last digit. Labels are a prefix and a type ("B-PER"); an entity is
 * right when its type and both its ends are.
 *
 * Lenient is seqeval's default, after conlleval: what does not follow its scheme still makes
 * entities, and a label that is no label of a scheme ("X") has a type too. Strict is mode='strict':
 * only what IOB2 or IOBES allows is an entity. The scheme is IOBES where a label begins with E or
 * S, else IOB2 where one begins with B; there is none, and so no strict report, where a label
 * begins with anything else, for seqeval refuses those.
 *
 * Counts are whole numbers that add up over sentences and ranks. For that each sentence counts as
 * it does alone; seqeval carries where an entity began over from one sentence to the next, but only
 * a label of one strange character, before its sentence's first entity, shows it. Where 0 is
 * divided by 0 the result is 0, and where there is no entity at all, which seqeval refuses, there
 * are averages only. Pure; nothing is allocated after entities_create.
 */
#ifndef RUNTIME_TRAIN_ENTITIES_H
#define RUNTIME_TRAIN_ENTITIES_H

#include "base/err.h"
#include "base/json.h"
#include "runtime/train/scores.h"

#include <stdbool.h>
#include <stdint.h>

enum entities_mode { ENTITIES_LENIENT, ENTITIES_STRICT, ENTITIES_MODES };

struct entities;

/* names: of the labels 0 .. count-1, UTF-8, each another; copied. ERR_DATA: one is empty. */
int entities_create(const char *const *names, int64_t count, struct entities **out, struct err *e);
void entities_destroy(struct entities *t);

/* One sentence of n tokens, all of which count. -ERR_DATA beyond 2^31 - 1 tokens. */
int entities_add(
    struct entities *t, const int32_t *truth, const int32_t *guess, int64_t n, struct err *e);
/* All that was counted, for a sum over ranks in place (I32: exact while all ranks together have
   fewer than 2^31 tokens). *n depends on the names alone. */
int32_t *entities_counts(struct entities *t, int64_t *n);
void entities_clear(struct entities *t);

bool entities_has_strict(const struct entities *t);
double entities_accuracy(const struct entities *t); /* of tokens; 0 of none */
/* The micro average. Strict where there is none: zeros. */
struct score entities_micro(const struct entities *t, enum entities_mode m);
/* classification_report(digits=4): several lines, the last with its newline; names as they are. */
void entities_table(const struct entities *t, enum entities_mode m, struct buf *out);
/* {"accuracy", "tokens", "scheme", "lenient", "strict"}: the last two as classification_report's
   output_dict, a type or average each; strict and scheme are null where there is none. */
void entities_json(const struct entities *t, struct jsonw *w, const char *key);

#endif
