/*
 * log: formats one line on the stack and writes it with one write(2); nothing is allocated, so a
 * failure to allocate can still be told. A line longer than the buffer is cut at a field's end and
 * marked "cut". The only globals are the program's name, the level and the form, set once by main.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 8192
#define TAIL_BYTES \
    32 /* kept free for the mark of a cut line, the closing bracket and the newline */
#define VALUE_BYTES 4096 /* of one string value */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    const char *program;
    enum log_level level;
    bool json;
} setup = {"llmjob", LOG_INFO, false};

struct log_line {
    char text[LINE_BYTES];
    size_t len;
    bool full;
};

static void put(struct log_line *l, const char *s, size_t n)
{
    if (l->full || n > sizeof l->text - TAIL_BYTES - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static void put_str(struct log_line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* The inside of a JSON string. Text lines quote the same way, so that no value acts on the terminal
 * that shows them. */
static void put_escaped(struct log_line *l, const char *s)
{
    size_t left = strnlen(s, VALUE_BYTES);
    while (left) {
        char shown[UTF8_SHOWN_BYTES];
        size_t n = utf8_show(s, left, shown);
        if (*s == '"' || *s == '\\')
            put(l, (char[]){'\\', *s}, 2);
        else if (*s == '\n')
            put(l, "\\n", 2);
        else
            put_str(l, shown);
        s += n;
        left -= n;
    }
}

/* Shown as it is, without quotes. */
static bool plain(const char *s)
{
    size_t left = strnlen(s, VALUE_BYTES);
    for (const char *p = s; left;) {
        char shown[UTF8_SHOWN_BYTES];
        size_t n = utf8_show(p, left, shown);
        if (strncmp(p, shown, n) != 0 || shown[n] || strchr(" \"=\\", *p))
            return false;
        p += n;
        left -= n;
    }
    return *s != 0;
}

static void put_value(struct log_line *l, const struct log_field *f)
{
    char num[32];
    switch (f->kind) {
    case LOG_FIELD_INT:
        put(l, num, (size_t)snprintf(num, sizeof num, "%lld", (long long)f->i));
        return;
    case LOG_FIELD_NUM:
        if (setup.json && !isfinite(f->num))
            put_str(l, "null");
        else
            put(l, num, (size_t)snprintf(num, sizeof num, "%.6g", f->num));
        return;
    case LOG_FIELD_STR:
        break;
    }
    const char *s = f->str ? f->str : "";
    if (!setup.json && plain(s)) {
        put_str(l, s);
        return;
    }
    put_str(l, "\"");
    put_escaped(l, s);
    put_str(l, "\"");
}

/* A field is printed whole or not at all. */
static void put_field(struct log_line *l, const struct log_field *f)
{
    size_t before = l->len;
    put_str(l, setup.json ? ",\"" : " ");
    put_str(l, f->key);
    put_str(l, setup.json ? "\":" : "=");
    put_value(l, f);
    if (l->full)
        l->len = before;
}

static void put_head(struct log_line *l, enum log_level level, const char *message)
{
    int64_t now = clock_wall_ms();
    char when[32];
    clock_format(now, when, sizeof when);
    when[strlen(when) - 1] = 0; /* the Z comes after the milliseconds */
    char head[160];
    snprintf(head, sizeof head,
        setup.json ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"program\":\"%s\",\"message\":\""
                   : "%s.%03dZ %-5s %s: ",
        when, (int)(now % 1000), level_names[level], setup.program);
    put_str(l, head);
    put_escaped(l, message);
    if (setup.json)
        put_str(l, "\"");
}

static void write_all(const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(STDERR_FILENO, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) /* nobody to tell that stderr is gone */
            return;
        p += w;
        n -= (size_t)w;
    }
}

void log_line(enum log_level level, const char *message, const struct log_field *fields, size_t n)
{
    if (level < setup.level)
        return;
    struct log_line l;
    l.len = 0;
    l.full = false;
    put_head(&l, level, message);
    for (size_t i = 0; i < n && !l.full; i++)
        put_field(&l, &fields[i]);
    const char *tail =
        setup.json ? (l.full ? ",\"cut\":true}\n" : "}\n") : (l.full ? " cut=true\n" : "\n");
    memcpy(l.text + l.len, tail, strlen(tail)); /* TAIL_BYTES kept the room */
    write_all(l.text, l.len + strlen(tail));
}

void log_setup(const char *program, enum log_level level, bool json)
{
    setup.program = program;
    setup.level = level;
    setup.json = json;
}

int log_level_parse(const char *name, enum log_level *out, struct err *e)
{
    for (int i = 0; i <= LOG_ERROR; i++) {
        if (!strcmp(name, level_names[i])) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return err_set(e, ERR_USER, "log level \"%.40s\" is none of debug, info, warn, error", name);
}
