/*
 * internal: a schema while it is compiled. What must hold of a value at once (a schema, what it
 * refers to, what stands in its allOf, a branch that was chosen) is a view: a list of schema
 * objects; a function for each keyword looks at all of them.
 */
#ifndef RUNTIME_GRAMMAR_INTERNAL_H
#define RUNTIME_GRAMMAR_INTERNAL_H

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/grammar/automaton.h"
#include "runtime/grammar/schema.h"

#define VIEW_PARTS 16

struct schema_place { /* in the client's schema, in the compiler's arena */
    const struct schema_place *up;
    const char *key; /* NULL: index */
    int index;
};

struct schema_part {
    const struct json *schema; /* an object */
    const struct schema_place *place;
};

struct schema_view {
    struct schema_part part[VIEW_PARTS];
    int count;
    struct schema_part choice[VIEW_PARTS]; /* the lists of anyOf and oneOf of its parts */
    bool one[VIEW_PARTS];                  /* which of them are oneOf */
    int choices;
    bool never; /* nothing satisfies it */
};

struct compiler {
    struct automaton *a;
    struct arena *arena;
    const struct json *root;
    struct schema_place top;
    int32_t any_char, key_char, any_value, space; /* rules; -1: not made yet */
    struct memo {
        const struct json *schema;
        int32_t rule;
    } * memo;
    int memos;
    int depth, work;
    char *path;
    struct err *e;
    int rc;
};

enum schema_type { /* bits */
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_WHOLE = 4,
    TYPE_FRACTION = 8, /* a number that is not whole */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};

/* Refuses the schema, unless it is already; AUTOMATON_NEVER. */
int32_t compiler_refuse(struct compiler *c, const struct schema_place *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int32_t compiler_no_memory(struct compiler *c);
const struct schema_place *compiler_place(
    struct compiler *c, const struct schema_place *up, const char *key, int index);

/* Adds a schema, with what it refers to and its allOf. */
void view_add(struct compiler *c, struct schema_view *v, const struct json *schema,
    const struct schema_place *at);
/* The part that has the keyword, or NULL; `from`: the first to look at. */
const struct schema_part *view_find(const struct schema_view *v, const char *key, int from);
unsigned view_types(struct compiler *c, const struct schema_view *v); /* that `type` allows */
/* The greatest (or least) of the keyword's numbers; false: none has it. */
bool view_number(
    struct compiler *c, const struct schema_view *v, const char *key, bool greatest, double *out);
int64_t view_count(
    struct compiler *c, const struct schema_view *v, const char *key, bool greatest, int64_t none);
/* The rule of a schema; the same for the same one. */
int32_t compiler_rule(struct compiler *c, const struct json *schema, const struct schema_place *at);
int32_t compiler_any(struct compiler *c); /* the rule of any value */
int32_t compiler_space(struct compiler *c, int32_t next);
int32_t compiler_any_char(struct compiler *c);

/* Values of a kind (compile_values.c, compile_object.c); v has no choices left. */
int32_t compile_literals(
    struct compiler *c, const struct schema_view *v, unsigned types, int32_t next);
int32_t compile_string(struct compiler *c, const struct schema_view *v, int32_t next);
int32_t compile_number(
    struct compiler *c, const struct schema_view *v, unsigned types, int32_t next);
int32_t compile_array(struct compiler *c, const struct schema_view *v, int32_t next);
int32_t compile_object(struct compiler *c, const struct schema_view *v, int32_t next);

/* Texts of values that enum and const leave, sorted, in the arena; -1: there are no such keywords
   (or it is refused). */
int literals_of(struct compiler *c, const struct schema_view *v, unsigned types, const char ***out);
/* Refuses a oneOf whose branches may be satisfied at once. */
void exclusive_check(struct compiler *c, const struct schema_part *one);

#endif
