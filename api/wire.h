/*
 * wire: the two narrow doors between an agent and its rank process.
 *
 * 1. Framed messages on an inherited SOCK_STREAM socket (fd WIRE_FD_SOCKET), little endian:
 *
 *        u32 length | u16 type | u16 zero | payload (length bytes, at most LIMIT_FRAME_BYTES)
 *
 *    Payloads are JSON objects, fields listed per type, but for two, which are hot. WIRE_TOKEN:
 *
 *        u64 request | u32 tokens so far, 0: the prompt | u32 zero |
 *        u32 tokens of the prompt | u32 of these, that were found | UTF-8 text
 *
 *    WIRE_LOGPROBS, of one token, before its text: the token itself, then the likeliest:
 *
 *        u64 request | u32 tokens so far, 0: of the prompt | u32 1: it is no text | u32 | u32 |
 *        { i32 token | f32 logprob | u32 length | bytes } ...
 *
 * 2. The heartbeat page (fd WIRE_FD_PAGE, one page of a memfd): the rank stores, the agent only
 *    loads. It is readable even when the rank is stuck inside a collective or a driver; that is how
 *    a hang gets a name.
 *
 * wire_reader is incremental and never blocks by itself; wire_send blocks at most deadline_ms.
 */
#ifndef API_WIRE_H
#define API_WIRE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WIRE_FD_SOCKET    3
#define WIRE_FD_PAGE      4
#define WIRE_FD_COPIES    5 /* a file of memory that outlives ranks, if WIRE_PREPARE says so */
#define WIRE_HEADER_BYTES 8
#define WIRE_TOKEN_BYTES  24 /* of a payload, before the text or the logprobs */

enum wire_type {
    /* agent -> rank */
    WIRE_PREPARE = 1, /* {job_file, incarnation, secret, rank_local, local_world, replica,
                         bind_host, copies:bool}: the rank binds its listener and answers
                         WIRE_READY */
    WIRE_START,       /* {rank, world, ranks:[{rank, replica, local_rank, host, port, node}]} */
    WIRE_STOP,        /* {}: finish the step, checkpoint, end with EXIT_CLASS_DRAINED */
    WIRE_CHECKPOINT,  /* {}: checkpoint at the next step boundary and go on */
    WIRE_REQUEST,     /* serving: {id, chat:bool, messages|prompt|prompt_ids, max_tokens,
                         temperature, top_p, seed, stop:[]}, and what else of docs/openai.md
                         is given, by its name there; or {id, render:"tokens"|"text",
                         messages|prompt|prompt_ids}, whose text is the body of the answer;
                         tools are those that the template is to show, the arguments of
                         messages' tool_calls objects;
                         or {id, search:{query, most, threshold, words, vectors}}, likewise, of
                         spec.serve.retrieval;
                         or, of a model that does not generate, {id, read:"embed"|"classify"|
                         "compare"|"rank"|"recommend"} and what runtime/serve/items.h says, whose
                         text is the elements of the answer's list;
                         the id comes first, so that it can be read
                         while the rest stays text; an adapter by its name, and by adapter_path
                         where the list of them may change */
    WIRE_CANCEL,      /* {id} */
    WIRE_LISTED,      /* {list, adapters:[{name, path}]}: spec.serve.adapters as it stands from here
                         on, under spec.serve.adapterMemory; the list's number, from 1 on: that of
                         the job file is 0 */
    /* rank -> agent */
    WIRE_READY = 64, /* {port}: its collective listener */
    WIRE_LOADED,     /* {parameters, memory_bytes, resumed_step, steps, held_out, tensor, pipeline,
                        zero_stage, layout_reason, device, damaged, damaged_bytes, copies}; why the
                        layout was chosen, "" where it was told; the folder of a checkpoint that
                        was passed over, "" for none, and what all such folders hold, as rank 0
                        says; what copies it keeps in memory, or why none, "": none are wanted */
    WIRE_STEP,       /* {step, loss, tokens, tokens_per_second, grad_norm, learning_rate, seconds,
                        loss_scale, skipped_steps}, the last two of FP16;
                        from rank 0, of a few steps at once where the device runs ahead */
    WIRE_EVALUATED, /* {step, loss, f1 or match}; from rank 0; f1 where labels, match where pairs */
    WIRE_SAVED,     /* {step, path}; from rank 0, after the manifest is in place */
    WIRE_DONE,      /* {step, output}: training complete; {step, drained:true}: stopped as asked */
    WIRE_FAILED,    /* {class, message}: the last frame before a non-zero exit */
    WIRE_SERVING,   /* {model, context_length, calls, does, members, of}: ready for requests; how
                       its answers call tools, a wire_calls_name(); a wire_does_name(); models
                       that it is the average of, of so many, 0: it is one */
    WIRE_TOKEN,     /* binary, see above */
    WIRE_FINISHED,  /* {id, reason:"stop"|"length"|"cancelled"|"error", message, param,
                        status: HTTP's, of an error that is not the request's own; else 0,
                        prompt_tokens, completion_tokens, items: texts that were read,
                        recommended: items that were,
                        stop: the text that ended it, or "",
                        searched: seconds that a search in documents took, 0: there was none,
                        annotations: JSON, a list of what the answer cites, or ""} */
    WIRE_LOGPROBS,  /* binary, see above */
    WIRE_BALANCED,  /* {step, text}; from rank 0, when shares are sized by measured speed: to what,
                       and which rank stands out */
    WIRE_ADAPTERS,  /* {loaded, bytes, loads, drops, failures, seconds, list, unseen, wrong}: of
                       spec.serve.adapters, when something of this has changed: how many are loaded,
                       and what they take; since the start; how long the last load took; the number
                       of the list, how many of it have not been looked at, and what is wrong with
                       others, "": nothing */
    WIRE_INDEXED,   /* {files, passed_over, chunks, bytes, seconds}: of spec.serve.retrieval, before
                       WIRE_SERVING and when it has changed; how long it took */
};

enum wire_phase { /* where a rank is; names by wire_phase_name() */
    WIRE_PHASE_START,
    WIRE_PHASE_CONNECT,
    WIRE_PHASE_LOAD,
    WIRE_PHASE_DATA,
    WIRE_PHASE_FORWARD,
    WIRE_PHASE_BACKWARD,
    WIRE_PHASE_COLLECTIVE,
    WIRE_PHASE_OPTIMIZER,
    WIRE_PHASE_EVALUATE,
    WIRE_PHASE_CHECKPOINT,
    WIRE_PHASE_EXPORT,
    WIRE_PHASE_SERVE_IDLE,
    WIRE_PHASE_SERVE_PREFILL,
    WIRE_PHASE_SERVE_DECODE,
    WIRE_PHASE_SERVE_RENDER, /* from messages to tokens */
    WIRE_PHASES
};
const char *wire_phase_name(enum wire_phase p);

enum wire_operation {
    WIRE_ALLREDUCE = 1,
    WIRE_ALLGATHER,
    WIRE_BROADCAST,
    WIRE_BARRIER,
    WIRE_REDUCE_SCATTER,
    WIRE_ALL_TO_ALL,
    WIRE_EXCHANGE, /* of messages, between members */
    WIRE_OPERATIONS
};
const char *wire_operation_name(uint32_t operation);

/* How a model's chat template has it write calls of tools. */
enum wire_calls {
    WIRE_CALLS_NONE,    /* it takes no tools */
    WIRE_CALLS_UNKNOWN, /* it does; in a form that is not read here */
    WIRE_CALLS_HERMES,  /* <tool_call>{"name": ..., "arguments": {...}}</tool_call>, of Qwen too */
    WIRE_CALLS_LLAMA,   /* {"name": ..., "parameters": {...}}, the whole answer; Llama 3.1 on */
    WIRE_CALLS_MISTRAL, /* [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...] */
    WIRE_CALLS_FORMS
};
const char *wire_calls_name(enum wire_calls c);
enum wire_calls wire_calls_of(const char *name); /* of none: WIRE_CALLS_NONE */

/* What a served model does with a text. */
enum wire_does {
    WIRE_DOES_GENERATE, /* goes on with it */
    WIRE_DOES_EMBED,
    WIRE_DOES_CLASSIFY,  /* says which labels it has */
    WIRE_DOES_TAG,       /* says which its words have */
    WIRE_DOES_RECOMMEND, /* embeds, and has items to recommend */
    WIRE_DOES_KINDS
};
const char *wire_does_name(enum wire_does d);
enum wire_does wire_does_of(const char *name); /* of none: WIRE_DOES_GENERATE */

#define WIRE_NOTE_BYTES 160 /* of the page's note, its end included; a multiple of 8 */

/* One writer (the rank), many readers; every field is written with release order. */
struct wire_page {
    _Atomic uint32_t magic; /* WIRE_PAGE_MAGIC once the rank runs */
    _Atomic uint32_t phase;
    _Atomic int64_t step;
    _Atomic uint64_t beats;      /* grows at every phase change, layer and collective segment */
    _Atomic int64_t beat_ms;     /* CLOCK_MONOTONIC of the last beat */
    _Atomic uint64_t collective; /* sequence number of the collective it is in or was in last */
    _Atomic uint32_t in_collective;
    _Atomic uint32_t operation; /* enum wire_operation of that collective */
    _Atomic int64_t operation_bytes;
    _Atomic int32_t waiting_for;  /* rank whose data it waits for, -1: none */
    _Atomic uint32_t share;       /* sequences of a step that are its; 0: not told */
    _Atomic uint32_t note_writes; /* odd while the note is written */
    _Atomic uint64_t note[WIRE_NOTE_BYTES / 8];
};
#define WIRE_PAGE_MAGIC 0x6c6c6d6au
/* The note: what is known of the wait that the rank is in, as a clause, "" for nothing. A longer
 * one is cut. It is no beat. */
void wire_page_note(struct wire_page *p, const char *text);
/* Another process's: printable ASCII, whatever it wrote; "" while it writes. */
void wire_page_noted(const struct wire_page *p, char out[WIRE_NOTE_BYTES]);

struct wire_peer { /* an entry of WIRE_START's ranks */
    int rank, replica, local_rank;
    char host[64];
    char node[64]; /* the beginning of its name; "": not known */
    uint16_t port;
};

struct wire_frame {
    enum wire_type type;
    const char *data; /* valid until the next wire_next or wire_read; not NUL-terminated by the
                         sender, but the byte after the last one is always 0 */
    uint32_t len;
};

struct wire_reader {
    struct buf in;
    uint32_t used; /* bytes of `in` already handed out */
};
void wire_reader_init(struct wire_reader *r);
void wire_reader_done(struct wire_reader *r);
/* Reads what the socket has now. 1: read something, 0: would block, -ERR_PEER: closed, other
 * errors. */
int wire_read(struct wire_reader *r, int fd, struct err *e);
/* 1 and *out: a whole frame; 0: need more; -ERR_BUG: a malformed or oversized frame. */
int wire_next(struct wire_reader *r, struct wire_frame *out, struct err *e);
/* Waits until deadline_ms (of clock_ms) for one frame: 0 and *out, -ERR_HANG when none came. */
int wire_wait(
    struct wire_reader *r, int fd, int64_t deadline_ms, struct wire_frame *out, struct err *e);
/* Frames of several threads on one fd need the callers' lock. After a failure the stream is broken:
 * close it. */
int wire_send(int fd, enum wire_type type, const void *data, uint32_t len, int64_t deadline_ms,
    struct err *e);
/* What stands before a payload, for who sends without waiting. */
void wire_header(enum wire_type type, uint32_t len, char out[WIRE_HEADER_BYTES]);
/* The id of a WIRE_REQUEST, 0: it does not begin with one. */
uint64_t wire_request_id(const struct wire_frame *f);

/* What WIRE_TOKEN and WIRE_LOGPROBS begin with. */
struct wire_token {
    uint64_t request;
    uint32_t count;  /* tokens so far; 0: of the prompt */
    bool hidden;     /* of WIRE_LOGPROBS: the token is none of the text's, as special ones are */
    uint32_t prompt; /* tokens of it; */
    uint32_t cached; /* of these, that need not be computed */
};
int wire_put_token(struct buf *out, const struct wire_token *t);          /* -ERR_MEMORY */
bool wire_take_token(const struct wire_frame *f, struct wire_token *out); /* false: too short */

struct wire_logprob {
    int32_t token;
    float logprob;     /* NaN: of nothing, the first token of a text */
    const char *bytes; /* (len) of its text, as they are */
    uint32_t len;
};
int wire_put_logprob(struct buf *out, const struct wire_logprob *x); /* -ERR_MEMORY */
/* The one at *at, which goes behind it; begin at WIRE_TOKEN_BYTES. false: there is no whole one. */
bool wire_take_logprob(const struct wire_frame *f, uint32_t *at, struct wire_logprob *out);

#endif
