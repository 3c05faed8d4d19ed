/*
 * tok_bert: what a BERT's tokenizer does to a text before it cuts words, and its words as GGUF
 * files have them: U+2581 before a token that begins a word, nothing before one that goes on with
 * it. Pure. Sources: transformers' BertTokenizer; llama.cpp's converter (BertModel) and
 * llama-vocab.cpp (WPM).
 */
#ifndef RUNTIME_TEXT_TOK_BERT_H
#define RUNTIME_TEXT_TOK_BERT_H

#include "runtime/text/tok_def.h"

/* Punctuation is what ASCII or Unicode calls so. */
#define TOK_BERT_PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"
#define TOK_BERT_WORD_LIMIT  100 /* max_input_chars_per_word, where nothing else is said */

struct tok_bert {        /* BertNormalizer's settings that differ; the others are on */
    bool lower, accents; /* accents: they are taken away */
};

/* The steps and stages of a BERT, into a definition that has none; and whether they are such. */
void tok_bert_set(struct tok_def *d, struct tok_bert how);
bool tok_bert_get(const struct tok_def *d, struct tok_bert *out);

/* A vocabulary of a GGUF file as it is written elsewhere, with "##", and its special tokens by
   their ids. d: tokens and kinds are read. */
int tok_bert_gguf(const struct gguf *g, struct arena *a, struct tok_def *d, struct err *e);
/* ERR_DATA: what a GGUF file cannot say of it. */
int tok_bert_check(const struct tok_def *d, const char *path, struct err *e);
/* Token i as a GGUF file has it; NULL: no memory. */
const char *tok_bert_token(const struct tok_def *d, int64_t i, struct arena *a);

#endif
