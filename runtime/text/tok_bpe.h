/*
 * tok_bpe: BPE: the bytes of a piece (GPT-2 and its successors), or its characters (SentencePiece),
 * are merged pair by pair, lowest rank first, leftmost among equals. Thread: read-only after
 * creation; an encoding has its own scratch.
 */
#ifndef RUNTIME_TEXT_TOK_BPE_H
#define RUNTIME_TEXT_TOK_BPE_H

#include "runtime/text/tok_def.h"
#include "runtime/text/tok_table.h"

struct tok_bpe {
    const struct tok_names *names; /* borrowed */
    struct tok_pairs pairs;
    int32_t byte_id[256]; /* -1: the vocabulary lacks it */
    bool ignore_merges, of_chars;
    struct tok_chars_def chars;
};

struct tok_bpe_work { /* scratch; zeroed at first */
    struct tok_symbol *symbols;
    struct tok_merge *heap;
    int64_t room; /* symbols; the heap has three times as many */
    int64_t heap_count;
};

/* names: of the model's tokens, by their bytes. path is only for messages. */
int tok_bpe_init(struct tok_bpe *m, const struct tok_def *d, const struct tok_names *names,
    const char *path, struct err *e);
void tok_bpe_done(struct tok_bpe *m);
int tok_bpe_encode(const struct tok_bpe *m, struct tok_bpe_work *w, const char *piece, size_t len,
    struct tok_ids *out, struct err *e);
void tok_bpe_work_done(struct tok_bpe_work *w);
/* Appends a token's text, of a BPE of characters as tok_chars_decode has it. */
int tok_bpe_decode(const struct tok_bpe *m, const char *token, size_t len, struct buf *out);
/* Appends the text of a token of characters: marked spaces are spaces, and, where bytes may be
   tokens ("<0xE2>"), these are bytes. */
int tok_chars_decode(bool bytes, const char *token, size_t len, struct buf *out);

#endif
