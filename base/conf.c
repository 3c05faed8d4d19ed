/*
 * conf: one pass collects the text of every item from the strongest source that names it, a second
 * turns all texts into values, and only then is the caller's struct written. Values from argv and
 * the environment are borrowed from there; strings from a file are kept until conf_done.
 */
#include "base/conf.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/yaml.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONF_ITEMS      64
#define CONF_FILE_BYTES (64 << 10)

static struct arena *kept; /* strings from a file */

struct choice {
    const char *text;   /* NULL: no source named it */
    const char *source; /* "flag", "LLMJOB_LISTEN", "conf.yaml", "default" */
    union {
        const char *str;
        int64_t i;
        double num;
        bool b;
    } value;
};

struct load {
    const struct conf_item *items;
    int count;
    struct choice choice[CONF_ITEMS];
    const char *file;
};

static int find(const struct load *l, const char *name, size_t len)
{
    for (int i = 0; i < l->count; i++)
        if (strlen(l->items[i].name) == len && !memcmp(l->items[i].name, name, len))
            return i;
    return -1;
}

/* Takes flags until the first plain argument; its index, 0 for --help, or -code. */
static int take_flags(struct load *l, int argc, char **argv, struct err *e)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        const char *arg = argv[at];
        if (!strcmp(arg, "--"))
            return at + 1;
        if (!strcmp(arg, "--help") || !strcmp(arg, "-h"))
            return 0;
        const char *name = arg[1] == '-' ? arg + 2 : "";
        size_t len = strcspn(name, "=");
        int i = find(l, name, len);
        bool config = len == 6 && !memcmp(name, "config", len);
        if (i < 0 && !config)
            return err_set(e, ERR_USER, "unknown flag %.80s; --help lists them", arg);
        const char *value = name[len] ? name + len + 1 : NULL;
        if (!value && i >= 0 && l->items[i].kind == CONF_BOOL)
            value = "true";
        if (!value && at + 1 == argc)
            return err_set(e, ERR_USER, "%.80s needs a value", arg);
        if (!value)
            value = argv[++at];
        if (config)
            l->file = value;
        if (i >= 0)
            l->choice[i] = (struct choice){.text = value, .source = "flag"};
    }
    return at;
}

static void take_environment(struct load *l)
{
    for (int i = 0; i < l->count; i++) {
        const char *name = l->items[i].env;
        const char *value = name ? getenv(name) : NULL;
        if (!l->choice[i].text && value)
            l->choice[i] = (struct choice){.text = value, .source = name};
    }
}

/* The text of a scalar, kept; NULL when out of memory. */
static const char *keep_text(const struct json *v)
{
    if (!kept && !(kept = arena_create(2 * CONF_FILE_BYTES)))
        return NULL;
    if (json_is_string(v))
        return arena_strdup(kept, json_string_value(v));
    buf_auto struct buf text;
    buf_init(&text, 64);
    return json_print(v, &text) ? NULL : arena_strdup(kept, buf_cstr(&text));
}

static int take_map(struct load *l, const struct json *map, struct err *e)
{
    json_each (v, map) {
        int i = find(l, json_key(v), strlen(json_key(v)));
        if (i < 0)
            return err_set(e, ERR_USER, "%s: unknown name \"%.80s\"", l->file, json_key(v));
        if (json_is_object(v) || json_is_array(v))
            return err_set(e, ERR_USER, "%s: %s must be one value", l->file, json_key(v));
        if (l->choice[i].text || json_is_null(v))
            continue;
        const char *text = keep_text(v);
        if (!text)
            return err_set(e, ERR_MEMORY, "%s: out of memory", l->file);
        l->choice[i] = (struct choice){.text = text, .source = l->file};
    }
    return 0;
}

static int take_file(struct load *l, struct err *e)
{
    if (!l->file)
        return 0;
    json_auto struct json *documents = NULL;
    struct err why;
    int rc = yaml_read_file(l->file, CONF_FILE_BYTES, &documents, &why);
    if (rc)
        return err_set(e, why.code == ERR_DATA ? ERR_USER : why.code, "%s", why.text);
    const struct json *map = json_first(documents);
    if (json_count(documents) > 1 || (map && !json_is_object(map) && !json_is_null(map)))
        return err_set(e, ERR_USER, "%s: one map of names and values is expected", l->file);
    return take_map(l, map, e);
}

static int bad_value(
    const struct choice *c, const struct conf_item *item, const char *want, struct err *e)
{
    return err_set(
        e, ERR_USER, "%s: \"%.80s\" is not %s (from %s)", item->name, c->text, want, c->source);
}

static int convert(const struct conf_item *item, struct choice *c, struct err *e)
{
    char *end;
    errno = 0;
    switch (item->kind) {
    case CONF_STR:
        c->value.str = c->text;
        return 0;
    case CONF_INT:
        c->value.i = strtoll(c->text, &end, 10);
        return errno || end == c->text || *end ? bad_value(c, item, "a whole number", e) : 0;
    case CONF_NUM:
        c->value.num = strtod(c->text, &end);
        return end == c->text || *end || !isfinite(c->value.num) ? bad_value(c, item, "a number", e)
                                                                 : 0;
    case CONF_BOOL:
        c->value.b = !strcmp(c->text, "true") || !strcmp(c->text, "1");
        return c->value.b || !strcmp(c->text, "false") || !strcmp(c->text, "0")
            ? 0
            : bad_value(c, item, "true or false", e);
    }
    return err_set(e, ERR_BUG, "%s: no such kind", item->name);
}

static void store(const struct load *l, void *out)
{
    static const size_t size[] = {
        [CONF_STR] = sizeof(const char *),
        [CONF_INT] = sizeof(int64_t),
        [CONF_NUM] = sizeof(double),
        [CONF_BOOL] = sizeof(bool),
    };
    for (int i = 0; i < l->count; i++)
        memcpy((char *)out + l->items[i].offset, &l->choice[i].value, size[l->items[i].kind]);
}

static void print_help(const struct conf_item *items, const char *usage)
{
    static const char *const kinds[] = {" <text>", " <int>", " <number>", ""};
    printf("Usage: %s\n\n", usage);
    for (const struct conf_item *i = items; i->name; i++) {
        int n = printf("  --%s%s", i->name, kinds[i->kind]);
        printf("%*s%s", n < 30 ? 30 - n : 1, "", i->help);
        if (i->env)
            printf(" [%s]", i->env);
        if (i->def && *i->def)
            printf(" (default %s)", i->def);
        printf("\n");
    }
    printf("  --config <file>             a YAML map of these names\n");
}

int conf_load(const struct conf_item *items, int argc, char **argv, void *out, struct err *e)
{
    struct load l = {.items = items};
    while (items[l.count].name)
        l.count++;
    assert(l.count <= CONF_ITEMS);
    int at = take_flags(&l, argc, argv, e);
    if (!at)
        print_help(items, argv[0]);
    if (at <= 0)
        return at;
    take_environment(&l);
    int rc = take_file(&l, e);
    for (int i = 0; !rc && i < l.count; i++) {
        struct choice *c = &l.choice[i];
        if (!c->text && items[i].def)
            *c = (struct choice){.text = items[i].def, .source = "default"};
        rc = c->text ? convert(&items[i], c, e) : 0;
    }
    if (rc)
        return rc;
    store(&l, out);
    return at;
}

void conf_done(void)
{
    arena_destroy(kept);
    kept = NULL;
}
