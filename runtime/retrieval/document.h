/*
 * document: a file that people wrote, as plain text in sections. Each section begins with its
 * title, a paragraph of its own, but the first one, which may have none; between paragraphs stands
 * an empty line, and no paragraph is broken into lines but where the file means them (lists, code).
 * What is read is by the ending of a name: .txt, .md, .html, .jsonl (a member "text" a line, and
 * "title"). Pure: text in, text out.
 */
#ifndef RUNTIME_RETRIEVAL_DOCUMENT_H
#define RUNTIME_RETRIEVAL_DOCUMENT_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>

enum document_kind {
    DOCUMENT_NONE, /* none that is read */
    DOCUMENT_TEXT, /* underlined headings are titles */
    DOCUMENT_MARKDOWN,
    DOCUMENT_HTML,
    DOCUMENT_JSONL
};
enum document_kind document_kind_of(const char *name);

struct document_section {
    size_t from, to; /* of the text; to: without the empty lines behind it */
    size_t title;    /* bytes of its title, at from; 0: it has none */
};

struct document {
    struct buf text; /* UTF-8 */
    struct document_section *sections;
    size_t count, capacity;
};

#define DOCUMENT_BYTES ((size_t)4 << 20) /* of a file and of its text, at most */
#define DOCUMENT_TITLE 200               /* bytes of a title, at most: the rest is left out */
#define DOCUMENT_TAG   ((size_t)1 << 20) /* of one of HTML, a picture in it: it ends there */

/* In time that grows with the size alone, whatever does not end in it. ERR_DATA: it is no UTF-8,
   too large, or a line of .jsonl has no text. *out is to be done with either way. */
int document_read(
    enum document_kind kind, const char *bytes, size_t size, struct document *out, struct err *e);
void document_done(struct document *d);

#endif
