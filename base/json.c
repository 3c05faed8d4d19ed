/*
 * json: cJSON behind a strict door. json_parse first walks the text with its own small checker
 * (grammar, depth, UTF-8, no NUL, finite numbers), so cJSON only ever sees valid text and its
 * leniencies cannot matter; cJSON then builds the tree with the house's allocator. What is printed
 * is printed here, never by cJSON, because cJSON loses digits of 64-bit integers.
 */
#include "base/json.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define EXACT_INT 9007199254740992.0 /* 2^53: beyond it doubles skip integers */

/* Before main, so before any thread: cJSON's hooks are global. */
__attribute__((constructor)) static void use_house_allocator(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = mem_alloc, .free_fn = mem_free});
}

static const cJSON *in(const struct json *v)
{
    return (const cJSON *)v;
}

static struct json *out_of(const cJSON *v)
{
    return (struct json *)v;
}

/* -- the checker -- */

struct check {
    const char *p, *end;
    char open[JSON_DEPTH]; /* the bracket of each open level */
    int depth;
    size_t values;   /* that may still come */
    const char *why; /* set when it failed; p stands at the fault */
};

static bool refuse(struct check *c, const char *why)
{
    c->why = why;
    return false;
}

static void skip_space(struct check *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool is_digit(const struct check *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static bool check_digits(struct check *c)
{
    if (!is_digit(c))
        return refuse(c, "a digit is missing");
    while (is_digit(c))
        c->p++;
    return true;
}

static bool check_number(struct check *c)
{
    const char *start = c->p;
    if (*c->p == '-')
        c->p++;
    if (c->p < c->end && *c->p == '0')
        c->p++; /* nothing may follow a leading zero but a fraction */
    else if (!check_digits(c))
        return false;
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!check_digits(c))
            return false;
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-'))
            c->p++;
        if (!check_digits(c))
            return false;
    }
    char copy[64]; /* cJSON too reads at most 63 bytes of a number */
    size_t n = (size_t)(c->p - start);
    if (n >= sizeof copy)
        return refuse(c, "a number of more than 63 characters");
    memcpy(copy, start, n);
    copy[n] = 0;
    return isfinite(strtod(copy, NULL)) || refuse(c, "a number out of range");
}

/* Four hex digits after \u; -1 when malformed. */
static int hex4(struct check *c)
{
    static const char set[] = "0123456789abcdefABCDEF";
    int v = 0;
    if (c->end - c->p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digit = memchr(set, c->p[i], sizeof set - 1);
        if (!digit)
            return -1;
        int d = (int)(digit - set);
        v = v * 16 + (d > 15 ? d - 6 : d);
    }
    c->p += 4;
    return v;
}

static bool check_escape(struct check *c)
{
    c->p++;
    if (c->p == c->end)
        return refuse(c, "a string without an end");
    if (strchr("\"\\/bfnrt", *c->p) && *c->p) {
        c->p++;
        return true;
    }
    if (*c->p++ != 'u')
        return refuse(c, "an unknown escape");
    int v = hex4(c);
    if (v <= 0)
        return refuse(c, v ? "a malformed \\u escape" : "a NUL character");
    if (v < 0xd800 || v > 0xdfff)
        return true;
    if (v > 0xdbff || c->end - c->p < 2 || c->p[0] != '\\' || c->p[1] != 'u')
        return refuse(c, "a lone surrogate");
    c->p += 2;
    v = hex4(c);
    return (v >= 0xdc00 && v <= 0xdfff) || refuse(c, "a lone surrogate");
}

static bool check_string(struct check *c)
{
    if (c->p == c->end || *c->p != '"')
        return refuse(c, "a string is missing");
    c->p++;
    while (c->p < c->end && *c->p != '"') {
        if (*c->p == '\\') {
            if (!check_escape(c))
                return false;
            continue;
        }
        if ((unsigned char)*c->p < 0x20)
            return refuse(c, "a control character inside a string");
        size_t n = utf8_sequence(c->p, (size_t)(c->end - c->p));
        if (!n)
            return refuse(c, "invalid UTF-8");
        c->p += n;
    }
    if (c->p == c->end)
        return refuse(c, "a string without an end");
    c->p++;
    return true;
}

static bool check_word(struct check *c)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(c->end - c->p) >= n && !memcmp(c->p, words[i], n)) {
            c->p += n;
            return true;
        }
    }
    return refuse(c, "a value is missing");
}

static bool check_key(struct check *c)
{
    skip_space(c);
    if (!check_string(c))
        return false;
    skip_space(c);
    if (c->p == c->end || *c->p != ':')
        return refuse(c, "a colon is missing");
    c->p++;
    return true;
}

/* Behind a value: closes what ends here. *more: another value follows in the innermost open
 * bracket. */
static bool check_after(struct check *c, bool *more)
{
    for (; c->depth; c->p++) {
        skip_space(c);
        char open = c->open[c->depth - 1];
        if (c->p == c->end)
            return refuse(c, "a bracket is not closed");
        if (*c->p == ',') {
            c->p++;
            *more = true;
            return open == '[' || check_key(c);
        }
        if (*c->p != (open == '[' ? ']' : '}'))
            return refuse(c, "a comma or closing bracket is missing");
        c->depth--;
    }
    *more = false;
    return true;
}

/* At a value. *inside: it opened a bracket that is not closed at once, so another value follows. */
static bool check_value(struct check *c, bool *inside)
{
    *inside = false;
    skip_space(c);
    if (c->p == c->end)
        return refuse(c, "a value is missing");
    if (!c->values--)
        return refuse(c, "more values than are read here");
    if (*c->p == '"')
        return check_string(c);
    if (*c->p == '-' || is_digit(c))
        return check_number(c);
    if (*c->p != '{' && *c->p != '[')
        return check_word(c);
    if (c->depth == JSON_DEPTH)
        return refuse(c, "more than 64 levels");
    char open = *c->p++;
    c->open[c->depth++] = open;
    skip_space(c);
    if (c->p < c->end && *c->p == (open == '[' ? ']' : '}'))
        return true; /* check_after closes it */
    *inside = true;
    return open == '[' || check_key(c);
}

static bool check_text(struct check *c)
{
    for (bool more = true; more;) {
        bool inside;
        if (!check_value(c, &inside))
            return false;
        if (!inside && !check_after(c, &more))
            return false;
    }
    skip_space(c);
    return c->p == c->end || refuse(c, "text behind the end");
}

int json_parse_within(const char *text, size_t len, size_t values, struct json **out, struct err *e)
{
    struct check c = {.p = text, .end = text + len, .values = values};
    if (!check_text(&c))
        return err_set(e, ERR_DATA, "JSON byte %zu: %s", (size_t)(c.p - text), c.why);
    cJSON *tree = cJSON_ParseWithLength(text, len);
    if (!tree)
        return err_set(e, ERR_MEMORY, "out of memory parsing %zu bytes of JSON", len);
    *out = out_of(tree);
    return 0;
}

int json_parse(const char *text, size_t len, struct json **out, struct err *e)
{
    return json_parse_within(text, len, JSON_VALUES, out, e);
}

int json_read_file(const char *path, size_t limit, struct json **out, struct err *e)
{
    return json_read_file_within(path, limit, JSON_FILE_VALUES, out, e);
}

int json_read_file_within(
    const char *path, size_t limit, size_t values, struct json **out, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, limit);
    int rc = io_read_file(path, limit, &text, e);
    if (rc)
        return rc;
    /* Some editors put a byte order mark before the text. */
    size_t mark = text.len >= 3 && !memcmp(text.data, "\xef\xbb\xbf", 3) ? 3 : 0;
    rc = json_parse_within(buf_cstr(&text) + mark, text.len - mark, values, out, e);
    return rc ? err_wrap(e, "%s", path) : 0;
}

void json_destroy(struct json *root)
{
    cJSON_Delete((cJSON *)root);
}

void json_destroy_at(struct json **root)
{
    json_destroy(*root);
}

/* -- building -- */

struct json *json_new_object(void)
{
    return out_of(cJSON_CreateObject());
}

struct json *json_new_array(void)
{
    return out_of(cJSON_CreateArray());
}

struct json *json_new_string(const char *s)
{
    return out_of(cJSON_CreateString(s));
}

struct json *json_new_number(double n)
{
    return out_of(cJSON_CreateNumber(n));
}

struct json *json_new_bool(bool b)
{
    return out_of(cJSON_CreateBool(b));
}

struct json *json_new_null(void)
{
    return out_of(cJSON_CreateNull());
}

int json_put(struct json *object, const char *key, struct json *child)
{
    if (object && child && cJSON_AddItemToObject((cJSON *)object, key, (cJSON *)child))
        return 0;
    json_destroy(child);
    return -ERR_MEMORY;
}

int json_push(struct json *array, struct json *child)
{
    if (array && child && cJSON_AddItemToArray((cJSON *)array, (cJSON *)child))
        return 0;
    json_destroy(child);
    return -ERR_MEMORY;
}

/* -- navigation -- */

static struct json *get_n(const struct json *object, const char *key, size_t len)
{
    if (!json_is_object(object))
        return NULL;
    for (const cJSON *c = in(object)->child; c; c = c->next)
        if (!strncmp(c->string, key, len) && !c->string[len])
            return out_of(c);
    return NULL;
}

struct json *json_get(const struct json *object, const char *key)
{
    return get_n(object, key, strlen(key));
}

struct json *json_path(const struct json *root, const char *dotted)
{
    for (;;) {
        size_t n = strcspn(dotted, ".");
        root = get_n(root, dotted, n);
        if (!root || !dotted[n])
            return (struct json *)root;
        dotted += n + 1;
    }
}

struct json *json_first(const struct json *array_or_object)
{
    return array_or_object ? out_of(in(array_or_object)->child) : NULL;
}

struct json *json_next(const struct json *item)
{
    return item ? out_of(in(item)->next) : NULL;
}

const char *json_key(const struct json *item)
{
    return item ? in(item)->string : NULL;
}

size_t json_count(const struct json *array_or_object)
{
    size_t n = 0;
    json_each (item, array_or_object)
        n++;
    return n;
}

bool json_is_object(const struct json *v)
{
    return cJSON_IsObject(in(v));
}

bool json_is_array(const struct json *v)
{
    return cJSON_IsArray(in(v));
}

bool json_is_string(const struct json *v)
{
    return cJSON_IsString(in(v));
}

bool json_is_number(const struct json *v)
{
    return cJSON_IsNumber(in(v));
}

bool json_is_bool(const struct json *v)
{
    return cJSON_IsBool(in(v));
}

bool json_is_null(const struct json *v)
{
    return cJSON_IsNull(in(v));
}

/* -- getters -- */

const char *json_string_value(const struct json *v)
{
    return json_is_string(v) ? in(v)->valuestring : NULL;
}

double json_number_value(const struct json *v)
{
    return json_is_number(v) ? in(v)->valuedouble : 0;
}

bool json_bool_value(const struct json *v)
{
    return cJSON_IsTrue(in(v));
}

const char *json_str(const struct json *object, const char *key, const char *def)
{
    const char *s = json_string_value(json_get(object, key));
    return s ? s : def;
}

double json_num(const struct json *object, const char *key, double def)
{
    const struct json *v = json_get(object, key);
    return json_is_number(v) ? json_number_value(v) : def;
}

bool json_bool(const struct json *object, const char *key, bool def)
{
    const struct json *v = json_get(object, key);
    return json_is_bool(v) ? json_bool_value(v) : def;
}

int json_i64(const struct json *object, const char *key, int64_t *out, struct err *e)
{
    const struct json *v = json_get(object, key);
    if (!v)
        return err_set(e, ERR_DATA, "%s: missing", key);
    double d = json_number_value(v);
    if (!json_is_number(v) || d != trunc(d))
        return err_set(e, ERR_DATA, "%s: not a whole number", key);
    /* At 2^53 itself the text may have said 2^53 + 1. */
    if (fabs(d) >= EXACT_INT)
        return err_set(e, ERR_DATA, "%s: beyond 2^53", key);
    *out = (int64_t)d;
    return 0;
}

int64_t json_int(const struct json *object, const char *key, int64_t def)
{
    json_i64(object, key, &def, NULL);
    return def;
}

/* -- printing -- */

/* A string with its quotes. Bytes that are no UTF-8 become U+FFFD, so the text is JSON whatever
 * came in. */
static void add_string(struct buf *out, const char *s, size_t left)
{
    static const char names[] = "btn\0fr"; /* of 0x08 to 0x0d; 0x0b has none */
    buf_char(out, '"');
    while (left) {
        size_t run = 0; /* bytes that need no escape */
        for (size_t n; run < left && (unsigned char)s[run] >= 0x20 && s[run] != '"' &&
             s[run] != '\\' && (n = utf8_sequence(s + run, left - run)) > 0;)
            run += n;
        buf_add(out, s, run);
        s += run;
        left -= run;
        if (!left)
            break;
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c >= 8 && c <= 13 && names[c - 8])
            buf_printf(out, "\\%c", names[c - 8]);
        else if (c < 0x20)
            buf_printf(out, "\\u%04x", c);
        else
            buf_str(out, "\xef\xbf\xbd");
        s++;
        left--;
    }
    buf_char(out, '"');
}

static void add_number(struct buf *out, double v)
{
    if (!isfinite(v)) {
        buf_str(out, "null");
        return;
    }
    if (v == trunc(v) && fabs(v) <= EXACT_INT && !(v == 0 && signbit(v))) {
        buf_printf(out, "%lld", (long long)v);
        return;
    }
    /* Up to DBL_DIG digits a normal number survives the way to text and back, so fewer need no
     * trying. */
    char text[40];
    for (int digits = fabs(v) < DBL_MIN ? 1 : DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_str(out, text);
}

static int print(const cJSON *v, struct buf *out, int depth)
{
    if (cJSON_IsString(v)) {
        add_string(out, v->valuestring, strlen(v->valuestring));
    } else if (cJSON_IsNumber(v)) {
        add_number(out, v->valuedouble);
    } else if (!cJSON_IsObject(v) && !cJSON_IsArray(v)) {
        buf_str(out, cJSON_IsNull(v) ? "null" : cJSON_IsTrue(v) ? "true" : "false");
    } else {
        bool object = cJSON_IsObject(v);
        if (depth == JSON_DEPTH)
            return -ERR_DATA;
        buf_char(out, object ? '{' : '[');
        for (const cJSON *c = v->child; c; c = c->next) {
            if (c != v->child)
                buf_char(out, ',');
            if (object) {
                add_string(out, c->string, strlen(c->string));
                buf_char(out, ':');
            }
            int rc = print(c, out, depth + 1);
            if (rc)
                return rc;
        }
        buf_char(out, object ? '}' : ']');
    }
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}

int json_print(const struct json *v, struct buf *out)
{
    return print(in(v), out, 0);
}

/* -- the writer -- */

void jsonw_init(struct jsonw *w, struct buf *out)
{
    *w = (struct jsonw){.out = out};
}

/* Comma, key and colon before a value. Keys belong in objects and only there. */
static void before(struct jsonw *w, const char *key)
{
    assert(!w->depth || (w->close[w->depth - 1] == '}') == (key != NULL));
    assert(w->depth || (!key && !w->comma[0]));
    bool *comma = &w->comma[w->depth];
    if (*comma)
        buf_char(w->out, ',');
    *comma = true;
    if (key) {
        add_string(w->out, key, strlen(key));
        buf_char(w->out, ':');
    }
}

void jsonw_open(struct jsonw *w, const char *key, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    assert(w->depth + 1 < (int)sizeof w->close);
    before(w, key);
    buf_char(w->out, bracket);
    w->close[w->depth++] = bracket == '{' ? '}' : ']';
    w->comma[w->depth] = false;
}

void jsonw_close(struct jsonw *w)
{
    assert(w->depth);
    buf_char(w->out, w->close[--w->depth]);
}

void jsonw_str(struct jsonw *w, const char *key, const char *value)
{
    if (value)
        jsonw_strn(w, key, value, strlen(value));
    else
        jsonw_null(w, key);
}

void jsonw_strn(struct jsonw *w, const char *key, const char *value, size_t len)
{
    before(w, key);
    add_string(w->out, value, len);
}

void jsonw_int(struct jsonw *w, const char *key, int64_t value)
{
    before(w, key);
    buf_printf(w->out, "%lld", (long long)value);
}

void jsonw_num(struct jsonw *w, const char *key, double value)
{
    before(w, key);
    add_number(w->out, value);
}

void jsonw_bool(struct jsonw *w, const char *key, bool value)
{
    before(w, key);
    buf_str(w->out, value ? "true" : "false");
}

void jsonw_null(struct jsonw *w, const char *key)
{
    before(w, key);
    buf_str(w->out, "null");
}

void jsonw_raw(struct jsonw *w, const char *key, const char *json)
{
    before(w, key);
    buf_str(w->out, json);
}

int jsonw_end(struct jsonw *w)
{
    assert(!w->depth);
    return buf_ok(w->out) ? 0 : -ERR_MEMORY;
}
