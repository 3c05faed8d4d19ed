/*
 * openapi: what clients may ask of a serving pod, as an OpenAPI 3.1 document. Requests are the
 * table of openai.h, by which they are also checked: what is taken is what is documented. Pure.
 */
#ifndef AGENT_OPENAPI_H
#define AGENT_OPENAPI_H

#include "agent/openai.h"
#include "base/buf.h"

#include <stdbool.h>

#define OPENAPI_BYTES (1 << 20) /* with LIMIT_ADAPTERS names of 128 bytes in each request */

/* Adds the document to out, whose own state tells of failure. keyed: requests need a key. */
void openapi_write(struct buf *out, const struct openai_conf *conf, bool keyed);

#endif
