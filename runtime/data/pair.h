/*
 * pair: two answers to one prompt, of which the first is preferred, as TRL has them: {"prompt",
 * "chosen", "rejected"}, all strings, or all lists of messages. Without a prompt it is what both
 * answers begin with: of strings the characters in common, less one space at their end; of lists
 * the messages.
 *
 * Each answer becomes a document with its prompt, as runtime/data/dialogue.h makes it: strings are
 * one text, followed by eos; messages are rendered by the chat template, and all that stands behind
 * the prompt's rendering is learnt, of whatever role. Pure but for memory.
 */
#ifndef RUNTIME_DATA_PAIR_H
#define RUNTIME_DATA_PAIR_H

#include "base/json.h"
#include "runtime/text/chat.h"
#include "runtime/text/tok.h"

struct pair {
    int64_t count[2];  /* ids of either document, chosen first */
    int64_t learnt[2]; /* of each, offset of the first id that is learnt */
};

/* Messages in a record, and no chat template because of `missing`, whose class it is. */
int pair_refuse_chat(const struct err *missing, struct err *e);
bool pair_is(const struct json *record); /* has both answers */
/* Appends both documents' ids, ~id where nothing is learnt. c NULL: the model has no chat template,
 * because of `missing`, whose class it is where one is needed. ERR_DATA: the record is no pair, its
 * answers are the same, or nothing of one is learnt. */
int pair_encode(const struct tok *t, struct chat *c, const struct err *missing,
    const struct json *record, struct tok_ids *out, struct pair *p, struct err *e);

#endif
