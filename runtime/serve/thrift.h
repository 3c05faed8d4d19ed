/*
 * thrift: whether a draft pays, by what steps took. A share of the time that is served may be lost
 * to a draft that does not: it becomes a credit, on which the draft's passes and the rows of its
 * guesses draw, and to which the steps that they spare are added. A draft without credit rests
 * until there is more, ever longer; one that pays has all it can have and guesses always. So
 * serving with a draft takes hardly longer than without, whatever the draft is, and it is tried
 * again as long as there are requests. What is drawn follows from none of it. No clock: times are
 * told. Pure.
 */
#ifndef RUNTIME_SERVE_THRIFT_H
#define RUNTIME_SERVE_THRIFT_H

#include <stdbool.h>
#include <stdint.h>

#define THRIFT_ROWS 256 /* next tokens of a step, at most */

struct thrift {
    double share;              /* of the time, that may be lost; 0: the draft always guesses */
    double credit_ms, need_ms; /* what there is, and is to be before a rest ends */
    double plain_ms[THRIFT_ROWS + 1]; /* a step of so many next tokens; 0: none was yet */
    int run;                          /* steps with guesses since one without */
    double won_ms;                    /* of late, by steps with the draft; below 0: lost */
    int tries;                        /* of these, few of which say nothing */
    bool rests, loses;
    int64_t stops; /* how often a rest began */
};

struct thrift_step { /* what one took */
    int next;        /* tokens that it drew without guesses */
    bool prompts;    /* it had rows of prompts, too */
    int guesses, right;
    double draft_ms, pass_ms;
};

void thrift_init(struct thrift *t, double share);
/* May the draft guess in a step of so many next tokens? Some go without, to be timed. */
bool thrift_guesses(const struct thrift *t, int next);
/* May it read what is expected to take so long? */
bool thrift_reads(const struct thrift *t, double ms);
/* Of every step. Whether the draft loses is told when it was tried a few times. */
void thrift_note(struct thrift *t, const struct thrift_step *s);

#endif
