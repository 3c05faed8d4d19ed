/*
 * chat: renders a conversation with the model's own chat template, a small interpreter of the Jinja
 * subset that the published templates of the supported families use (for, if/elif/else, set,
 * filters trim, length, upper, lower, tojson; string and list methods; loop.*; raise_exception).
 * Anything else is ERR_DATA naming template line.
 */
#ifndef RUNTIME_CHAT_H
#define RUNTIME_CHAT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>

struct chat;
struct weights;

int chat_open(struct weights *w, struct chat **out,
	      struct err *e); /* ERR_DATA when the model has no template */
/* chat_template.jinja, or tokenizer_config.json's chat_template, of a folder */
int chat_open_folder(const char *folder, struct chat **out, struct err *e);
int chat_parse(const char *template_text, const char *bos, const char *eos, struct chat **out,
	       struct err *e);
void chat_close(struct chat *c);
/* messages: [{role, content}, ...] of a client (ERR_USER when malformed) */
int chat_render(struct chat *c, const struct json *messages, bool add_generation_prompt,
		struct buf *out, struct err *e);

#endif
