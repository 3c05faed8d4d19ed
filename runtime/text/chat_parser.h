/*
 * chat_parser: the parser's state, shared by chat_lex.c (tokens inside a template's tags),
 * chat_parse.c (expressions) and chat_block.c (text and statements). The first failure stays in rc,
 * and from then on every token is the tag's end. Names and strings are copied into the arena.
 */
#ifndef RUNTIME_TEXT_CHAT_PARSER_H
#define RUNTIME_TEXT_CHAT_PARSER_H

#include "runtime/text/chat_ast.h"

#define CHAT_LEX_DEPTH  200 /* tags, brackets and operators inside one another */
#define CHAT_TREE_LIMIT 400 /* height of what is evaluated: 1+1+1... is as deep as it is long */

enum chat_token_kind {
    CHAT_TOKEN_END,
    CHAT_TOKEN_NAME,
    CHAT_TOKEN_STRING,
    CHAT_TOKEN_INT,
    CHAT_TOKEN_FLOAT,
    CHAT_TOKEN_OP,
};

struct chat_token {
    enum chat_token_kind kind;
    int line;
    struct chat_value v; /* a name's or string's text, a number */
    char op[3];
};

struct chat_parser {
    const char *p; /* rest of the template */
    int line, depth;
    int loops;                   /* open ones, which break and continue need */
    int braces;                  /* open in this tag: "}}" ends it only when none is */
    const char *close;           /* the tag's end: "%}" or "}}" */
    bool trim_newline, strip;    /* what the last tag asks of the text that follows */
    bool after_tag, line_starts; /* a tag has just ended; the text begins a line */
    bool marks;                  /* {% generation %} was there */
    struct chat_token t;         /* look-ahead inside a tag */
    struct arena *a;
    struct err *e;
    int rc;
};

/* detail may be NULL. Returns rc. */
int chat_lex_fail(struct chat_parser *p, int line, const char *what, const char *detail);
const char *chat_lex_copy(struct chat_parser *p, const char *s, size_t len);
/* The next token of the tag; at its end the tag's whitespace wishes are noted. */
void chat_lex_advance(struct chat_parser *p);
bool chat_lex_is_op(const struct chat_parser *p, const char *op);
bool chat_lex_is_word(const struct chat_parser *p, const char *word);
bool chat_lex_op(struct chat_parser *p, const char *op); /* takes it when it is next */
bool chat_lex_word(struct chat_parser *p, const char *word);
void chat_lex_expect(struct chat_parser *p, const char *op);
void chat_lex_expect_end(struct chat_parser *p);
const char *chat_lex_name(struct chat_parser *p); /* "" and a failure when no name is next */
/* One deeper, undone by p->depth-- even when it fails. */
int chat_lex_enter(struct chat_parser *p);

/* -- of chat_parse.c -- */
struct chat_node *chat_parse_node(struct chat_parser *p, enum chat_node_kind kind, int line);
/* Returns child, having counted the height of n above it. */
struct chat_node *chat_parse_under(
    struct chat_parser *p, struct chat_node *n, struct chat_node *child);
struct chat_node *chat_parse_expression(struct chat_parser *p);
/* One, or a tuple of several. with_if: "a if b" is taken too. */
struct chat_node *chat_parse_tuple(struct chat_parser *p, bool with_if);
/* After the opening bracket, the closing one included; into n->args. */
void chat_parse_arguments(struct chat_parser *p, struct chat_node *n, const char *close);
/* Filters that follow n, "|" or the first name without it included. */
struct chat_node *chat_parse_filters(struct chat_parser *p, struct chat_node *n);
struct chat_node *chat_parse_filter(struct chat_parser *p, struct chat_node *n);

#endif
