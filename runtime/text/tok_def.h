/*
 * tok_def: a tokenizer as a file describes it, before it is turned into tables: read from a GGUF
 * file (tok_gguf.c), tokenizer.json (tok_json.c), vocab.txt (tok_json_vocab.c) or SentencePiece's
 * own (tok_spm.c), and written as tokenizer.json (tok_json_write.c). Texts live in the arena or in
 * the source, which must outlive the definition. Everything is checked against bounds; what the
 * house has not (another model than BPE, WordPiece and Unigram, dropout) is ERR_DATA that names it.
 */
#ifndef RUNTIME_TEXT_TOK_DEF_H
#define RUNTIME_TEXT_TOK_DEF_H

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/files/gguf.h"
#include "runtime/text/tok.h"
#include "runtime/text/tok_split.h"
#include "runtime/text/tok_steps.h"

#define TOK_VOCAB_LIMIT  (1 << 22)
#define TOK_MERGES_LIMIT (1 << 23)
#define TOK_ARENA_BYTES  ((size_t)1 << 30)

enum tok_model {
    TOK_BPE,       /* of bytes */
    TOK_BPE_CHARS, /* of characters, as SentencePiece has it */
    TOK_WORDPIECE,
    TOK_UNIGRAM,
};

enum tok_kind {
    TOK_UNUSED,  /* an id without text */
    TOK_NORMAL,  /* of the model; of BPE its text is in GPT-2's byte alphabet */
    TOK_ADDED,   /* plain text, always recognised */
    TOK_SPECIAL, /* plain text, recognised only where special tokens are wanted */
};

enum tok_flag { /* of added tokens */
    TOK_LSTRIP = 1,
    TOK_RSTRIP = 2,
    TOK_SINGLE_WORD = 4,
    TOK_NORMALIZED = 8, /* looked for in the normalised text, after the others */
    TOK_OF_MODEL = 16,  /* the model makes it of text, too */
};

struct tok_stage { /* of the pre-tokenizer */
    const char *pattern;
    enum tok_split_drop drop;
};

struct tok_chars_def {  /* of a BPE of characters, and of a Unigram */
    int32_t unknown;    /* the token of a character that is none; -1: such ones are dropped */
    bool fuse;          /* several of them are one; always so of a Unigram */
    bool byte_fallback; /* or a character becomes its bytes, "<0xE2>", where they are tokens */
    bool decodes_bytes; /* and such a token is a byte in turn */
};

/* SentencePiece's way with spaces: one is written as U+2581, and one stands before a text. */
#define TOK_SPACE        "\u2581"
#define TOK_SPACES_STAGE "[ " TOK_SPACE "][^ " TOK_SPACE "]*" /* cuts words off */
enum tok_spaces {
    TOK_SPACES_AS_IS,
    TOK_SPACES_MARKED,       /* each becomes U+2581 */
    TOK_SPACES_BEFORE_FIRST, /* and one is put before the text, if it begins without */
    TOK_SPACES_BEFORE_ALL,   /* and one before whatever is cut off without */
};

struct tok_wordpiece_def {
    struct tok_text prefix; /* of what continues a word: "##" */
    int32_t unknown;        /* the token of a word that no tokens make; -1: there is none */
    int64_t word_limit;     /* characters; a longer word is unknown */
    bool cleanup;           /* decoding leaves out spaces before punctuation */
};

struct tok_def {
    enum tok_model model;
    int32_t vocab;
    struct tok_text *tokens; /* vocab */
    uint8_t *kinds;          /* vocab */
    uint8_t *flags;          /* vocab, of enum tok_flag; NULL: none */
    int64_t merge_count;
    struct tok_text (*merges)[2]; /* best first */
    int32_t *ranks;     /* (merge_count) rising; of equal ones the leftmost; NULL: places */
    bool ignore_merges; /* a piece that is a token is that token */
    double *scores;     /* vocab, of a Unigram; else NULL */
    struct tok_chars_def chars;
    enum tok_spaces spaces; /* in each piece, of a BPE of characters or a Unigram */
    struct tok_wordpiece_def wordpiece;
    struct tok_steps steps; /* the normaliser's */
    struct tok_stage stages[TOK_SPLIT_STAGES];
    int stage_count;
    int32_t bos, eos, pad, mask; /* -1: none */
    struct tok_affix prefix, suffix;
    struct tok_template pair;
};

/* What is made of two texts, as a string of pieces and their types: ^ prefix, A and B the texts, $
   suffix. */
#define TOK_PAIR_BERT    "^0A0$0B1$1"
#define TOK_PAIR_ROBERTA "^0A0$0$0B0$0"
#define TOK_PAIR_EACH    "^0A0$0^1B1$1"
#define TOK_PAIR_T5      "A0$0B0$0"
void tok_def_pair(struct tok_def *d, const char *pieces);

int tok_def_gguf(const struct gguf *g, struct arena *a, struct tok_def *out, struct err *e);
/* root: tokenizer.json; config: tokenizer_config.json or NULL. path is only for messages. */
int tok_def_json(const struct json *root, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e);
/* text: vocab.txt, a token a line, of a WordPiece; config: as above. */
int tok_def_vocab(const char *text, size_t len, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e);
/* file: SentencePiece's, whole (tokenizer.model, spiece.model); config: as above, whose
   tokenizer_class says how it is read. */
int tok_def_spm(struct tok_text file, const struct json *config, const char *path, struct arena *a,
    struct tok_def *out, struct err *e);
/* As tokenizer.json. ERR_DATA: of a model that no GGUF file has (it has files of its own), or of a
   Unigram that has a table of characters there, which is applied in another way. */
int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e);
int tok_def_write_check(const struct tok_def *d, struct err *e); /* whether it can be */

/* What tokenizer_config.json, which may be NULL, says of d's tokens. */
void tok_def_config(struct tok_def *d, const struct json *config);
/* The token of that text; -1: none. */
int32_t tok_def_find(const struct tok_def *d, struct tok_text text);

int tok_create(const struct tok_def *d, const char *path, struct tok **out, struct err *e);
/* A folder's tokenizer, for as long as use_fn runs: what of it lives in its files does not outlive
   that. Its failure is returned. */
int tok_def_folder(const char *folder,
    int (*use_fn)(void *user, const struct tok_def *d, const char *path, struct err *e), void *user,
    struct err *e);
/* tokenizer.json, or where there is none vocab.txt, tokenizer.model or spiece.model, and, where it
   is, tokenizer_config.json of a folder. bos, eos: used where the latter names none; -1: none. */
int tok_open_folder(const char *folder, int32_t bos, int32_t eos, struct tok **out, struct err *e);

/* Of all that decides what ids a text has. */
uint64_t tok_def_digest(const struct tok_def *d);
/* The name by which GGUF files know d's normaliser and pre-tokenizer; NULL: they do not. */
const char *tok_gguf_pre(const struct tok_def *d);

/* GPT-2's alphabet: every byte as a printable character. */
uint32_t tok_byte_char(uint8_t byte);
/* Appends the bytes that text in that alphabet stands for; false (and nothing appended) when text
   has other characters. */
bool tok_bytes(struct tok_text text, struct buf *out);

#endif
