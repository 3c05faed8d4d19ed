/*
 * tok_json_internal: what the files of tok_json share: a tokenizer.json that is being read, and its
 * parts. Each part is checked as it is read; what is not implemented is ERR_DATA that names it.
 */
#ifndef RUNTIME_TEXT_TOK_JSON_INTERNAL_H
#define RUNTIME_TEXT_TOK_JSON_INTERNAL_H

#include "runtime/text/tok_def.h"

struct tok_json {
    const char *path; /* for messages */
    struct arena *a;
    struct tok_def d; /* what has been read; its model is known first */
    bool byte_level;  /* the pre-tokenizer ends in ByteLevel */
};

int tok_json_unsupported(
    const struct tok_json *r, const char *what, const char *value, struct err *e);
int tok_json_no_memory(const struct tok_json *r, struct err *e);
/* An id of the file: whole, and small enough for tables to be sized by it. */
bool tok_json_id(const struct json *v, int32_t *out);

/* -- tok_json_text.c: what happens to text -- */

int tok_json_normalizer(struct tok_json *r, const struct json *v, struct err *e);
int tok_json_pre_tokenizer(struct tok_json *r, const struct json *v, struct err *e);
/* BertTokenizer's normalizer and pre-tokenizer; config: tokenizer_config.json, or NULL. */
int tok_json_bert(struct tok_json *r, const struct json *config, struct err *e);

/* -- tok_json_post.c -- */

int tok_json_post_processor(struct tok_json *r, const struct json *v, struct err *e);

#endif
