/*
 * conll: files of labelled words as the shared tasks of CoNLL have them: a word a line, its columns
 * apart by blanks or tabs, the word first, its label last, two to four of them and in a file as
 * many on every line; sentences apart by blank lines; "-DOCSTART-" lines, which part documents, are
 * skipped. What labels mean is not looked at.
 *
 * A reader over text in memory, a word at a time; pure. The text is borrowed and must be UTF-8, and
 * words are pieces of it. Errors are ERR_DATA and name file and line.
 */
#ifndef RUNTIME_DATA_CONLL_H
#define RUNTIME_DATA_CONLL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONLL_WORD_BYTES  4096
#define CONLL_LABEL_BYTES 128
#define CONLL_COLUMNS     4

struct conll {
    const char *path, *at, *end;
    int64_t line; /* of what stands at `at`, from 1 */
    int columns;  /* 0: no word was read */
    bool begun;   /* a sentence */
};

struct conll_word {
    const char *word, *label; /* no NUL ends them */
    int word_bytes, label_bytes;
    int64_t line;
};

enum conll_event { CONLL_END, CONLL_WORD, CONLL_SENTENCE /* the words since the last end here */ };

/* path: for messages; borrowed. */
void conll_begin(struct conll *c, const char *path, const char *text, size_t size);
/* The next event, or -code; *out is set with CONLL_WORD. No sentence is empty, and the last one has
   its event before CONLL_END. */
int conll_next(struct conll *c, struct conll_word *out, struct err *e);

#endif
