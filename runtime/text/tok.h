/*
 * tok: a tokenizer, as GGUF files, tokenizer.json and vocab.txt describe them: added and special
 * tokens (tok_added), then a normaliser (tok_steps), a pre-tokenizer by regular expressions
 * (tok_split), a model, BPE (tok_bpe), WordPiece (tok_wordpiece) or Unigram (tok_unigram), and
 * what a post-processor puts around a text. Ids are equal to the reference tokenizer's on any valid
 * UTF-8. Thread: encode is reentrant.
 */
#ifndef RUNTIME_TEXT_TOK_H
#define RUNTIME_TEXT_TOK_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct tok;
struct weights;

int tok_open(struct weights *w, struct tok **out, struct err *e); /* from the model's own files */
void tok_close(struct tok *t);
int32_t tok_vocab(const struct tok *t);
int32_t tok_bos(const struct tok *t);  /* -1: none */
int32_t tok_eos(const struct tok *t);  /* ends a turn; -1: none */
int32_t tok_pad(const struct tok *t);  /* -1: none */
int32_t tok_mask(const struct tok *t); /* stands for a token that is to be told; -1: none */

#define TOK_AFFIX_LIMIT 8
struct tok_affix { /* ids that the post-processor puts before or behind a text */
    int32_t id[TOK_AFFIX_LIMIT];
    int count;
};
const struct tok_affix *tok_prefix(const struct tok *t);
const struct tok_affix *tok_suffix(const struct tok *t);

#define TOK_PAIR_LIMIT (4 * TOK_AFFIX_LIMIT + 2)
enum { TOK_PAIR_FIRST = -1, TOK_PAIR_SECOND = -2 };
struct tok_template { /* what the post-processor makes of two texts */
    struct tok_piece {
        int32_t id, type; /* a token, or TOK_PAIR_*: the text; and the type of its tokens */
    } at[TOK_PAIR_LIMIT];
    int count; /* 0: what it says of them is not read */
};
const struct tok_template *tok_pair_template(const struct tok *t);

struct tok_ids {
    int32_t *id;
    int64_t count, capacity;
};
int tok_ids_add(struct tok_ids *ids, int32_t id, struct err *e);
void tok_ids_done(struct tok_ids *ids);

/* Appends; text is checked: invalid UTF-8 is ERR_DATA with the byte offset. special: names of
   special tokens in the text ("<|im_start|>") become those tokens, otherwise they are plain text;
   added tokens that are not special always count. */
int tok_encode(const struct tok *t, const char *text, int64_t len, bool special,
    struct tok_ids *out, struct err *e);
/* A whole text as transformers' tokenizer(text) has it: special tokens count, and what the
   tokenizer puts before and behind (BOS, EOS) stands there. For training data and completions. */
int tok_encode_document(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e);
/* The same for a text of any length, valid UTF-8, in memory that does not grow with it: each time
   that about `part` bytes (a megabyte is well) are used up, part_fn is told how far, takes the ids
   out of *out and sets its count to 0; what is left at the end stays there. The ids are those of
   the whole: of a text between two added tokens, pieces of the pre-tokenizer that what follows
   cannot change are taken one after another. Where there is no such piece, or a normaliser looks
   at more than a line, the text is taken as far as it goes. After a failure *out is undefined. */
int tok_encode_parts(const struct tok *t, const char *text, int64_t len, size_t part,
    struct tok_ids *out, int (*part_fn)(void *context, const char *at, struct err *e),
    void *context, struct err *e);
/* Two texts as transformers' tokenizer([first], [second]) has them, `most` tokens of both and of
   what is around them, no fewer than tok_pair_around, which is known: *cut, what is beyond was
   left out at the end of the longer text, or of both (truncation "longest_first"). types: beside
   each of ids, which had as many before. */
struct tok_texts {
    const char *text[2];
    int64_t len[2];
    int64_t most;
};
int tok_encode_pair(const struct tok *t, const struct tok_texts *texts, struct tok_ids *ids,
    struct tok_ids *types, bool *cut, struct err *e);
/* Tokens that are put around two texts; -1: it is not known what is. */
int tok_pair_around(const struct tok *t);
/* Appends the ids of one word of a text that was split into words before, as transformers has it
   with is_split_into_words: special tokens count, nothing is put around it. None, when the
   normaliser leaves nothing of the word. */
int tok_encode_word(
    const struct tok *t, const char *word, int64_t len, struct tok_ids *out, struct err *e);
/* For chats: tok_guard appends a client's text so marked that nothing in it is a special token for
   tok_encode_guarded, whatever the template puts around it, and that takes the marks out. */
int tok_guard(const struct tok *t, const char *text, size_t len, struct buf *out);
int tok_encode_guarded(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e);
/* Appends the bytes of one token (may be part of a UTF-8 sequence); of a WordPiece with the space
 * before it, unless *out is empty. A space that the tokenizer put before the text stays.
 * Special tokens give nothing when skip_special. */
int tok_decode(const struct tok *t, int32_t id, bool skip_special, struct buf *out);
bool tok_is_special(const struct tok *t, int32_t id);
/* Does a token show that it goes on with a word ("##ing")? Of tokenizers that mark words so. */
bool tok_marks_words(const struct tok *t);
bool tok_continues(const struct tok *t, int32_t id);
/* Of the definition: the same for the same tokenizer, from whichever of its files it was read. */
uint64_t tok_digest(const struct tok *t);

#endif
