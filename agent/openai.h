/*
 * openai: the OpenAI API as text: what a client sends is checked and becomes the rank's
 * WIRE_REQUEST, one for each answer that it asks for. Pure: text in, text out; openai_answer.h has
 * the answers, front.c owns the connections and the queue.
 *
 * What may stand in a request is one table, of which docs/openai.md shows every row (a test
 * compares them): a field is used, may only have the values that change nothing, or is ignored
 * because it cannot change an answer. Every other field is refused by its name; null is the same as
 * absent.
 */
#ifndef AGENT_OPENAI_H
#define AGENT_OPENAI_H

#include "agent/keys.h"
#include "base/buf.h"
#include "api/jobspec.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- the table -- */

enum openai_place { /* the objects that have fields; bits */
    OPENAI_CHAT = 1,
    OPENAI_TEXT = 2, /* /v1/completions */
    OPENAI_MESSAGE = 4,
    OPENAI_PART = 8,    /* of a message's content */
    OPENAI_STREAM = 16, /* stream_options */
    OPENAI_TOKENIZE = 32,
    OPENAI_DETOKENIZE = 64,
    OPENAI_TEMPLATE = 128, /* /apply-template */
    OPENAI_FORMAT = 256,   /* response_format */
    OPENAI_SCHEMA = 512,   /* its json_schema */
    OPENAI_TOOL = 1024,    /* of tools */
    OPENAI_FUNCTION = 2048,
    OPENAI_CHOICE = 4096, /* tool_choice, where it is an object */
    OPENAI_CHOSEN = 8192, /* its function */
    OPENAI_CALL = 16384,  /* of a message's tool_calls */
    OPENAI_CALLED = 32768,
    OPENAI_EMBED = 1 << 16,    /* /v1/embeddings */
    OPENAI_CLASSIFY = 1 << 17, /* /v1/classify */
    OPENAI_SCORE = 1 << 18,    /* /v1/score */
    OPENAI_RERANK = 1 << 19,   /* /v1/rerank */
    /* of Anthropic's API */
    OPENAI_MESSAGES = 1 << 20,
    OPENAI_COUNT = 1 << 21, /* of a message's tokens */
    OPENAI_TURN = 1 << 22,
    OPENAI_TEXT_BLOCK = 1 << 23,
    OPENAI_USE_BLOCK = 1 << 24,
    OPENAI_RESULT_BLOCK = 1 << 25,
    OPENAI_USABLE = 1 << 26,   /* of tools */
    OPENAI_USE = 1 << 27,      /* tool_choice */
    OPENAI_DOCUMENT = 1 << 28, /* of /v1/rerank's documents, where it is an object */
    /* of the Responses API; beyond an int's bits, which makes the type one of 64 */
    OPENAI_RESPONSES = 1 << 29,
    OPENAI_SAID = 1 << 30,                 /* of its input: a message, */
    OPENAI_SAID_PART = (int64_t)1 << 31,   /* a part of one or of an output, */
    OPENAI_SAID_CALL = (int64_t)1 << 32,   /* a call, */
    OPENAI_SAID_OUTPUT = (int64_t)1 << 33, /* and what came of it */
    OPENAI_FLAT_TOOL = (int64_t)1 << 34,   /* of tools */
    OPENAI_FLAT_CHOICE = (int64_t)1 << 35, /* tool_choice, where it is an object */
    OPENAI_TEXT_FORM = (int64_t)1 << 36,   /* text */
    OPENAI_TEXT_FORMAT = (int64_t)1 << 37, /* its format */
    /* of ours */
    OPENAI_RECOMMEND = (int64_t)1 << 38, /* /v1/recommend */
    OPENAI_HAD = (int64_t)1 << 39,       /* of its history, where it is an object */
    /* of a vector store's search */
    OPENAI_SEARCH = (int64_t)1 << 40,
    OPENAI_RANKING = (int64_t)1 << 41, /* ranking_options */
    OPENAI_HYBRID = (int64_t)1 << 42,  /* its hybrid_search */
    OPENAI_LINE = (int64_t)1 << 43,    /* of /v1/monitor's body */
};
_Static_assert(sizeof(enum openai_place) == sizeof(uint64_t), "places are bits of 64");
#define OPENAI_PLACES 64 /* bits at most */
/* Those that the model answers, not with tokens of its own: the rank gives the body. */
#define OPENAI_RENDERED \
    (OPENAI_TOKENIZE | OPENAI_DETOKENIZE | OPENAI_TEMPLATE | OPENAI_COUNT | OPENAI_SEARCH)
/* Those of models that read whole texts: the rank gives the elements of a list (openai_items.h). */
#define OPENAI_ITEMS \
    (OPENAI_EMBED | OPENAI_CLASSIFY | OPENAI_SCORE | OPENAI_RERANK | OPENAI_RECOMMEND)

/* Those whose body is lines, each such an object, in which members of no row mean nothing. */
#define OPENAI_LINES OPENAI_LINE

enum openai_kind {
    OPENAI_NUMBER, /* from min to max */
    OPENAI_WHOLE,  /* likewise, and whole */
    OPENAI_BOOL,
    OPENAI_STRING,
    OPENAI_OWN,    /* has a form of its own */
    OPENAI_FIXED,  /* not supported: only what `values` lists, which changes nothing */
    OPENAI_IGNORED /* any value: it cannot change an answer */
};

struct openai_field {
    const char *name;
    uint64_t places; /* enum openai_place */
    enum openai_kind kind;
    double min, max;
    const char *values; /* OPENAI_FIXED: JSON without spaces, one space between two */
    const char *note;   /* for the documentation */
    const char *shape;  /* a JSON schema, as openapi.c reads it; NULL: what the kind says */
    bool needed;
};
const struct openai_field *openai_fields(size_t *count);

/* The objects in the order of the documentation: those of paths, then their parts. */
struct openai_object {
    enum openai_place place;
    const char *path; /* NULL: a part of others */
    const char *name; /* in openapi.json */
    const char *title;
};
const struct openai_object *openai_objects(size_t *count);
/* By which paths other servers have some of them, too. */
struct openai_alias {
    const char *path;
    enum openai_place place;
};
const struct openai_alias *openai_aliases(size_t *count);
/* 0: none of those paths. */
enum openai_place openai_place_of(const char *path);

/* -- requests -- */

struct openai_conf {
    const char *model;
    int64_t context_length;                        /* in tokens, 0: not known */
    int most_choices;                              /* of a request, at most LIMIT_CHOICES */
    enum wire_calls calls;                         /* how the model calls tools */
    enum wire_does does;                           /* which places it answers */
    bool documents;                                /* there are some to search in */
    bool watches;                                  /* streams */
    const struct jobspec_served_adapter *adapters; /* (adapter_count) beside it */
    int adapter_count;
    bool adapter_paths;          /* the rank wants to know theirs */
    const struct api_keys *keys; /* borrowed; NULL: there are none */
    int key;                     /* who asks */
};

struct openai_refusal {
    int status;
    int retry_seconds; /* after which it is worth to ask again; 0: not said */
    const char *type, *code;
    char param[128]; /* "": none */
    char message[256];
};

struct openai_request { /* what the rank need not know */
    enum openai_place place;
    const char *model;   /* as asked for: the conf's, or the name of one of its adapters */
    const char *adapter; /* that; or NULL */
    bool stream, include_usage, logprobs;
    int choices;         /* answers in all: prompt by prompt, */
    int answers;         /* so many to each (n) */
    int priority;        /* the lower goes first */
    int64_t most_tokens; /* of an answer */
    int calls;           /* of tools, that an answer may have; 0: what looks like one is text */
    uint64_t prefix;     /* of what generates: what its prompt begins with (route.h); else 0 */
};

/* Fills r; -1, for `return openai_refuse(...)`. param may be NULL. */
int openai_refuse(struct openai_refusal *r, int status, const char *code, const char *param,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The adapter's name as conf has it; NULL: there is none. */
const char *openai_find_adapter(const struct openai_conf *conf, const char *name);
/* Checks a body of a place that is a path's, and writes the rank's request for one of its choices;
 * the first one is always there. -1 and *r when the body is refused. With a seed each answer to a
 * prompt has a stream of its own; the first one's is the seed's. */
int openai_read(const struct openai_conf *conf, uint64_t id, enum openai_place place, int choice,
    const char *body, size_t len, struct openai_request *out, struct buf *frame,
    struct openai_refusal *r);

#endif
