/*
 * encode: a serving rank whose model reads whole texts (reader.h): takes requests from the inbox,
 * several at once, reads their texts in passes that hold texts of all of them, and sends what is
 * said of each (items.h). Each request in turn gives one text to a pass, so that one of many texts
 * keeps nobody waiting for long; what is found of a text depends on no other.
 */
#ifndef RUNTIME_SERVE_ENCODE_H
#define RUNTIME_SERVE_ENCODE_H

#include "runtime/serve/infer.h"

/* Is this rank's model one? Opens its folder. */
int encode_serves(const struct orders *o, bool *out, struct err *e);
/* infer_run's contract, of such a model, on one rank. */
int encode_run(const struct infer_conf *c, struct err *e);

#endif
