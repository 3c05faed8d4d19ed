/*
 * document_internal: how readers of documents write: paragraphs under titles. Spaces and line ends
 * of what is added become one space each; `out` is the state of one document that is written.
 */
#ifndef RUNTIME_RETRIEVAL_DOCUMENT_INTERNAL_H
#define RUNTIME_RETRIEVAL_DOCUMENT_INTERNAL_H

#include "runtime/retrieval/document.h"

#include <stdbool.h>

struct document_out {
    struct document *to;
    struct buf line; /* of the paragraph, that is being put together */
    bool title;      /* it will be one */
};

void document_begin(struct document_out *o, struct document *to);
void document_add(struct document_out *o, const char *text, size_t len);     /* spaces become one */
void document_add_raw(struct document_out *o, const char *text, size_t len); /* as it is */
/* The line ends, and the paragraph goes on with a next one. */
void document_break(struct document_out *o);
/* The paragraph ends: of a title the section begins. Nothing where nothing was added. */
void document_end_paragraph(struct document_out *o);
/* The last one, too. */
int document_finish(struct document_out *o, struct err *e);

void document_html(struct document_out *o, const char *text, size_t len);

#endif
