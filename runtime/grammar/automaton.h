/*
 * automaton: which texts there may be, as a pushdown automaton over bytes: nodes that read a byte
 * of a range, fork, call a rule, or return from one. Fragments are built from their end: each
 * function takes the node that follows and gives the one to begin with. No text goes through
 * node 0, so what cannot be needs no care.
 *
 * Bounded by AUTOMATON_NODES; a build that exceeds it goes on with node 0 and fails in
 * automaton_finish, which also finds how deep calls must go from each node to an end: a reader that
 * leaves out nodes beyond AUTOMATON_DEPTH is never stuck.
 */
#ifndef RUNTIME_GRAMMAR_AUTOMATON_H
#define RUNTIME_GRAMMAR_AUTOMATON_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTOMATON_NODES 65536 /* 768 KiB */
#define AUTOMATON_RULES 8192
#define AUTOMATON_DEPTH 100 /* calls at once; a level of JSON takes one or two */
#define AUTOMATON_NEVER 0   /* the node */

enum automaton_kind { AUTOMATON_BYTE, AUTOMATON_FORK, AUTOMATON_CALL, AUTOMATON_RETURN };

struct automaton_node {
    uint8_t kind;
    uint8_t low, high; /* of AUTOMATON_BYTE */
    uint8_t height;    /* calls that are open at once on the best way to the end of its rule; above
                          AUTOMATON_DEPTH: there is none */
    int32_t next;      /* the first of a fork; behind a call */
    int32_t other;     /* the second of a fork; where the called rule begins */
};

struct automaton {
    struct automaton_node *node;
    int32_t count, capacity;
    int32_t *rule; /* where each begins */
    int32_t rules, rule_capacity;
    int32_t start;     /* of finish */
    const char *fault; /* NULL: all is well */
    bool no_memory;
};

void automaton_init(struct automaton *a);
void automaton_done(struct automaton *a);

int32_t automaton_byte(struct automaton *a, int low, int high, int32_t next);
int32_t automaton_text(struct automaton *a, const char *bytes, size_t len, int32_t next);
int32_t automaton_fork(struct automaton *a, int32_t x, int32_t y);
int32_t automaton_return(struct automaton *a);
/* A rule that is called before it is known where it begins; -1: too many. */
int32_t automaton_rule(struct automaton *a);
void automaton_begin(struct automaton *a, int32_t rule, int32_t node);
int32_t automaton_call(struct automaton *a, int32_t rule, int32_t next);
/* A fork whose ways are set later: of loops. */
int32_t automaton_knot(struct automaton *a);
void automaton_tie(struct automaton *a, int32_t knot, int32_t x, int32_t y);
/* From least to most (-1: any number of) calls of a rule. */
int32_t automaton_repeat(
    struct automaton *a, int32_t rule, int64_t least, int64_t most, int32_t next);
/* A code point of low..high as UTF-8; surrogates are left out. */
int32_t automaton_point(struct automaton *a, uint32_t low, uint32_t high, int32_t next);

/* Rule `rule` is the whole. -ERR_USER: too large, or no text is ever whole. */
int automaton_finish(struct automaton *a, int32_t rule, struct err *e);

#endif
