/*
 * balance: which part of a step's batch is each share's where ranks are of unlike speed, by how
 * long a sequence takes each of them. A share is a rank's, or that of the ranks that together have
 * a model or a sequence. Pure, and in whole numbers, so that ranks on processors of any make come
 * to the same. The order of samples stays: shares are ranges of the batch, one behind the other.
 */
#ifndef RUNTIME_TRAIN_BALANCE_H
#define RUNTIME_TRAIN_BALANCE_H

#include <stdbool.h>
#include <stdint.h>

/* Of what a step is predicted to take, the part by which it must become shorter for a change: more
   than what noise is; and where nothing but products has been timed. */
#define BALANCE_GAIN  5 /* per cent */
#define BALANCE_GUESS 25
/* Steps from one decision to the next; the median of as many is a rank's time. */
#define BALANCE_STEPS 8

#define BALANCE_NS_MOST INT64_C(1000000000000) /* of a sequence; longer counts as that */

/* ns: of a sequence, by share; those below 1 count as 1. counts: of sequences, at least 1 each,
   that come to batch, which is at least parts: the slowest share is done as early as it can be. A
   faster share has no fewer; of equal ones the first have one more (data_share). */
void balance_divide(int64_t batch, int parts, const int64_t *ns, int64_t *counts);
/* Until the slowest share is done. */
int64_t balance_slowest(int parts, const int64_t *ns, const int64_t *counts);
/* Makes counts what balance_divide says of ns, unless that gains no more than gain per cent: false,
   and counts stay. spare: (parts), is written over. */
bool balance_change(
    int64_t batch, int parts, const int64_t *ns, int gain, int64_t *counts, int64_t *spare);
/* Which of n > 0 figures, the greater the slower, stands out: the greatest, where it is more than
   BALANCE_ODD times the *median; -1: none does. spare: (n), is written over. */
#define BALANCE_ODD 1.5
int balance_odd(int n, const double *figures, double *spare, double *median);
/* Of n > 0 values, which are reordered; of two in the middle the lesser. */
int64_t balance_median(int64_t *values, int n);

#endif
