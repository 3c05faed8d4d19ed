/*
 * labelled: files of texts with a label each, or with any number of labels each. JSONL: an object a
 * line, its members "text" and "label", the latter a string or a whole number, or "labels", a list
 * of strings. CSV and TSV: records as RFC 4180 has them, fields
 * apart by commas or tabs, those in quotes may hold either, line ends and doubled quotes; the first
 * record names the columns, "text" and "label" among them, or "labels", whose names stand apart by
 * "|", and all others have as many fields. Empty lines are skipped. A label may be of two texts,
 * "text" and "text_pair": of all that a file has, then. Files of pairs that match
 * likewise, of "a", "b" and perhaps a "label" that is a number from 0 to 1.
 *
 * A reader over text in memory, a text at a time; the text is borrowed and must be UTF-8. Errors
 * are ERR_DATA and name file and line.
 */
#ifndef RUNTIME_DATA_LABELLED_H
#define RUNTIME_DATA_LABELLED_H

#include "api/jobspec.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define LABELLED_BYTES       (64 << 20) /* of a line or record */
#define LABELLED_LABEL_BYTES 128
#define LABELLED_COLUMNS     256

struct labelled_form { /* what members or columns are called */
    const char *text, *second, *label;
    bool pairs; /* two texts, and perhaps a label that is a number; else a text, perhaps a second
                   one, and a label */
};

struct labelled {
    const char *path, *at, *end;
    int64_t line; /* of what stands at `at`, from 1 */
    const struct labelled_form *form;
    char separator;                   /* of fields; 0: JSONL */
    int columns, text, second, label; /* how many, and which; of a table; -1: none */
    bool several;                     /* the column is "labels" */
    bool met, paired;                 /* of JSONL: a text, and whether it had a second one */
    struct buf row;                   /* the fields of a record that are read */
    struct json *object;              /* of a line */
    char number[24];                  /* a label that is one */
};

struct labelled_text { /* good until the next call */
    const char *text, *label;
    int64_t text_bytes;
    int label_bytes;
    int64_t line;
    bool several;             /* it has any number of labels; label is not one then */
    const struct json *first; /* of a list of them */
    const char *second;       /* text; NULL: there is none */
    int64_t second_bytes;
    double value; /* of pairs that match, which have no label in words; NaN: no label */
};

struct labelled_label { /* zeroes: before the first one */
    const char *name;   /* no NUL ends it */
    int bytes;
    const struct json *item;
};

/* path: for messages; borrowed. format: JSONL, CSV or TSV, or Auto: by the end of path. Whatever it
   returns, labelled_done frees. */
int labelled_begin(struct labelled *l, const char *path, enum data_format format, bool pairs,
    const char *text, size_t size, struct err *e);
/* 1 and *out, 0 at the end, or -code. */
int labelled_next(struct labelled *l, struct labelled_text *out, struct err *e);
void labelled_done(struct labelled *l);
/* The label of a text behind *at, or of several the first one; false: there is none. */
bool labelled_next_label(const struct labelled_text *t, struct labelled_label *at);

#endif
