/*
 * yaml: libyaml's events become a json tree. A stack holds the open collections; a finished value
 * goes into the innermost one. A plain scalar means what it means to kubectl (sigs.k8s.io/yaml,
 * goyaml.v2/resolve.go), so that a file is the same job here and there. Bounded like JSON
 * (JSON_DEPTH); aliases, tags, duplicate keys and keys that are no scalars are refused, so the tree
 * is never larger than the text and means the same to every reader.
 */
#include "base/yaml.h"

#include "base/io.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAP_KEYS 4096 /* of one map: looking for duplicates is linear */

struct level {
    struct json *value;
    char *key; /* of the value that comes next, in a map */
    int keys;
};

struct build {
    struct level open[JSON_DEPTH];
    int depth;
    struct json *documents;
};

static int at_line(struct err *e, enum err_code code, const yaml_mark_t *m, const char *what)
{
    return err_set(e, code, "YAML line %zu: %s", m->line + 1, what);
}

static bool one_of(const char *s, const char *const *words, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(s, words[i]))
            return true;
    return false;
}

static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* Decimal forms: [-+]? ( \. d+ | d+ (\. d*)? ) ( [eE] [-+]? d+ )? */
static bool is_number(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = digits(s);
    s += whole;
    size_t part = 0;
    if (*s == '.') {
        part = digits(++s);
        s += part;
    }
    if (!whole && !part)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t power = digits(s);
        if (!power)
            return false;
        s += power;
    }
    return !*s;
}

/* Whole numbers of another base: 0x1F, 0o17, 017, 0b101, signed or not. */
static bool is_based(const char *s, double *out)
{
    static const char figures[] = "0123456789abcdef";
    double sign = *s == '-' ? -1 : 1, value = 0;
    s += *s == '-' || *s == '+';
    if (*s++ != '0' || !*s)
        return false;
    int kind = *s | 0x20, base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
    s += kind == 'x' || kind == 'b' || kind == 'o';
    if (!*s)
        return false;
    for (; *s; s++) {
        const char *at = memchr(figures, *s >= 'A' && *s <= 'F' ? *s | 0x20 : *s, (size_t)base);
        if (!at)
            return false;
        value = value * base + (double)(at - figures);
    }
    *out = sign * value;
    return true;
}

enum kind { KIND_STRING, KIND_NULL, KIND_BOOL, KIND_NUMBER };

/* What a plain scalar means to kubectl, whose YAML is version 1.1 without its dates, base 60 and
 * merge keys. *value: of a number, or 1 for true. -ERR_MEMORY, or a kind. */
static int kind_of(const char *s, double *value)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const trues[] = {
        "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
    static const char *const falses[] = {
        "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"};
    static const char *const endless[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF",
        "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"};
    *value = one_of(s, trues, 11);
    if (*value > 0 || one_of(s, falses, 11))
        return KIND_BOOL;
    if (one_of(s, nulls, 5))
        return KIND_NULL;
    if (one_of(s, endless, 12)) {
        *value = INFINITY;
        return KIND_NUMBER;
    }
    if (!*s || !strchr("+-.0123456789", *s))
        return KIND_STRING;
    mem_autofree char *plain = mem_strdup(s);
    if (!plain)
        return -ERR_MEMORY;
    if (*s != '.') { /* 1_000 */
        char *to = plain;
        for (; *s; s++)
            if (*s != '_')
                *to++ = *s;
        *to = 0;
    }
    if (is_based(plain, value))
        return KIND_NUMBER;
    if (!is_number(plain))
        return KIND_STRING;
    *value = strtod(plain, NULL);
    return KIND_NUMBER;
}

/* NULL when out of memory. */
static struct json *scalar(const char *s, bool plain)
{
    double value;
    switch (plain ? kind_of(s, &value) : KIND_STRING) {
    case KIND_NULL:
        return json_new_null();
    case KIND_BOOL:
        return json_new_bool(value > 0);
    case KIND_NUMBER:
        return json_new_number(value);
    case KIND_STRING:
        return json_new_string(s);
    default:
        return NULL;
    }
}

/* Takes v, also on failure. */
static int place(struct build *b, struct json *v)
{
    if (!b->depth)
        return json_push(b->documents, v);
    struct level *top = &b->open[b->depth - 1];
    if (json_is_array(top->value))
        return json_push(top->value, v);
    int rc = json_put(top->value, top->key, v);
    mem_free(top->key);
    top->key = NULL;
    return rc;
}

static bool key_is_next(const struct build *b)
{
    return b->depth && json_is_object(b->open[b->depth - 1].value) && !b->open[b->depth - 1].key;
}

/* A key is a string, whatever it looks like: kubectl turns what it takes for a boolean or a whole
 * number back into text, so that "on:" and "yes:" are both "true". */
static int on_key(struct build *b, const yaml_event_t *ev, struct err *e)
{
    struct level *top = &b->open[b->depth - 1];
    const char *key = (const char *)ev->data.scalar.value;
    bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    char number[24];
    double value;
    int kind = plain ? kind_of(key, &value) : KIND_STRING;
    if (kind == KIND_NULL)
        return at_line(e, ERR_DATA, &ev->start_mark, "null is no key");
    if (kind == KIND_BOOL)
        key = value > 0 ? "true" : "false";
    if (kind == KIND_NUMBER && !strpbrk(key, ".eE") && fabs(value) < 0x1p53) {
        snprintf(number, sizeof number, "%lld", (long long)value);
        key = number;
    }
    if (json_get(top->value, key))
        return err_set(
            e, ERR_DATA, "YAML line %zu: duplicate key \"%.80s\"", ev->start_mark.line + 1, key);
    if (++top->keys > MAP_KEYS)
        return at_line(e, ERR_DATA, &ev->start_mark, "more than 4096 keys in one map");
    top->key = kind < 0 ? NULL : mem_strdup(key);
    return top->key ? 0 : at_line(e, ERR_MEMORY, &ev->start_mark, "out of memory");
}

static int on_scalar(struct build *b, const yaml_event_t *ev, struct err *e)
{
    const char *s = (const char *)ev->data.scalar.value;
    if (ev->data.scalar.anchor)
        return at_line(e, ERR_DATA, &ev->start_mark, "anchors are not accepted");
    if (ev->data.scalar.tag)
        return at_line(e, ERR_DATA, &ev->start_mark, "tags are not accepted");
    if (strlen(s) != ev->data.scalar.length)
        return at_line(e, ERR_DATA, &ev->start_mark, "a NUL character");
    if (key_is_next(b))
        return on_key(b, ev, e);
    struct json *v = scalar(s, ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
    if (v && json_is_number(v) && json_number_value(v) - json_number_value(v) != 0) {
        json_destroy(v);
        return at_line(e, ERR_DATA, &ev->start_mark, "a number out of range");
    }
    return place(b, v) ? at_line(e, ERR_MEMORY, &ev->start_mark, "out of memory") : 0;
}

static int on_open(struct build *b, const yaml_event_t *ev, bool map, struct err *e)
{
    bool anchor = map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
    bool tag = map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag;
    if (anchor || tag)
        return at_line(e, ERR_DATA, &ev->start_mark,
            anchor ? "anchors are not accepted" : "tags are not accepted");
    if (key_is_next(b))
        return at_line(e, ERR_DATA, &ev->start_mark, "a key must be a scalar");
    if (b->depth == JSON_DEPTH)
        return at_line(e, ERR_DATA, &ev->start_mark, "more than 64 levels");
    struct json *v = map ? json_new_object() : json_new_array();
    if (!v)
        return at_line(e, ERR_MEMORY, &ev->start_mark, "out of memory");
    b->open[b->depth++] = (struct level){.value = v};
    return 0;
}

static int on_close(struct build *b, const yaml_event_t *ev, struct err *e)
{
    struct json *v = b->open[--b->depth].value;
    return place(b, v) ? at_line(e, ERR_MEMORY, &ev->start_mark, "out of memory") : 0;
}

static int on_event(struct build *b, const yaml_event_t *ev, struct err *e)
{
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, ev, e);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, ev, true, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, ev, false, e);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        return on_close(b, ev, e);
    case YAML_ALIAS_EVENT:
        return at_line(e, ERR_DATA, &ev->start_mark, "aliases are not accepted");
    default:
        return 0;
    }
}

static int parser_failed(const yaml_parser_t *p, struct err *e)
{
    if (p->error == YAML_MEMORY_ERROR)
        return err_set(e, ERR_MEMORY, "out of memory parsing YAML");
    if (p->error == YAML_READER_ERROR)
        return err_set(e, ERR_DATA, "YAML byte %zu: %s", p->problem_offset, p->problem);
    return at_line(e, ERR_DATA, &p->problem_mark, p->problem ? p->problem : "malformed");
}

static int build_all(yaml_parser_t *p, struct build *b, struct err *e)
{
    for (bool end = false; !end;) {
        yaml_event_t ev;
        if (!yaml_parser_parse(p, &ev))
            return parser_failed(p, e);
        end = ev.type == YAML_STREAM_END_EVENT;
        int rc = on_event(b, &ev, e);
        yaml_event_delete(&ev);
        if (rc)
            return rc;
    }
    return 0;
}

int yaml_parse(const char *text, size_t len, struct json **out, struct err *e)
{
    yaml_parser_t p;
    struct build b = {.documents = json_new_array()};
    if (!b.documents || !yaml_parser_initialize(&p)) {
        json_destroy(b.documents);
        return err_set(e, ERR_MEMORY, "out of memory parsing YAML");
    }
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    int rc = build_all(&p, &b, e);
    yaml_parser_delete(&p);
    while (b.depth) {
        struct level *top = &b.open[--b.depth];
        json_destroy(top->value);
        mem_free(top->key);
    }
    if (rc)
        json_destroy(b.documents);
    else
        *out = b.documents;
    return rc;
}

int yaml_read_file(const char *path, size_t limit, struct json **out, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, limit);
    int rc = io_read_file(path, limit, &text, e);
    if (rc)
        return rc;
    rc = yaml_parse(buf_cstr(&text), text.len, out, e);
    return rc ? err_wrap(e, "%s", path) : 0;
}
