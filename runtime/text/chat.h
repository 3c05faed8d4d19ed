/*
 * chat: renders a conversation with the model's own chat template, by an interpreter of what the
 * published templates use of Jinja2: all statements but include, import, extends and block; the
 * filters, tests and methods of strings, lists and maps; raise_exception and strftime_now (UTC).
 * Anything else is ERR_DATA naming the template's line. One rendering has CHAT_UNITS of work,
 * CHAT_RENDER_MS of processor time and 80 MiB: more is refused likewise.
 */
#ifndef RUNTIME_TEXT_CHAT_H
#define RUNTIME_TEXT_CHAT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "api/wire.h"

#include <stdbool.h>

#define CHAT_UNITS     5000000 /* evaluations, and pieces of 64 bytes; a long chat needs a tenth */
#define CHAT_RENDER_MS 1000    /* for machines that take more than 200 ns for a unit */

#define CHAT_SPANS 1024

struct chat_spans { /* bytes [from, to) of a rendering that the assistant says */
    struct chat_span {
        size_t from, to;
    } list[CHAT_SPANS];
    int count;
};

struct chat;
struct weights;

int chat_open(struct weights *w, struct chat **out,
    struct err *e); /* ERR_USER when the model has no template */
/* chat_template.jinja, or tokenizer_config.json's chat_template, of a folder */
int chat_open_folder(const char *folder, struct chat **out, struct err *e);
/* Its text, for the caller to free; NULL: there is none. */
int chat_template_folder(const char *folder, char **out, struct err *e);
int chat_parse(
    const char *template_text, const char *bos, const char *eos, struct chat **out, struct err *e);
void chat_close(struct chat *c);
/* In which form the template has the model call tools, as its text shows. */
enum wire_calls chat_calls(const struct chat *c);
/* messages: [{role, content}, ...] of a client (ERR_USER when malformed) */
int chat_render(struct chat *c, const struct json *messages, bool add_generation_prompt,
    struct buf *out, struct err *e);
/* With tools as a client of OpenAI's has them, a list; NULL: none. */
int chat_render_tools(struct chat *c, const struct json *messages, const struct json *tools,
    bool add_generation_prompt, struct buf *out, struct err *e);
/* Without a prompt; *spans: what stands between {% generation %} and {% endgeneration %}, and is
   not empty. Only of a template that has them. */
int chat_render_marked(struct chat *c, const struct json *messages, struct chat_spans *spans,
    struct buf *out, struct err *e);
bool chat_marks(const struct chat *c);
uint64_t chat_digest(const struct chat *c); /* of all that decides what is rendered */

#endif
