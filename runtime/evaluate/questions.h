/*
 * questions: a file of questions with choices, as tokens. JSONL, on a line an object: "context",
 * the text that an answer follows, or "question", which becomes "Question: ...\nAnswer:";
 * "choices", a list of 2 to 64 texts; "answer", the index of the right one, from 0, or its letter,
 * "A" for the first. Other members are left alone, empty lines skipped.
 *
 * Tokens are lm-evaluation-harness' (its _encode_pair): a choice stands behind the context with a
 * space between, unless there is one; what blanks the context ends with go to the choice; both are
 * tokenised together, and the choice's tokens are those behind as many as the context alone has.
 * What the tokenizer puts before a text stands before the context; where there is no token at all,
 * bos or else eos does. With a chat template the context is a turn of the user's, text and never a
 * special token, and the choice follows the prompt for the answer without a space.
 */
#ifndef RUNTIME_EVALUATE_QUESTIONS_H
#define RUNTIME_EVALUATE_QUESTIONS_H

#include "api/limits.h"
#include "runtime/data/tokens.h"
#include "runtime/text/chat.h"
#include "runtime/text/tok.h"

#include <stdint.h>

#define QUESTIONS_CHOICES    64 /* of one */
#define QUESTIONS_LINE_BYTES (1 << 20)

struct questions_choice {
    int64_t first, count; /* in ids */
    int64_t characters;   /* of its text, without a space before it */
};

struct question {
    int64_t first, count; /* the context, in ids */
    int64_t choice;       /* its first among the choices */
    int choices, answer;
    int64_t line; /* of the file */
};

struct questions {
    struct tok_ids ids;
    struct question *list;
    int64_t count, capacity;
    struct questions_choice *choices;
    int64_t choice_count, choice_capacity;
};

struct questions_conf {
    const char *path; /* for messages */
    const struct tok *tok;
    struct chat *chat; /* NULL: none */
    int64_t length;    /* tokens that the model sees together: no choice has more */
    struct tokens_progress progress;
};

/* ERR_DATA names file and line. Whatever it returns, questions_done frees. */
int questions_read(const struct questions_conf *c, const char *text, size_t size,
    struct questions *out /* zeroes */, struct err *e);
/* The same of the file at c->path. */
int questions_open(const struct questions_conf *c, struct questions *out, struct err *e);
void questions_done(struct questions *q);

#endif
