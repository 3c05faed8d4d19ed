/*
 * corpus: from a user's text to a file of tokens (runtime/data/tokens.h), or to one that was made
 * of the same content by the same tokenizer before. Memory does not grow with the corpus.
 *
 * Text: the whole file is one document. JSONL: one document a line: running text of field "text",
 * or, each a row of its own, what runtime/data/dialogue.h makes of "messages" or of "prompt" and
 * "completion"; one of the three in a corpus. Of preferences (runtime/data/pair.h) a line is two
 * rows, the better answer's first, and there is no other record. Running text is what
 * tok_encode_document makes of it, in JSONL followed by eos unless it ends with one. Auto goes by
 * the end of the file's name and refuses those it does not know. Invalid UTF-8 or JSON, or an empty
 * file: ERR_DATA naming file and line.
 */
#ifndef RUNTIME_DATA_CORPUS_H
#define RUNTIME_DATA_CORPUS_H

#include "api/jobspec.h"
#include "runtime/data/tokens.h"
#include "runtime/text/chat.h"
#include "runtime/text/tok.h"

struct corpus {
    const char *path;
    enum data_format format;
    const struct tok *tok;
    struct chat *chat;         /* NULL: the model has no template, because of ... */
    const struct err *no_chat; /* ... this, whose class is that of records that need one */
    bool pairs;                /* of preferences */
    int64_t skip;              /* bad records of JSONL that may be left out */
    const char *folder;        /* of files of tokens */
    struct tokens_progress progress;
};

/* *key: of the file, which then stands in the folder and is whole. */
int corpus_tokenize(const struct corpus *c, uint64_t *key, struct err *e);

#endif
