/*
 * data/internal: a corpus, as the files of this folder share it: data.c has running text and the
 * order of samples, masked.c running text with hidden tokens, labels.c names, tagged.c sentences,
 * texts.c the reading of labelled texts, and such texts, matches.c pairs of texts. Nobody else
 * includes it.
 */
#ifndef RUNTIME_DATA_INTERNAL_H
#define RUNTIME_DATA_INTERNAL_H

#include "base/io.h"
#include "runtime/data/data.h"
#include "runtime/data/labelled.h"
#include "runtime/data/packing.h"
#include "runtime/data/tokens.h"

#include <stdbool.h>

struct masks { /* of running text whose tokens are hidden */
    uint64_t seed;
    uint64_t limit; /* a word is chosen where what is drawn for it is below; of 2^32 */
    int32_t mask, vocab;
    const struct tok_affix *prefix, *suffix; /* the tokenizer's */
    int64_t from;                            /* the first sample begins at this id */
    uint8_t *kinds;                          /* (vocab), of enum masks_kind */
};

struct data {
    struct tokens tokens; /* of a corpus that was tokenised into a file; else `ids` */
    struct tok_ids ids;
    int sequence_length;
    int64_t samples;
    int64_t truncated, dropped; /* documents that were cut; that are no samples */
    int64_t *chosen;            /* (samples) which rows are samples; NULL: all */
    bool packed;
    bool pairs; /* rows 2k and 2k + 1 are pair k, which `chosen` counts in */
    struct packing packing;
    struct masks *masks; /* NULL: none are hidden */

    /* of tagged sentences */
    struct tok_ids tags;  /* beside ids: the label of each, -1: none */
    struct tok_ids types; /* beside ids: the type of each, of pairs with a label; else none */
    int64_t *first;       /* (samples + 1) where each sentence begins in ids; NULL: running text */
    int64_t first_capacity;
    struct tok_ids sets;        /* of texts with several labels, of each set_words of 32 bits */
    int set_words, label_count; /* 0: of each one label */
    uint64_t names;             /* a digest */
    int32_t pad;

    /* of pairs that match, twice as many as samples: first has them all, tags a label a pair */
    int32_t *same; /* (2 * samples) the first text that is the same; NULL: no pairs */
};

int data_create(int sequence_length, struct data **out, struct err *e);
void data_masks_destroy(struct masks *m);
/* A file's text without its byte order mark. */
void data_skip_mark(const struct io_map *map, const char **text, size_t *size);
/* A file's text without its mark, mapped; ERR_DATA: it is empty or no UTF-8. */
struct data_text {
    struct io_map map;
    const char *at;
    size_t size;
};
#define data_text_auto __attribute__((cleanup(data_text_done)))
int data_text_open(const char *path, struct data_text *out, struct err *e);
void data_text_done(struct data_text *t); /* of zeroes, too */
/* What is done with each text of a file, or pair of texts, in their order. */
typedef int data_labelled_fn(void *user, const struct labelled_text *t, struct err *e);
int data_labelled_each(const char *path, enum data_format format, bool pairs,
    data_labelled_fn *each, void *user, struct err *e);

/* A corpus of what has labels; ERR_USER where a sequence has no room for a token. */
int data_create_tagged(int sequence_length, const struct tok *t, struct data **out, struct err *e);
/* A sample that begins at ids[first]; d->samples is the caller's to count, with first[samples]. */
int data_begin_sample(struct data *d, int64_t first, struct err *e);
/* A text that begins at ids[first] becomes as long as a sequence may be; what the tokenizer puts
   behind a text stays. */
int data_cut_text(struct data *d, const struct tok *t, int64_t first, struct err *e);
/* The ids behind the last one that has its place among the tags get theirs: the first `tag`, the
   others -1. */
int data_add_tags(struct data *d, int32_t tag, struct err *e);
/* When all is read. */
void data_seal_tagged(struct data *d, const struct data_labels *labels, const struct tok *t);
/* Where the label stands, or where it belongs; no NUL ends name. */
bool data_labels_find(const struct data_labels *l, const char *name, int bytes, int *at);

#endif
