/*
 * schema: keywords, references, and the walk from schemas to rules. A schema is a rule as soon as
 * it is met, so that it may refer to itself; one that would be part of itself before a byte is read
 * is refused.
 */
#include "runtime/grammar/internal.h"
#include "runtime/grammar/strings.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES   ((size_t)8 << 20)
#define SPACE_COLUMNS 40 /* of a new line */

/* -- refusing -- */

static void print_place(const struct schema_place *at, char *out, size_t size)
{
    char before[SCHEMA_PATH] = "";
    if (at->up)
        print_place(at->up, before, sizeof before);
    if (at->key)
        snprintf(out, size, "%s%s%s", before, at->up ? "." : "", at->key);
    else
        snprintf(out, size, "%s[%d]", before, at->index);
}

int32_t compiler_no_memory(struct compiler *c)
{
    if (!c->rc)
        c->rc = err_set(c->e, ERR_MEMORY, "no memory for a schema");
    return AUTOMATON_NEVER;
}

int32_t compiler_refuse(struct compiler *c, const struct schema_place *at, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    if (c->rc || !at)
        return AUTOMATON_NEVER;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    print_place(at, c->path, SCHEMA_PATH);
    c->rc = err_set(c->e, ERR_USER, "%s: %s", c->path, text);
    return AUTOMATON_NEVER;
}

const struct schema_place *compiler_place(
    struct compiler *c, const struct schema_place *up, const char *key, int index)
{
    struct schema_place *p = arena_alloc(c->arena, sizeof *p);
    if (!p) {
        compiler_no_memory(c);
        return NULL;
    }
    *p = (struct schema_place){up, key, index};
    return p;
}

/* -- keywords -- */

enum keyword_kind {
    KEYWORD_USED,
    KEYWORD_NOTE /* an annotation, or where others refer to */
};

static const struct keyword {
    const char *name;
    enum keyword_kind kind;
    unsigned types; /* of values that it says something of; 0: of all, or none */
} keywords[] = {
    {"type", KEYWORD_USED, 0},
    {"enum", KEYWORD_USED, 0},
    {"const", KEYWORD_USED, 0},
    {"$ref", KEYWORD_USED, 0},
    {"allOf", KEYWORD_USED, 0},
    {"anyOf", KEYWORD_USED, 0},
    {"oneOf", KEYWORD_USED, 0},
    {"properties", KEYWORD_USED, TYPE_OBJECT},
    {"required", KEYWORD_USED, TYPE_OBJECT},
    {"additionalProperties", KEYWORD_USED, TYPE_OBJECT},
    {"minProperties", KEYWORD_USED, TYPE_OBJECT},
    {"maxProperties", KEYWORD_USED, TYPE_OBJECT},
    {"items", KEYWORD_USED, TYPE_ARRAY},
    {"prefixItems", KEYWORD_USED, TYPE_ARRAY},
    {"minItems", KEYWORD_USED, TYPE_ARRAY},
    {"maxItems", KEYWORD_USED, TYPE_ARRAY},
    {"uniqueItems", KEYWORD_USED, TYPE_ARRAY},
    {"minLength", KEYWORD_USED, TYPE_STRING},
    {"maxLength", KEYWORD_USED, TYPE_STRING},
    {"pattern", KEYWORD_USED, TYPE_STRING},
    {"minimum", KEYWORD_USED, TYPE_WHOLE | TYPE_FRACTION},
    {"maximum", KEYWORD_USED, TYPE_WHOLE | TYPE_FRACTION},
    {"exclusiveMinimum", KEYWORD_USED, TYPE_WHOLE | TYPE_FRACTION},
    {"exclusiveMaximum", KEYWORD_USED, TYPE_WHOLE | TYPE_FRACTION},
    {"multipleOf", KEYWORD_USED, TYPE_WHOLE | TYPE_FRACTION},
    {"format", KEYWORD_NOTE, 0},
    {"title", KEYWORD_NOTE, 0},
    {"description", KEYWORD_NOTE, 0},
    {"default", KEYWORD_NOTE, 0},
    {"examples", KEYWORD_NOTE, 0},
    {"deprecated", KEYWORD_NOTE, 0},
    {"readOnly", KEYWORD_NOTE, 0},
    {"writeOnly", KEYWORD_NOTE, 0},
    {"contentEncoding", KEYWORD_NOTE, 0},
    {"contentMediaType", KEYWORD_NOTE, 0},
    {"contentSchema", KEYWORD_NOTE, 0},
    {"$comment", KEYWORD_NOTE, 0},
    {"$schema", KEYWORD_NOTE, 0},
    {"$defs", KEYWORD_NOTE, 0},
    {"definitions", KEYWORD_NOTE, 0},
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcmp(keywords[i].name, name))
            return &keywords[i];
    return NULL;
}

static bool check_keywords(
    struct compiler *c, const struct json *schema, const struct schema_place *at)
{
    json_each (v, schema) {
        const char *key = json_key(v);
        if (!find_keyword(key))
            compiler_refuse(c, compiler_place(c, at, key, 0), "this keyword is not supported");
        else if (json_get(schema, key) != v)
            compiler_refuse(c, compiler_place(c, at, key, 0), "it is given twice");
        if (c->rc)
            return false;
    }
    return true;
}

/* -- references -- */

/* Of a token of a JSON pointer (RFC 6901), percent-encoded or not. */
static bool read_token(const char *p, size_t n, char *out, size_t size)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char ch = p[i];
        if (ch == '%' && i + 2 < n) {
            char hex[3] = {p[i + 1], p[i + 2], 0}, *end;
            ch = (char)strtol(hex, &end, 16);
            if (*end || !ch)
                return false;
            i += 2;
        } else if (ch == '%') {
            return false;
        }
        if (ch == '~' && i + 1 < n && (p[i + 1] == '0' || p[i + 1] == '1'))
            ch = p[++i] == '0' ? '~' : '/';
        else if (ch == '~')
            return false;
        if (k + 1 == size)
            return false;
        out[k++] = ch;
    }
    out[k] = 0;
    return true;
}

/* The member; NULL: there is none, or more than one. */
static const struct json *member(const struct json *v, const char *name)
{
    const struct json *found = NULL;
    if (json_is_array(v)) {
        char *end;
        unsigned long i = strtoul(name, &end, 10);
        if (!*name || *end || i >= json_count(v))
            return NULL;
        for (found = json_first(v); i; i--)
            found = json_next(found);
        return found;
    }
    json_each (x, v) {
        if (strcmp(json_key(x), name) != 0)
            continue;
        if (found)
            return NULL;
        found = x;
    }
    return found;
}

static const struct json *resolve(
    struct compiler *c, const char *ref, const struct schema_place *at)
{
    const struct json *v = c->root;
    if (ref[0] != '#' || (ref[1] && ref[1] != '/')) {
        compiler_refuse(c, at, "only references into this schema, \"#/...\", are supported");
        return NULL;
    }
    for (const char *p = ref + 1; v && *p;) {
        char name[256];
        size_t n = strcspn(p + 1, "/");
        v = json_is_object(v) || json_is_array(v)
            ? read_token(p + 1, n, name, sizeof name) ? member(v, name) : NULL
            : NULL;
        p += 1 + n;
    }
    if (!v)
        compiler_refuse(c, at, "it refers to nothing");
    return v;
}

static const struct schema_place *place_of_ref(struct compiler *c, const char *ref)
{
    const struct schema_place *at = &c->top;
    for (const char *p = ref + 1; at && *p;) {
        size_t n = strcspn(p + 1, "/");
        char *name = arena_printf(c->arena, "%.*s", (int)n, p + 1);
        at = name ? compiler_place(c, at, name, 0) : NULL;
        p += 1 + n;
    }
    return at;
}

/* -- views -- */

static void add_choice(
    struct compiler *c, struct schema_view *v, const struct schema_part *p, const char *key)
{
    const struct json *list = json_get(p->schema, key);
    const struct schema_place *at = list ? compiler_place(c, p->place, key, 0) : NULL;
    if (!at)
        return;
    if (!json_is_array(list) || !json_count(list)) {
        compiler_refuse(c, at, "it must be a list of schemas");
    } else if (v->choices == VIEW_PARTS) {
        compiler_refuse(c, at, "too many choices stand beside one another");
    } else {
        v->one[v->choices] = key[0] == 'o';
        v->choice[v->choices++] = (struct schema_part){list, at};
    }
}

static void add_parts_of(struct compiler *c, struct schema_view *v, const struct schema_part *p)
{
    const struct json *ref = json_get(p->schema, "$ref"), *all = json_get(p->schema, "allOf");
    if (ref) {
        const struct schema_place *at = compiler_place(c, p->place, "$ref", 0);
        const char *text = json_string_value(ref);
        const struct json *target = text ? resolve(c, text, at) : NULL;
        if (!text)
            compiler_refuse(c, at, "it must be a string");
        else if (target)
            view_add(c, v, target, place_of_ref(c, text));
    }
    const struct schema_place *at = all ? compiler_place(c, p->place, "allOf", 0) : NULL;
    if (at && (!json_is_array(all) || !json_count(all)))
        compiler_refuse(c, at, "it must be a list of schemas");
    int i = 0;
    json_each (x, c->rc ? NULL : all)
        view_add(c, v, x, compiler_place(c, at, NULL, i++));
    add_choice(c, v, p, "anyOf");
    add_choice(c, v, p, "oneOf");
}

void view_add(struct compiler *c, struct schema_view *v, const struct json *schema,
    const struct schema_place *at)
{
    if (c->rc || !at)
        return;
    if (++c->work > SCHEMA_WORK) {
        compiler_refuse(c, at, "the schema has too many combinations");
        return;
    }
    if (json_is_bool(schema)) {
        v->never = v->never || !json_bool_value(schema);
        return;
    }
    if (!json_is_object(schema)) {
        compiler_refuse(c, at, "a schema must be an object, true or false");
        return;
    }
    for (int i = 0; i < v->count; i++)
        if (v->part[i].schema == schema) {
            compiler_refuse(c, at, "it is part of itself, or there twice");
            return;
        }
    if (v->count == VIEW_PARTS) {
        compiler_refuse(c, at, "too many schemas stand beside one another");
        return;
    }
    if (!check_keywords(c, schema, at))
        return;
    v->part[v->count++] = (struct schema_part){schema, at};
    const struct schema_part p = v->part[v->count - 1];
    add_parts_of(c, v, &p);
}

const struct schema_part *view_find(const struct schema_view *v, const char *key, int from)
{
    for (int i = from; i < v->count; i++)
        if (json_get(v->part[i].schema, key))
            return &v->part[i];
    return NULL;
}

static unsigned type_named(
    struct compiler *c, const struct json *name, const struct schema_place *at)
{
    static const struct {
        const char *name;
        unsigned types;
    } types[] = {{"null", TYPE_NULL}, {"boolean", TYPE_BOOL}, {"integer", TYPE_WHOLE},
        {"number", TYPE_WHOLE | TYPE_FRACTION}, {"string", TYPE_STRING}, {"array", TYPE_ARRAY},
        {"object", TYPE_OBJECT}};
    const char *text = json_string_value(name);
    for (size_t i = 0; text && i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, text))
            return types[i].types;
    compiler_refuse(c, at, "there is no such type");
    return 0;
}

unsigned view_types(struct compiler *c, const struct schema_view *v)
{
    unsigned types = TYPE_ALL;
    for (int i = 0; i < v->count; i++) {
        const struct json *type = json_get(v->part[i].schema, "type");
        unsigned own = 0;
        if (!type)
            continue;
        const struct schema_place *at = compiler_place(c, v->part[i].place, "type", 0);
        if (json_is_array(type))
            json_each (name, type)
                own |= type_named(c, name, at);
        else
            own = type_named(c, type, at);
        types &= own;
    }
    return types;
}

/* Without `type` a value is taken to be what the keywords speak of; any, if they speak of none. */
static unsigned types_spoken_of(const struct schema_view *v)
{
    unsigned types = 0;
    for (int i = 0; i < v->count; i++) {
        if (json_get(v->part[i].schema, "type"))
            return TYPE_ALL;
        json_each (x, v->part[i].schema)
            types |= find_keyword(json_key(x))->types;
    }
    return types ? types : TYPE_ALL;
}

bool view_number(
    struct compiler *c, const struct schema_view *v, const char *key, bool greatest, double *out)
{
    bool found = false;
    for (int i = 0; i < v->count; i++) {
        const struct json *x = json_get(v->part[i].schema, key);
        double n = json_number_value(x);
        if (!x)
            continue;
        if (!json_is_number(x) || !isfinite(n))
            compiler_refuse(c, compiler_place(c, v->part[i].place, key, 0), "it must be a number");
        if (!found || (greatest ? n > *out : n < *out))
            *out = n;
        found = true;
    }
    return found;
}

int64_t view_count(
    struct compiler *c, const struct schema_view *v, const char *key, bool greatest, int64_t none)
{
    double n = 0;
    if (!view_number(c, v, key, greatest, &n))
        return none;
    if (n >= 0 && n <= INT32_MAX && n == floor(n))
        return (int64_t)n;
    compiler_refuse(c, compiler_place(c, view_find(v, key, 0)->place, key, 0),
        "it must be a whole number from 0 to %d", INT32_MAX);
    return none;
}

/* -- from views to nodes -- */

static int32_t build_values(struct compiler *c, const struct schema_view *v, int32_t next)
{
    unsigned types = view_types(c, v);
    int32_t node = AUTOMATON_NEVER;
    if (c->rc || v->never)
        return node;
    if (view_find(v, "enum", 0) || view_find(v, "const", 0)) {
        for (int i = 0; i < v->count; i++)
            json_each (x, v->part[i].schema)
                if (find_keyword(json_key(x))->types)
                    return compiler_refuse(c, compiler_place(c, v->part[i].place, json_key(x), 0),
                        "it is not supported beside enum or const");
        return compile_literals(c, v, types, next);
    }
    types &= types_spoken_of(v);
    if (types & TYPE_NULL)
        node = automaton_text(c->a, "null", 4, next);
    if (types & TYPE_BOOL) {
        node = automaton_fork(c->a, node, automaton_text(c->a, "true", 4, next));
        node = automaton_fork(c->a, node, automaton_text(c->a, "false", 5, next));
    }
    if (types & (TYPE_WHOLE | TYPE_FRACTION))
        node = automaton_fork(c->a, node, compile_number(c, v, types, next));
    if (types & TYPE_STRING)
        node = automaton_fork(c->a, node, compile_string(c, v, next));
    if (types & TYPE_ARRAY)
        node = automaton_fork(c->a, node, compile_array(c, v, next));
    if (types & TYPE_OBJECT)
        node = automaton_fork(c->a, node, compile_object(c, v, next));
    return node;
}

/* Each branch of the first choice that is left, with all the others. */
static int32_t build_view(struct compiler *c, const struct schema_view *v, int choice, int32_t next)
{
    int32_t node = AUTOMATON_NEVER;
    if (c->rc || v->never)
        return node;
    if (choice == v->choices)
        return build_values(c, v, next);
    const struct schema_part *p = &v->choice[choice];
    int i = 0;
    if (v->one[choice])
        exclusive_check(c, p);
    json_each (x, c->rc ? NULL : p->schema) {
        struct schema_view branch = *v;
        view_add(c, &branch, x, compiler_place(c, p->place, NULL, i++));
        node = automaton_fork(c->a, node, build_view(c, &branch, choice + 1, next));
        if (c->rc || c->a->fault || c->a->no_memory)
            break;
    }
    return node;
}

static int32_t new_rule(struct compiler *c, const struct json *schema)
{
    int32_t rule = automaton_rule(c->a);
    if (rule >= 0 && schema)
        c->memo[c->memos++] = (struct memo){schema, rule};
    return rule;
}

int32_t compiler_rule(struct compiler *c, const struct json *schema, const struct schema_place *at)
{
    struct schema_view v = {0};
    for (int i = 0; i < c->memos; i++)
        if (c->memo[i].schema == schema)
            return c->memo[i].rule;
    if (json_is_bool(schema) && json_bool_value(schema))
        return compiler_any(c);
    if (c->depth == SCHEMA_DEPTH) {
        compiler_refuse(c, at, "schemas are nested too deeply");
        return -1;
    }
    int32_t rule = new_rule(c, schema);
    c->depth++;
    view_add(c, &v, schema, at);
    automaton_begin(c->a, rule, build_view(c, &v, 0, automaton_return(c->a)));
    c->depth--;
    return rule;
}

int32_t compiler_any(struct compiler *c)
{
    static const struct schema_view all = {0};
    if (c->any_value < 0) {
        c->any_value = new_rule(c, NULL);
        automaton_begin(c->a, c->any_value, build_values(c, &all, automaton_return(c->a)));
    }
    return c->any_value;
}

int32_t compiler_any_char(struct compiler *c)
{
    if (c->any_char < 0)
        c->any_char = strings_any(c->a);
    return c->any_char;
}

/* Nothing, one space, or a new line that is indented. */
int32_t compiler_space(struct compiler *c, int32_t next)
{
    if (c->space < 0) {
        int32_t end = automaton_return(c->a), node = end;
        for (int i = 0; i < SPACE_COLUMNS; i++)
            node = automaton_fork(c->a, end, automaton_byte(c->a, ' ', ' ', node));
        node = automaton_fork(
            c->a, automaton_byte(c->a, '\n', '\n', node), automaton_byte(c->a, ' ', ' ', end));
        c->space = automaton_rule(c->a);
        automaton_begin(c->a, c->space, automaton_fork(c->a, end, node));
    }
    return automaton_call(c->a, c->space, next);
}

/* -- life -- */

int schema_rule(struct automaton *a, const struct json *schema, const char *name, int32_t *rule,
    char path[SCHEMA_PATH], struct err *e)
{
    arena_auto struct arena *arena = arena_create(ARENA_BYTES);
    mem_autofree struct memo *memo = mem_array(AUTOMATON_RULES, sizeof *memo);
    struct compiler c = {.a = a,
        .arena = arena,
        .root = schema,
        .top = {.key = name},
        .any_char = -1,
        .key_char = -1,
        .any_value = -1,
        .space = -1,
        .memo = memo,
        .path = path,
        .e = e};
    if (!arena || !memo)
        return err_set(e, ERR_MEMORY, "no memory for a schema");
    snprintf(path, SCHEMA_PATH, "%s", name);
    int32_t made = compiler_rule(&c, schema, &c.top);
    if (!c.rc)
        *rule = made;
    return c.rc;
}

int schema_object(struct automaton *a, int32_t *rule, struct err *e)
{
    json_auto struct json *schema = json_new_object();
    char path[SCHEMA_PATH];
    if (json_put(schema, "type", json_new_string("object")))
        return err_set(e, ERR_MEMORY, "no memory for a schema");
    return schema_rule(a, schema, "response_format", rule, path, e);
}
