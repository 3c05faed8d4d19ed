/*
 * wordpiece: a tokenizer of eleven tokens, whose ids are written out by hand: what tests of
 * labelled texts begin with.
 */
#ifndef TESTS_RUNTIME_WORDPIECE_H
#define TESTS_RUNTIME_WORDPIECE_H

#include "runtime/text/tok.h"

/* [PAD] to [MASK], un, ##aff, ##able, runs, paris and a full stop */
enum { PAD, UNK, CLS, SEP, MASK, UN, AFF, ABLE, RUNS, PARIS, DOT };

/* path: of a file of that name in a new folder; wordpiece_end removes it. */
struct tok *wordpiece_begin(const char *name, char path[100]);
void wordpiece_end(struct tok *tok, const char *path);

#endif
