/*
 * draft: a smaller model that guesses ahead for one that is served (speculative decoding,
 * arXiv:2211.17192): beside it in the same rank, of the same tokens. Its cache has as many pages as
 * the model's, of the same tokens each, so that a sequence has both by the same numbers, and who
 * begins with another's pages has what the draft computed for them, too. Adapters are the model's:
 * the draft guesses without. What it guesses decides nothing about what is drawn.
 */
#ifndef RUNTIME_SERVE_DRAFT_H
#define RUNTIME_SERVE_DRAFT_H

#include "base/err.h"
#include "api/wire.h"
#include "kernels/dev.h"
#include "runtime/serve/guess.h"
#include "runtime/serve/sample.h"
#include "runtime/text/tok.h"

#include <stdint.h>

struct draft;

struct draft_conf {
    const char *source; /* its files, as spec.model.source */
    enum dtype t;       /* compute type */
    int64_t vocab;      /* of the model for which it guesses, */
    int64_t context;    /* and tokens of a sequence there */
};

/* Opens its files; nothing is loaded. -ERR_USER: it has another vocabulary, or a shorter
   context. */
int draft_open(const struct draft_conf *c, struct draft **out, struct err *e);
void draft_close(struct draft *d);
/* -ERR_USER: a token of its tokenizer is another text than in t. */
int draft_compare(struct draft *d, const struct tok *t, struct err *e);
/* What it takes of memory with the pages of one sequence, and for each page beside. */
int64_t draft_bytes(const struct draft *d);
int64_t draft_page_bytes(const struct draft *d);
/* With so many pages, on dev, which it borrows; page: beats, or NULL. */
int draft_load(
    struct draft *d, struct dev *dev, int64_t pages, struct wire_page *page, struct err *e);

struct draft_part {      /* of a sequence */
    int32_t *ids;        /* (count + wanted) its tokens; behind these those that are guessed */
    int64_t count, done; /* of these, whose keys are in its pages: fewer than there are */
    const int32_t *pages;
    int wanted;              /* tokens that are guessed, at most; 0: it only reads */
    struct sample_draw draw; /* of the first, as the model's will be drawn; */
    struct sampler sampler;  /* and of those behind it */
    void *user;
    int guessed; /* how many were; all of its tokens have keys, and of these all but the last */
};

/* may_follow_fn, or NULL: a sequence has guesses as long as they may come true. A pass for what is
   to be read, of ENGINE_ROWS tokens at most, and one for each guess behind the first. */
int draft_guess(
    struct draft *d, struct draft_part *p, int n, guess_follow_fn *may_follow_fn, struct err *e);

#endif
