/*
 * chat_ast: what a parsed template is made of and what it works with, shared by chat_parse.c (text
 * -> nodes), chat_eval.c and chat_expr.c (nodes -> text), chat_value.c, chat_text.c and
 * chat_filter.c (values). Everything lives in the arena that the caller gives. Semantics are
 * Jinja2's with trim_blocks, lstrip_blocks and loopcontrols, as transformers renders chat
 * templates.
 */
#ifndef RUNTIME_TEXT_CHAT_AST_H
#define RUNTIME_TEXT_CHAT_AST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/text/chat.h"

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
    CHAT_LOOP, /* the variable "loop" */
    CHAT_MACRO,
};
enum chat_form { CHAT_IS_LIST, CHAT_IS_TUPLE, CHAT_IS_LAZY }; /* of a list; lazy: a generator */

struct chat_map;
struct chat_loop;
struct chat_macro;
struct chat_value {
    enum chat_kind kind;
    enum chat_form form;
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
        struct chat_loop *loop;
        const struct chat_macro *macro;
    };
};
struct chat_map {
    struct chat_pair {
        struct chat_value key; /* a string */
        struct chat_value value;
    } * pairs; /* in order of insertion */
    int64_t count, room;
    bool assignable; /* a namespace() */
};
struct chat_loop {
    const struct chat_value *items;
    int64_t count, i; /* turn i of count, from 0 */
};

enum chat_node_kind {
    /* expressions */
    CHAT_LITERAL, /* value */
    CHAT_NAME,    /* name */
    CHAT_ARRAY,   /* args; value.form: a tuple */
    CHAT_OBJECT,  /* args: key, value, key, value ... */
    CHAT_ATTR,    /* a.name */
    CHAT_ITEM,    /* a[b] */
    CHAT_SLICE,   /* a[b:c:d] */
    CHAT_CALL,    /* a(args) */
    CHAT_METHOD,  /* a.name(args) */
    CHAT_FILTER,  /* a | name(args) */
    CHAT_TEST,    /* a is name(args) */
    CHAT_KEYWORD, /* in args and parameters: name=a */
    CHAT_NOT,     /* not a */
    CHAT_NEGATE,  /* -a */
    CHAT_AND,
    CHAT_OR,
    CHAT_BINARY, /* a op b */
    CHAT_COND,   /* b if a else c */
    /* statements */
    CHAT_TEXT,        /* value */
    CHAT_OUTPUT,      /* {{ a }} */
    CHAT_IF,          /* a: condition, b: body, c: else */
    CHAT_FOR,         /* targets in a if d: b; else c */
    CHAT_SET,         /* targets = a, or name.name2 = a */
    CHAT_SET_BLOCK,   /* targets = the text of b, which a filters when it is there */
    CHAT_PRINT_BLOCK, /* filter and endfilter: the text of b, which a filters */
    CHAT_DEFINE,      /* macro name(args): b */
    CHAT_CALL_BLOCK,  /* call(args) a: b is what caller() gives */
    CHAT_WITH,        /* args: keywords; b */
    CHAT_GENERATION,  /* b: what the assistant says */
    CHAT_BREAK,
    CHAT_CONTINUE,
};
/* The name by which the filters of a block find its text. */
#define CHAT_BLOCK_TEXT ""

enum chat_op {
    CHAT_ADD,
    CHAT_SUBTRACT,
    CHAT_MULTIPLY,
    CHAT_DIVIDE,
    CHAT_FLOOR_DIVIDE,
    CHAT_MODULO,
    CHAT_POWER,
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
    int height; /* of the tree below it, itself included */
    const char *name, *name2;
    struct chat_value value;
    struct chat_node *a, *b, *c, *d;
    struct chat_node *args;    /* first of a list by next */
    struct chat_node *targets; /* likewise, of names */
    struct chat_node *next;    /* the next statement or argument */
};

/* *out: the first statement, NULL for an empty template; *marks: it marks what the assistant says.
   ERR_DATA: "line 3: ...". */
int chat_parse_template(
    const char *text, struct arena *a, struct chat_node **out, bool *marks, struct err *e);

/*
 * What one rendering may use. A unit is one evaluation, or CHAT_UNIT_BYTES copied or looked at; all
 * that does work spends. The first failure stays in rc: whoever makes values need not look at once,
 * for every evaluation does.
 */
#define CHAT_ARENA      ((size_t)64 << 20) /* bytes of values, of which none is given back */
#define CHAT_TEXT_BYTES ((size_t)16 << 20) /* of one text while it is made */
#define CHAT_UNIT_BYTES 64
#define CHAT_DEPTH      1000 /* evaluations and values inside one another: under 2 MiB of stack */
struct chat_work {
    struct arena *a;
    struct err *e;
    int rc;
    int line;                 /* being evaluated; 0: none yet */
    int depth;                /* see CHAT_DEPTH */
    int64_t units;            /* left */
    int64_t look_at;          /* at so many left the thread's clock is looked at */
    int64_t until_ms;         /* of clock_thread_ms */
    struct chat_spans *spans; /* where in the text the assistant speaks; NULL: nobody asks */
    const struct buf *text;   /* of the rendering itself, not of a block that is captured */
};
int chat_spend(struct chat_work *w, int64_t units);
int chat_spend_bytes(struct chat_work *w, size_t bytes);
int chat_enter(struct chat_work *w); /* one deeper, undone by w->depth-- even when it fails */
void *chat_alloc(struct chat_work *w, size_t count, size_t size); /* zeroed; NULL: see rc */
/* Fails with "line 3: text" (ERR_DATA); keeps an earlier failure. Returns rc. */
int chat_fail(struct chat_work *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Runs a template; globals is the outermost scope. ERR_DATA with the line for what the template
   does wrong or what it costs too much, ERR_USER for what it raises. */
int chat_eval(const struct chat_node *program, const struct chat_map *globals, struct chat_work *w,
    struct buf *out);

/* -- values: constructors return CHAT_UNDEFINED when they fail, and w->rc says why -- */
struct chat_value chat_string(struct chat_work *w, const char *s, size_t len); /* copies */
struct chat_value chat_take(struct chat_work *w, struct buf *text);            /* ends the buffer */
struct chat_value chat_constant(const char *s);                                /* borrows */
struct chat_value chat_int(int64_t i);
struct chat_value chat_float(double d);
struct chat_value chat_bool(bool b);
struct chat_value chat_none(void);
struct chat_value chat_list(struct chat_work *w, int64_t count); /* of undefined items */
struct chat_value chat_new_map(struct chat_work *w);
struct chat_value chat_from_json(struct chat_work *w, const struct json *v);
int chat_map_put(
    struct chat_work *w, struct chat_map *m, const struct chat_value *key, struct chat_value v);
const struct chat_value *chat_map_get(
    struct chat_work *w, const struct chat_map *m, const char *key, size_t len); /* or NULL */

const char *chat_kind_name(enum chat_kind k); /* "an integer" */
bool chat_truthy(const struct chat_value *v);
bool chat_number(const struct chat_value *v, double *out); /* integers, floats, booleans */
bool chat_equal(struct chat_work *w, const struct chat_value *x, const struct chat_value *y);
/* < 0, 0, > 0 of numbers, strings, or lists of such. */
int chat_order(struct chat_work *w, const struct chat_value *x, const struct chat_value *y);
bool chat_contains(struct chat_work *w, const struct chat_value *in, const struct chat_value *x);
/* Code points, items, pairs; -1: it has none. */
int64_t chat_length(struct chat_work *w, const struct chat_value *v);
/* Bytes of code points [from, from + count) of a string. */
struct chat_value chat_substring(
    struct chat_work *w, const struct chat_value *v, int64_t from, int64_t count);
/* x.name and x[index]: undefined when there is none. */
void chat_item(struct chat_work *w, const struct chat_value *of, const struct chat_value *index,
    struct chat_value *out);
/* What a loop or a filter runs over: items, characters, keys; nothing of an undefined value. */
int chat_items(struct chat_work *w, const struct chat_value *v, struct chat_value *out);
struct chat_value chat_keys(struct chat_work *w, const struct chat_map *m);

void chat_print(struct chat_work *w, const struct chat_value *v, struct buf *out); /* as {{ }} */
struct chat_json_style {
    int indent; /* -1: one line */
    bool ascii, sorted;
    const char *comma, *colon;
};
void chat_to_json(struct chat_work *w, const struct chat_value *v, const struct chat_json_style *s,
    struct buf *out);

enum chat_kinds { /* sets of kinds: a bit each */
    OF_STRING = 1 << CHAT_STRING,
    OF_LIST = 1 << CHAT_LIST,
    OF_MAP = 1 << CHAT_MAP,
    OF_ITEMS = OF_STRING | OF_LIST | OF_MAP | 1 << CHAT_UNDEFINED,
    OF_ANY = 0xffff
};

/* A call's arguments: positional ones first, whose name is NULL. */
struct chat_args {
    struct chat_value *values;
    const char **names;
    bool *used; /* set by chat_arg */
    int count, positional;
};
/* Filters, tests and methods of values. */
struct chat_call {
    struct chat_work *w;
    const char *name;
    const struct chat_value *self;
    const struct chat_args *args;
    bool method; /* "x".name(), else x | name */
};
/* The argument at this position or of this name, or NULL. */
const struct chat_value *chat_arg(const struct chat_call *c, int position, const char *name);
int64_t chat_arg_int(const struct chat_call *c, int position, const char *name, int64_t absent);
bool chat_arg_bool(const struct chat_call *c, int position, const char *name, bool absent);
/* absent NULL: must be there. NULL when it is no string; w->rc says so. */
const struct chat_value *chat_arg_text(
    const struct chat_call *c, int position, const char *name, const struct chat_value *absent);
int chat_misused(const struct chat_call *c); /* "split of a list with these arguments ..." */
int chat_apply(const struct chat_call *c, struct chat_value *out);
int chat_test(const struct chat_call *c, bool *out);

/* Methods and filters of strings, in a table that chat_apply looks through. */
struct chat_function {
    const char *name;
    int as, of; /* CHAT_AS_..., bits of kinds */
    int (*run)(const struct chat_call *c, struct chat_value *out);
};
enum { CHAT_AS_FILTER = 1, CHAT_AS_METHOD = 2, CHAT_AS_BOTH = 3 };
extern const struct chat_function chat_text_functions[]; /* ends with a NULL name */
bool chat_text_is_case(const struct chat_value *v, bool upper);

#endif
