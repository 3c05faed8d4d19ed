/*
 * data/internal: a corpus, as the files of this folder share it: data.c has running text and the
 * order of samples, tagged.c sentences with labels. Nobody else includes it.
 */
#ifndef RUNTIME_DATA_INTERNAL_H
#define RUNTIME_DATA_INTERNAL_H

#include "base/io.h"
#include "runtime/data/data.h"
#include "runtime/data/tokens.h"

struct data {
    struct tokens tokens; /* of a corpus that was tokenised into a file; else `ids` */
    struct tok_ids ids;
    int sequence_length;
    int64_t samples;
    int64_t truncated, dropped; /* documents that were cut; that are no samples */
    int64_t *chosen;            /* (samples) which rows are samples; NULL: all */

    /* of tagged sentences */
    struct tok_ids tags; /* beside ids: the label of each, -1: none */
    int64_t *first;      /* (samples + 1) where each sentence begins in ids; NULL: running text */
    int64_t first_capacity;
    uint64_t names; /* a digest */
    int32_t pad;
};

int data_create(int sequence_length, struct data **out, struct err *e);
/* A file's text without its byte order mark. */
void data_skip_mark(const struct io_map *map, const char **text, size_t *size);
/* The same; ERR_DATA: it is empty or no UTF-8. */
int data_text(
    const char *path, const struct io_map *map, const char **text, size_t *size, struct err *e);

#endif
