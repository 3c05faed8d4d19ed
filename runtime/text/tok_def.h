/*
 * tok_def: a tokenizer as a file describes it, before tok.c turns it into tables: read from a GGUF
 * file (tok_gguf.c) or tokenizer.json (tok_json.c), and written as tokenizer.json (tok_json.c).
 * Texts live in the arena or in the source, which must outlive the definition. Everything is
 * checked against bounds; what the house does not implement (another model than byte-level BPE,
 * dropout, prefix spaces) is ERR_DATA that names it.
 */
#ifndef RUNTIME_TEXT_TOK_DEF_H
#define RUNTIME_TEXT_TOK_DEF_H

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/files/gguf.h"
#include "runtime/text/tok.h"
#include "runtime/text/tok_split.h"

#define TOK_VOCAB_LIMIT  (1 << 22)
#define TOK_MERGES_LIMIT (1 << 23)
#define TOK_AFFIX_LIMIT  8
#define TOK_ARENA_BYTES  ((size_t)1 << 30)

enum tok_kind {
    TOK_UNUSED,  /* an id without text */
    TOK_NORMAL,  /* of the merges; text in GPT-2's byte alphabet */
    TOK_ADDED,   /* plain text, always recognised */
    TOK_SPECIAL, /* plain text, recognised only where special tokens are wanted */
};

enum tok_flag { /* of added tokens */
    TOK_LSTRIP = 1,
    TOK_RSTRIP = 2,
    TOK_SINGLE_WORD = 4,
    TOK_NORMALIZED = 8, /* looked for in the normalised text, after the others */
};

struct tok_affix { /* ids that the post-processor puts before or behind a text */
    int32_t id[TOK_AFFIX_LIMIT];
    int count;
};

struct tok_text {
    const char *s;
    size_t len;
};

struct tok_def {
    int32_t vocab;
    struct tok_text *tokens; /* vocab */
    uint8_t *kinds;          /* vocab */
    uint8_t *flags;          /* vocab, of enum tok_flag; NULL: none */
    int64_t merge_count;
    struct tok_text (*merges)[2]; /* best first */
    const char *patterns[TOK_SPLIT_STAGES];
    int pattern_count;
    bool ignore_merges; /* a piece that is a token is that token */
    bool nfc;           /* text is to be normalised first */
    int32_t bos, eos;
    struct tok_affix prefix, suffix;
};

int tok_def_gguf(const struct gguf *g, struct arena *a, struct tok_def *out, struct err *e);
/* root: tokenizer.json; config: tokenizer_config.json or NULL. path is only for messages. */
int tok_def_json(const struct json *root, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e);
int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e); /* as tokenizer.json */

int tok_create(const struct tok_def *d, const char *path, struct tok **out, struct err *e);
/* tokenizer.json and, where it is, tokenizer_config.json of a folder. bos, eos: used where the
   latter names none; -1: none. */
int tok_open_folder(const char *folder, int32_t bos, int32_t eos, struct tok **out, struct err *e);

/* GPT-2's alphabet: every byte as a printable character. */
uint32_t tok_byte_char(uint8_t byte);
/* Appends the bytes that text in that alphabet stands for; false (and nothing appended) when text
   has other characters. */
bool tok_bytes(struct tok_text text, struct buf *out);

#endif
