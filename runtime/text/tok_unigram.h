/*
 * tok_unigram: the unigram model (Kudo 2018, arXiv 1804.10959): of all ways to cut a text into
 * tokens the one whose scores add up to the most; a character that no token begins with by itself
 * costs 10 more than the worst token and is unknown, and unknown ones beside one another are one.
 * Found from left to right (Viterbi), in time of the text's length times that of the longest token.
 * Thread: read-only after creation; an encoding has its own scratch.
 */
#ifndef RUNTIME_TEXT_TOK_UNIGRAM_H
#define RUNTIME_TEXT_TOK_UNIGRAM_H

#include "runtime/text/tok_def.h"
#include "runtime/text/tok_table.h"

struct tok_unigram_node { /* of a trie */
    uint32_t children;    /* where they stand, one behind another, by their labels */
    uint16_t child_count;
    uint8_t label;
    int32_t id; /* -1: no token ends here */
};

struct tok_unigram {
    const struct tok_names *names; /* borrowed, of the model's tokens */
    const uint8_t *kinds;          /* borrowed, (vocab) */
    double *scores;                /* (vocab) */
    struct tok_unigram_node *nodes;
    double unknown_score;
    int32_t unknown;
    int32_t byte_id[256]; /* -1: the vocabulary lacks it, or bytes are not fallen back to */
};

struct tok_unigram_work { /* scratch; zeroed at first */
    struct tok_unigram_end *ends;
    int64_t room;
};

int tok_unigram_init(struct tok_unigram *m, const struct tok_def *d, const struct tok_names *names,
    const uint8_t *kinds, struct err *e);
void tok_unigram_done(struct tok_unigram *m);
/* special: tokens that are special count where the text happens to say them. */
int tok_unigram_encode(const struct tok_unigram *m, struct tok_unigram_work *w, const char *text,
    size_t len, bool special, struct tok_ids *out, struct err *e);
void tok_unigram_work_done(struct tok_unigram_work *w);

#endif
