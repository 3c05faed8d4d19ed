/*
 * skim: a walk over members by the rules of JSON's brackets and strings alone, with no stack: what
 * is looked at lies at most three objects deep, everything deeper is stepped over by counting. Cuts
 * are remembered and made at the end, from the front to the back. Values are copied as they are
 * written: what holds an escape or another character than names have is no name.
 */
#include "controller/kube/skim.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CUTS 8

struct walk {
    char *text, *p, *end;
    struct {
        char *from, *to;
    } cuts[CUTS];
    int cut_count;
    unsigned seen; /* bits of enum once */
};

/* The first of a key counts, as for the parser, whether or not it is of any use. */
enum once { NAME = 1, NAMESPACE = 2, UID = 4, VERSION = 8, TYPE = 16, METADATA = 32, OBJECT = 64 };

static bool take_first(struct walk *w, enum once what)
{
    bool first = !(w->seen & what);
    w->seen |= what;
    return first;
}

struct skim_member { /* key without its quotes; value as written */
    const char *key;
    size_t key_len;
    char *value, *value_end;
};

static bool skip_space_to(struct walk *w, char c)
{
    while (w->p < w->end && isspace((unsigned char)*w->p))
        w->p++;
    return w->p < w->end && *w->p == c;
}

/* From the opening quote to behind the closing one. */
static bool step_over_string(struct walk *w)
{
    for (w->p++; w->p < w->end; w->p++) {
        if (*w->p == '\\')
            w->p++;
        else if (*w->p == '"')
            break;
    }
    if (w->p >= w->end) {
        w->p = w->end;
        return false;
    }
    w->p++;
    return true;
}

/* False where the text ends inside the value. */
static bool step_over_value(struct walk *w)
{
    size_t depth = 0;
    while (w->p < w->end) {
        char c = *w->p;
        if (c == '"') {
            if (!step_over_string(w))
                return false;
            if (!depth)
                return true;
            continue;
        }
        if (!depth && (c == ',' || c == '}' || c == ']'))
            return true;
        w->p++;
        depth += c == '{' || c == '[';
        if ((c == '}' || c == ']') && !--depth)
            return true;
    }
    return false;
}

/* The next member of the object that w stands in; false: none, or nothing that looks like one. The
 * value is not stepped over. */
static bool next_member(struct walk *w, struct skim_member *m)
{
    if (skip_space_to(w, ','))
        w->p++;
    if (!skip_space_to(w, '"'))
        return false;
    m->key = w->p + 1;
    if (!step_over_string(w))
        return false;
    m->key_len = (size_t)(w->p - 1 - m->key);
    if (!skip_space_to(w, ':'))
        return false;
    w->p++;
    skip_space_to(w, 0);
    m->value = w->p;
    return w->p < w->end;
}

static bool is_key(const struct skim_member *m, const char *key)
{
    return m->key_len == strlen(key) && !memcmp(m->key, key, m->key_len);
}

/* The value, when it is a string that a name can be. */
static void keep_name(
    struct walk *w, enum once what, const struct skim_member *m, char *out, size_t size)
{
    size_t n = (size_t)(m->value_end - m->value);
    if (!take_first(w, what) || n < 2 || *m->value != '"' || n - 2 >= size)
        return;
    for (size_t i = 1; i + 1 < n; i++)
        if (!isalnum((unsigned char)m->value[i]) && !strchr("-_.:", m->value[i]))
            return;
    memcpy(out, m->value + 1, n - 2);
    out[n - 2] = 0;
}

static void cut_value(struct walk *w, const struct skim_member *m)
{
    if (w->cut_count == CUTS || m->value_end - m->value < 2)
        return;
    memcpy(m->value, "[]", 2);
    w->cuts[w->cut_count].from = m->value + 2;
    w->cuts[w->cut_count++].to = m->value_end;
}

static size_t make_cuts(struct walk *w)
{
    if (!w->cut_count)
        return (size_t)(w->end - w->text);
    char *to = w->cuts[0].from;
    for (int i = 0; i < w->cut_count; i++) {
        char *from = w->cuts[i].to;
        char *stop = i + 1 < w->cut_count ? w->cuts[i + 1].from : w->end;
        memmove(to, from, (size_t)(stop - from));
        to += stop - from;
    }
    *to = 0;
    return (size_t)(to - w->text);
}

static void skim_metadata(struct walk *w, struct skim *out)
{
    struct skim_member m;
    w->p++;
    while (next_member(w, &m)) {
        if (!step_over_value(w))
            return;
        m.value_end = w->p;
        if (is_key(&m, "managedFields") || is_key(&m, "annotations"))
            cut_value(w, &m);
        else if (is_key(&m, "name"))
            keep_name(w, NAME, &m, out->name, sizeof out->name);
        else if (is_key(&m, "namespace"))
            keep_name(w, NAMESPACE, &m, out->namespace_, sizeof out->namespace_);
        else if (is_key(&m, "uid"))
            keep_name(w, UID, &m, out->uid, sizeof out->uid);
        else if (is_key(&m, "resourceVersion"))
            keep_name(w, VERSION, &m, out->version, sizeof out->version);
    }
    if (skip_space_to(w, '}'))
        w->p++;
}

/* spec or status: of pods and nodes the greater part, which nothing here needs. */
static void skim_section(struct walk *w)
{
    static const char *const unneeded[] = {
        "containers", "initContainers", "volumes", "tolerations", "images"};
    struct skim_member m;
    w->p++;
    while (next_member(w, &m)) {
        if (!step_over_value(w))
            return;
        m.value_end = w->p;
        for (size_t i = 0; i < sizeof unneeded / sizeof *unneeded; i++)
            if (is_key(&m, unneeded[i]))
                cut_value(w, &m);
    }
    if (skip_space_to(w, '}'))
        w->p++;
}

static void skim_members(struct walk *w, bool watch, struct skim *out)
{
    struct skim_member m;
    const char *inner = watch ? "object" : "metadata";
    if (!skip_space_to(w, '{'))
        return;
    w->p++;
    while (next_member(w, &m)) {
        bool object =
            is_key(&m, inner) && take_first(w, watch ? OBJECT : METADATA) && *m.value == '{';
        if (object && !watch) {
            skim_metadata(w, out);
        } else if (object) {
            skim_members(w, false, out); /* once: an object has no events in it */
        } else if (!watch && *m.value == '{' && (is_key(&m, "spec") || is_key(&m, "status"))) {
            skim_section(w);
        } else {
            if (!step_over_value(w))
                return;
            m.value_end = w->p;
            if (watch && is_key(&m, "type"))
                keep_name(w, TYPE, &m, out->type, sizeof out->type);
        }
    }
    if (skip_space_to(w, '}'))
        w->p++;
}

size_t skim_object(char *text, size_t len, bool watch, struct skim *out)
{
    struct walk w = {.text = text, .p = text, .end = text + len};
    memset(out, 0, sizeof *out);
    skim_members(&w, watch, out);
    return make_cuts(&w);
}

int skim_without(const char *text, size_t len, const char *const *names, struct buf *out)
{
    struct walk w = {.p = (char *)text, .end = (char *)text + len};
    struct skim_member m;
    const char *from = text;
    w.p += skip_space_to(&w, '{');
    while (next_member(&w, &m) && step_over_value(&w))
        for (const char *const *name = names; *name; name++)
            if (is_key(&m, *name)) {
                buf_add(out, from, (size_t)(m.value - from));
                buf_str(out, "[]");
                from = w.p;
            }
    return buf_add(out, from, (size_t)(text + len - from));
}

uint64_t skim_version(const char *text, size_t len)
{
    struct walk w = {.p = (char *)text, .end = (char *)text + len};
    struct skim_member m, v;
    if (!skip_space_to(&w, '{'))
        return 0;
    w.p++;
    while (next_member(&w, &m)) {
        if (!is_key(&m, "metadata") || *m.value != '{') {
            if (!step_over_value(&w))
                return 0;
            continue;
        }
        w.p++;
        while (next_member(&w, &v) && step_over_value(&w))
            if (is_key(&v, "resourceVersion") && *v.value == '"')
                return strtoull(v.value + 1, NULL, 10);
        return 0;
    }
    return 0;
}
