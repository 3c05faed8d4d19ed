/*
 * dialogue: documents of which only a part is learnt: of a conversation what the assistant says, of
 * a prompt with its completion the completion and eos.
 *
 * A conversation, {"messages": [{"role", "content"}, ...]}, is rendered by the model's chat
 * template, as it is for serving: what stands in a message is text and never a special token. What
 * the template marks by {% generation %} is learnt; of a template without marks, each turn of the
 * assistant: the rendering up to and including it, less that of what comes before it with the
 * generation prompt. ERR_DATA where the shorter is no beginning of the longer, or the longer none
 * of the whole.
 *
 * {"prompt": "...", "completion": "..."} are one text, special tokens included, followed by eos
 * unless it ends with one.
 *
 * Ids are those of the whole text; a token that both parts share is learnt. Pure but for memory.
 */
#ifndef RUNTIME_DATA_DIALOGUE_H
#define RUNTIME_DATA_DIALOGUE_H

#include "base/json.h"
#include "runtime/text/chat.h"
#include "runtime/text/tok.h"

/* All append ids, ~id where nothing is learnt from predicting it, the first one always among
 * these. *learnt: which of them, counted from the first appended, is the first that is learnt.
 * ERR_DATA: the record is none, or nothing of it is learnt. */
int dialogue_messages(const struct tok *t, struct chat *c, const struct json *messages,
    struct tok_ids *out, int64_t *learnt, struct err *e);
/* One of several answers: of the messages of both lists, the second behind the first, all but the
 * first `prompt`; what they are rendered as behind those with a generation prompt is learnt. */
int dialogue_answer(const struct tok *t, struct chat *c, const struct json *const lists[2],
    size_t prompt, struct tok_ids *out, int64_t *learnt, struct err *e);
int dialogue_completion(const struct tok *t, const char *prompt, const char *completion,
    struct tok_ids *out, int64_t *learnt, struct err *e);

#endif
