/*
 * chat_ast: what a parsed template is made of, shared by chat_parse.c (text -> nodes), chat_eval.c
 * and chat_value.c (nodes -> text). Everything lives in the arena that the caller gives. Semantics
 * are Jinja2's with trim_blocks and lstrip_blocks, as transformers renders chat templates.
 */
#ifndef RUNTIME_CHAT_AST_H
#define RUNTIME_CHAT_AST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chat_kind {
	CHAT_UNDEFINED,
	CHAT_NONE,
	CHAT_BOOL,
	CHAT_INT,
	CHAT_FLOAT,
	CHAT_STRING, /* UTF-8, NUL-terminated */
	CHAT_LIST,
	CHAT_MAP,
};

struct chat_map;
struct chat_value {
	enum chat_kind kind;
	union {
		bool b;
		int64_t i;
		double d;
		struct {
			const char *s;
			size_t len;
		};
		struct {
			struct chat_value *items;
			int64_t count;
		};
		struct chat_map *map;
	};
};
struct chat_map {
	struct chat_pair {
		const char *key;
		struct chat_value value;
	} * pairs; /* in order of insertion */
	int64_t count, room;
	bool assignable; /* a namespace() */
};

enum chat_node_kind {
	/* expressions */
	CHAT_LITERAL, /* value */
	CHAT_NAME,    /* name */
	CHAT_ARRAY,   /* args */
	CHAT_OBJECT,  /* args: key, value, key, value ... */
	CHAT_ATTR,    /* a.name */
	CHAT_ITEM,    /* a[b] */
	CHAT_SLICE,   /* a[b:c:d] */
	CHAT_CALL,    /* name(args), or a.name(args) */
	CHAT_FILTER,  /* a | name(args) */
	CHAT_TEST,    /* a is name(args) */
	CHAT_KEYWORD, /* in args: name=a */
	CHAT_NOT,     /* not a */
	CHAT_NEGATE,  /* -a */
	CHAT_AND,
	CHAT_OR,
	CHAT_BINARY, /* a op b */
	CHAT_COND,   /* b if a else c */
	/* statements */
	CHAT_TEXT,   /* value */
	CHAT_OUTPUT, /* {{ a }} */
	CHAT_IF,     /* a: condition, b: body, c: else */
	CHAT_FOR,    /* name[, name2] in a if d: b; else c */
	CHAT_SET,    /* name[.name2] = a */
};

enum chat_op {
	CHAT_ADD,
	CHAT_SUBTRACT,
	CHAT_MULTIPLY,
	CHAT_DIVIDE,
	CHAT_FLOOR_DIVIDE,
	CHAT_MODULO,
	CHAT_CONCAT,
	CHAT_EQUAL,
	CHAT_NOT_EQUAL,
	CHAT_LESS,
	CHAT_LESS_EQUAL,
	CHAT_GREATER,
	CHAT_GREATER_EQUAL,
	CHAT_IN,
	CHAT_NOT_IN,
};

struct chat_node {
	enum chat_node_kind kind;
	enum chat_op op;
	int line;
	const char *name, *name2;
	struct chat_value value;
	struct chat_node *a, *b, *c, *d;
	struct chat_node *args; /* first of a list by next */
	struct chat_node *next; /* the next statement or argument */
};

/* *out: the first statement, NULL for an empty template. ERR_DATA: "line 3: ...". */
int chat_parse_template(const char *text, struct arena *a, struct chat_node **out, struct err *e);

/* Runs a template; globals is the outermost scope. ERR_DATA with the line for what the template
   does wrong, ERR_USER for what it raises. */
int chat_eval(const struct chat_node *program, const struct chat_map *globals, struct arena *a,
	      struct buf *out, struct err *e);

/* -- values: constructors return CHAT_UNDEFINED only when the arena is full -- */
struct chat_value chat_string(struct arena *a, const char *s, size_t len); /* copies */
struct chat_value chat_int(int64_t i);
struct chat_value chat_bool(bool b);
struct chat_value chat_none(void);
struct chat_value chat_list(struct arena *a, int64_t count); /* of undefined items */
struct chat_value chat_new_map(struct arena *a);
struct chat_value chat_from_json(struct arena *a, const struct json *v);
int chat_map_put(struct arena *a, struct chat_map *m, const char *key, struct chat_value v);
const struct chat_value *chat_map_get(const struct chat_map *m, const char *key); /* or NULL */

const char *chat_kind_name(enum chat_kind k);
bool chat_truthy(const struct chat_value *v);
bool chat_equal(const struct chat_value *x, const struct chat_value *y);
int64_t chat_length(const struct chat_value *v); /* code points, items, pairs; -1: has none */
int chat_print(const struct chat_value *v,
	       struct buf *out); /* as {{ }} shows it; -ERR_DATA: a list or map */
void chat_to_json(const struct chat_value *v, struct buf *out);

/* Filters, tests and methods of values; ERR_DATA names what is not supported, the caller adds the
 * line. */
struct chat_call {
	struct arena *a;
	const char *name;
	const struct chat_value *self;
	const struct chat_value *args;
	int count;
	bool method; /* "x".name(), else x | name */
};
int chat_apply(const struct chat_call *c, struct chat_value *out, struct err *e);
int chat_test(const struct chat_call *c, bool *out, struct err *e);

#endif
