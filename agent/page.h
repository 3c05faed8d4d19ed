/*
 * page: the pages of a served model, at / to talk with it and at /monitor to see what it watches:
 * the files of agent/page/, which are in the program. Who asks may have them, without a key: they
 * tell nothing of the model, and ask the API with the key that their user gives.
 *
 * Every answer forbids the browser what the page does without: anything of another origin, scripts
 * in the text, and HTML made of text (Content-Security-Policy with trusted types).
 */
#ifndef AGENT_PAGE_H
#define AGENT_PAGE_H

#include "base/web.h"

#include <stdbool.h>

/* Answers a request for one of the page's files: compressed where the client takes that, with 304
 * where it has it, with 405 for other methods than GET and HEAD. False, and nothing is answered,
 * for other paths, and for OPTIONS. Needs no body: may run when the head is read. */
bool page_answer(struct web_exchange *x);

#endif
