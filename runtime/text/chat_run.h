/*
 * chat_run: the state of one rendering, shared by chat_expr.c (expressions) and chat_eval.c
 * (statements and macros). Scopes are linked as Python's are: each turn of a loop and each call of
 * a macro opens one, so what is set inside is gone after it (a namespace() is the way out), and a
 * macro sees the names of where it was defined. All of it lives in the arena.
 */
#ifndef RUNTIME_TEXT_CHAT_RUN_H
#define RUNTIME_TEXT_CHAT_RUN_H

#include "runtime/text/chat_ast.h"

struct chat_run;
struct chat_scope {
    struct chat_scope *outer;
    struct chat_binding {
        const char *name;
        struct chat_value value;
        struct chat_binding *next;
    } * first;
};

struct chat_macro {
    const struct chat_node *node; /* its args are the parameters, b the body */
    struct chat_scope *scope;     /* where it was defined */
    int (*builtin)(struct chat_run *r, const struct chat_args *a, struct chat_value *out);
};

struct chat_run {
    struct chat_work *w;
    const struct chat_map *globals;
    struct buf *out;
    struct chat_scope *scope;
    enum chat_node_kind jump; /* CHAT_BREAK or CHAT_CONTINUE on its way; else 0 */
};

/* namespace, range and the like; NULL when there is none of this name. */
const struct chat_macro *chat_run_builtin(const char *name);
/* Both return w->rc; *out is undefined on failure. */
int chat_run_expression(struct chat_run *r, const struct chat_node *n, struct chat_value *out);
int chat_run_macro(struct chat_run *r, const struct chat_macro *m, const struct chat_args *args,
    const struct chat_value *caller, struct chat_value *out);
/* The values of a call's arguments. */
int chat_run_arguments(struct chat_run *r, const struct chat_node *n, struct chat_args *out);
/* The value of a name; undefined when there is none. */
struct chat_value chat_run_lookup(struct chat_run *r, const char *name);
int chat_run_bind(struct chat_run *r, const char *name, struct chat_value v);
int chat_run_open(struct chat_run *r, struct chat_scope *outer); /* a scope */

#endif
