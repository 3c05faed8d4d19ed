/*
 * openai_answer: what the OpenAI API answers, as text: events of streams, whole bodies, logprobs,
 * errors. Pure: front.c has what the rank says. Each adds to out, whose own state tells of failure.
 */
#ifndef AGENT_OPENAI_ANSWER_H
#define AGENT_OPENAI_ANSWER_H

#include "agent/calls.h"
#include "agent/openai.h"
#include "base/buf.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What of a stream was told, where its events have an order of their own. */
struct openai_told {
    int events, parts; /* parts that are over */
    bool open;         /* one of text is not */
};
struct openai_members { /* that an answer is the average of, and are to be; of 0: it is of one */
    int there, of;
};
struct openai_usage {
    int64_t prompt, completion;
    int64_t cached; /* of the prompt */
};
struct openai_answer {
    uint64_t id;
    bool chat, include_usage;
    int64_t created;
    const char *model;
    struct openai_members members;
    const char *asked; /* the body that was sent, borrowed; NULL: nothing of it is told again */
    struct openai_told told;
    struct openai_usage begun; /* when its first text came */
};

/* -- logprobs of a choice, as JSON that was not sent yet -- */

#define OPENAI_LISTS 4 /* tokens, token_logprobs, top_logprobs, text_offset; of a chat: content */

struct openai_logprobs {
    struct buf list[OPENAI_LISTS];
    int64_t characters; /* of the text that the tokens so far are, those sent included */
};

void openai_logprobs_init(struct openai_logprobs *l);
void openai_logprobs_done(struct openai_logprobs *l);
void openai_logprobs_sent(struct openai_logprobs *l); /* empties the lists */
size_t openai_logprobs_bytes(const struct openai_logprobs *l);
/* Adds what a WIRE_LOGPROBS says of one token. A part of a character is "bytes:\xe2\x82" in the
   older form, as OpenAI has it. -ERR_MEMORY: beyond its bound; -ERR_BUG: no such frame. */
int openai_logprobs_add(struct openai_logprobs *l, bool chat, const struct wire_frame *f);

/* -- answers -- */

/* Into an answer's open object, "llmjob": what is said of its members, if it has any. */
void openai_tell_members(struct jsonw *w, const struct openai_answer *a);

struct openai_choice {
    int index;
    bool first;       /* of a stream: it opens a chat answer with the role */
    const char *text; /* (len), may be NULL in a stream */
    size_t len;
    const struct openai_logprobs *logprobs; /* NULL: none were asked for */
    const struct calls *calls;              /* NULL: it can have none */
    int from;                               /* of these: the first that was not sent */
    const char *annotations;                /* JSON, when it has ended; NULL: there are none */
    const char *finish;                     /* NULL while it goes on */
    const char *stop;                       /* the text that ended it; NULL or "": none */
};

/* Nine letters and digits, as Mistral's templates want them: of a call of a choice. */
#define OPENAI_CALL_ID 10
void openai_call_id(char out[OPENAI_CALL_ID], const struct openai_answer *a, int choice, int call);

/* Events of a stream, "data: " included. */
void openai_chunk(
    struct buf *out, const struct openai_answer *a, const struct openai_choice *choice);
void openai_last(struct buf *out, const struct openai_answer *a, struct openai_usage u);
void openai_error_event(struct buf *out, const struct openai_refusal *r);
/* Whole bodies. */
void openai_whole(struct buf *out, const struct openai_answer *a,
    const struct openai_choice *choices, int count, struct openai_usage u);
void openai_error(struct buf *out, const struct openai_refusal *r);
/* The model or adapter of that name; NULL: all of them. -1 and *r where there is none. */
int openai_models(
    struct buf *out, const struct openai_conf *conf, const char *id, struct openai_refusal *r);

#endif
