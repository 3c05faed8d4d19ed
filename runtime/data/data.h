/*
 * data: a corpus as training samples, of running text or of tagged sentences, in an order that does
 * not depend on the world.
 *
 * Running text is tokenised once, into a file (runtime/data/corpus.h), and cut into samples of
 * sequence_length + 1 tokens with stride sequence_length (the last partial one is dropped). Sample
 * k of epoch e is permutation(seed, e)[k], a pure function; the data position is one number:
 * samples consumed since the start. Of conversations, or prompts with their completions, one is a
 * sample, or as many as fit. For MaskedLM a sample is the next sequence_length tokens of it, those
 * around it included that the tokenizer puts around a text, some of them hidden.
 *
 * Tagged sentences (runtime/data/conll.h): a sample is a sentence, word by word through the
 * tokenizer. Texts with a label each (runtime/data/labelled.h): a sample is a text, or two that
 * are one sequence, whose first token has the label. Pairs that match likewise: a sample is two
 * sequences.
 */
#ifndef RUNTIME_DATA_DATA_H
#define RUNTIME_DATA_DATA_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/text/tok.h"

#include <stdbool.h>

#include <stdint.h>

struct data;

/* tokens: a file that corpus_tokenize made of path, which is for messages. packed: a sample has as
 * many documents as fit (runtime/data/packing.h). ERR_DATA: it has fewer than one sample needs;
 * ERR_USER: running text is to be packed. */
int data_open(const char *path, const char *tokens, int sequence_length, bool packed,
    struct data **out, struct err *e);
/* Of preferences (runtime/data/pair.h): a sample is two rows, and where one of them has nothing
 * left to learn there is none. */
int data_open_pairs(
    const char *path, const char *tokens, int sequence_length, struct data **out, struct err *e);
/* A corpus given as ids, for tests and synthetic runs; ids are copied. */
int data_from_ids(
    const int32_t *ids, int64_t count, int sequence_length, struct data **out, struct err *e);
void data_close(struct data *d);
int64_t data_samples(const struct data *d); /* of one epoch */
int64_t data_tokens(const struct data *d);
/* Of every token, and of every label: format, tokenizer and the labels' names count too. */
uint64_t data_digest(const struct data *d);

/* How many of the last samples are kept for a validation loss where no file is given for it: one of
 * fifty, but four at least, and never more than a tenth: none of fewer than ten. Pure. */
int64_t data_held_out(int64_t samples);
/* The sample (0 .. samples-1) that stands at `position` samples since the start of training.
   Pure. */
int64_t data_sample_at(int64_t samples, uint64_t seed, int64_t position);
/* Inputs and targets (room each, no less than the sample's length): targets are inputs shifted by
 * one, -1 where nothing is learnt. Running text has sequence_length of either, all learnt; of a
 * document in a row of its own there is what it has, padded. *length: inputs, padding not
 * counted. */
void data_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *length);
/* Of a packed corpus: where the document of each token begins, what is padding as one more
 * (struct pass_input's first). */
void data_first(const struct data *d, int64_t sample, int64_t room, int32_t *first);
/* Of pairs: two rows, the better answer's first, of room each; lengths (2). What data_length says
 * is of both rows together. */
void data_pair_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *lengths);
int64_t data_pair_longest(const struct data *d, int64_t sample); /* of its rows */
bool data_packed(const struct data *d);
int64_t data_length(const struct data *d, int64_t sample);
int64_t data_learnt(const struct data *d, int64_t sample); /* targets; at least one */
/* Documents in rows of their own that are longer than a sample and were cut; and those of which
 * nothing that is learnt was left, which are no samples. */
int64_t data_truncated(const struct data *d);
int64_t data_dropped(const struct data *d);

/* -- what has hidden tokens -- */

struct data_masking {
    double share;    /* of the tokens that are to be told, in (0, 1) */
    bool whole_word; /* all tokens of a word or none */
    uint64_t seed;
};
/* Running text of a file of tokens, as data_open has it. The tokenizer is borrowed until
 * data_close. ERR_USER: it has no mask, or marks no words where that is asked for; or the corpus is
 * of documents with rows of their own. */
int data_open_masked(const char *path, const char *tokens, int sequence_length, const struct tok *t,
    const struct data_masking *m, struct data **out, struct err *e);
/* Which tokens are hidden is drawn anew for each value of `draw`, whose sample is draw modulo
 * data_samples: what is hidden depends on it and on the seed alone. Of all words, or tokens, but
 * special ones a share is chosen, at least one; of ten chosen tokens eight become the mask, one any
 * token, one stays (Devlin et al., arXiv:1810.04805, 3.1). inputs, targets (room each, no less than
 * sequence_length): a target is what a chosen token was, -1 elsewhere. */
void data_masked_sample(const struct data *d, int64_t draw, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *length);
int64_t data_masked_told(const struct data *d, int64_t draw); /* targets; at least one */

/* -- what has labels -- */

#define DATA_LABELS 1024 /* of a file, at most */

enum data_scheme {        /* of the labels of words, but for O */
    DATA_SCHEME_OPEN,     /* there are none */
    DATA_SCHEME_ENTITIES, /* of IOB, IOB2 and BIOES: one of B-, I-, E-, S- and a type of entity */
    DATA_SCHEME_PLAIN,    /* none is such */
};
enum data_texts { /* that one label, or set of them, is of */
    DATA_TEXTS_OPEN,
    DATA_TEXTS_SINGLE,
    DATA_TEXTS_PAIRED, /* "text" and "text_pair" */
};
enum data_arity { /* of the labels of texts */
    DATA_ARITY_OPEN,
    DATA_ARITY_ONE,
    DATA_ARITY_SEVERAL, /* of each text any number */
};
struct data_labels { /* zeroes: none yet */
    char **names;    /* sorted bytewise; a label is its index, once all files are learnt */
    int count, capacity;
    enum data_scheme scheme;
    enum data_arity arity;
    enum data_texts texts;
};
/* Adds the names that a file has, the training file's first: one alone is ERR_DATA, and so are
 * labels of words of both schemes, texts of both arities, and single texts beside pairs. What was
 * added before a failure stays. */
int data_labels_learn_words(struct data_labels *l, const char *path, struct err *e); /* CoNLL */
/* JSONL, CSV or TSV; Auto: by the end of path. */
int data_labels_learn_texts(
    struct data_labels *l, const char *path, enum data_format format, struct err *e);
/* Those that a model has, of words or of texts, both schemes together being plain. ERR_DATA: one
 * stands there twice, or there are too many. */
int data_labels_of(
    struct data_labels *l, const char *const *names, int count, bool words, struct err *e);
uint64_t data_labels_digest(const struct data_labels *l); /* of the names */
void data_labels_done(struct data_labels *l);

/* A CoNLL file, each of whose labels is among those. A sentence of no token at all is no sample;
 * ERR_USER: the sequence length has no room for a token between those that stand around a text. */
int data_open_tagged(const char *path, const struct tok *t, int sequence_length,
    const struct data_labels *labels, struct data **out, struct err *e);
/* Texts with labels, likewise, or pairs of texts, each of which is one sequence
 * (tok_encode_pair). */
int data_open_texts(const char *path, enum data_format format, const struct tok *t,
    int sequence_length, const struct data_labels *labels, struct data **out, struct err *e);
int64_t data_tagged_truncated(const struct data *d); /* sentences or texts that were cut */
/* What the tokenizer puts before a text; of each word its tokens, the first with its label and the
 * others with -1, as many as fit; what the tokenizer puts behind. Of a text its tokens
 * likewise, the first of all with its label. The rest of both (room, no less than the tokens) is
 * padded. *length: tokens, padding not counted. Of texts with several labels each, labels has one
 * number for each label there is: 1 where the text has it, else 0. */
void data_tagged_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *labels, int32_t *length);
int64_t data_tagged_length(const struct data *d, int64_t sample);
/* Of pairs of texts: the type of each token, 0 for padding (struct pass_input's types). */
bool data_paired(const struct data *d);
void data_tagged_types(const struct data *d, int64_t sample, int64_t room, int32_t *types);
/* Labels that count, at least one; all that there are where texts have several. */
int64_t data_tagged_labels(const struct data *d, int64_t sample);

/* -- pairs of texts that match -- */

/* JSONL, CSV or TSV; Auto: by the end of path. ERR_DATA also where some pairs have a label and
 * others none. A text that is too long is cut and counted (data_tagged_truncated). */
int data_open_matches(const char *path, enum data_format format, const struct tok *t,
    int sequence_length, struct data **out, struct err *e);
bool data_match_labelled(const struct data *d);
float data_match_label(const struct data *d, int64_t pair); /* 0 to 1; of what has labels */
/* Of text 2 * pair, a pair's first, or 2 * pair + 1, its second: tokens, padded up to room, which
 * is no less than there are; and the first text of the file that has the same ones. */
void data_match_text(
    const struct data *d, int64_t text, int64_t room, int32_t *inputs, int32_t *length);
int64_t data_match_length(const struct data *d, int64_t text);
int32_t data_match_same(const struct data *d, int64_t text);
int64_t data_match_tokens(const struct data *d, int64_t pair); /* of both */
int64_t data_match_one(const struct data *d, int64_t pair);    /* 1: a pair has one loss */

/* Which positions of a step's global batch belong to this rank: [*first, *first + *count),
   contiguous, sizes differ by at most one, union over ranks = [0, batch). Pure. */
void data_share(int64_t batch, int world, int rank, int64_t *first, int64_t *count);

#endif
