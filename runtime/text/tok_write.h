/*
 * tok_write: the files of a model's tokenizer and its chat template, for a folder as Hugging Face's
 * libraries read it.
 */
#ifndef RUNTIME_TEXT_TOK_WRITE_H
#define RUNTIME_TEXT_TOK_WRITE_H

#include "runtime/family/weights.h"
#include "runtime/files/gguf_write.h"

/* What the source says goes into the folder, which must be there: of a folder its files, unchanged
   (generation_config.json among them); of a GGUF file tokenizer.json and tokenizer_config.json. c:
   the model that the folder is of. */
int tok_write(
    const char *folder, const struct weights *from, const struct model_config *c, struct err *e);

/* Whether tok_write could. ERR_DATA: a Unigram of a GGUF file that has a table of characters, which
   llama.cpp applies as no tokenizer.json says. */
int tok_write_check(const struct weights *from, struct err *e);

/* A folder's tokenizer and chat template as keys of a GGUF file. ERR_DATA names what those cannot
   say of it: a Unigram, a pre-tokenizer without a name there, a WordPiece that is not BERT's. */
int tok_gguf_write(const struct weights *from, struct gguf_writer *to, struct err *e);

#endif
