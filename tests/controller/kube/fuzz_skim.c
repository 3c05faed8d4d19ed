/*
 * Goal: whatever bytes a server or an agent sends, skim and split stay inside them, and what skim
 * cuts out changes nothing else: a text that parses still parses, with the same names. Method: each
 * input as an object, an event, a report, an answer and a stream in two pieces.
 */
#include "base/json.h"
#include "base/mem.h"
#include "controller/kube/skim.h"
#include "controller/kube/split.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* In a block of just its size, so that a sanitizer sees a step too far. */
static char *copy_of(const char *text, size_t len)
{
    char *copy = mem_alloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

static void check_object(const char *text, size_t len, bool watch)
{
    mem_autofree char *copy = copy_of(text, len);
    json_auto struct json *before = NULL, *after = NULL;
    struct skim s;
    size_t left = skim_object(copy, len, watch, &s);
    must(left <= len && strlen(s.name) < sizeof s.name);
    if (json_parse(text, len, &before, NULL))
        return;
    must(!json_parse(copy, left, &after, NULL));
    const struct json *b = watch ? json_get(before, "object") : before;
    const struct json *a = watch ? json_get(after, "object") : after;
    must(json_count(b) == json_count(a));
    const char *name = json_str(json_get(b, "metadata"), "name", "");
    must(!*s.name || !strcmp(s.name, name));
    must(!strcmp(name, json_str(json_get(a, "metadata"), "name", "")));
}

static void check_report(const char *text, size_t len)
{
    static const char *const names[] = {"ranks", NULL};
    json_auto struct json *before = NULL, *after = NULL;
    buf_auto struct buf out;
    buf_init(&out, 4 << 20);
    must(!skim_without(text, len, names, &out));
    if (json_parse(text, len, &before, NULL))
        return;
    must(!json_parse(buf_cstr(&out), out.len, &after, NULL));
    must(json_count(before) == json_count(after));
}

static int take(void *user, enum split_piece kind, char *text, size_t len)
{
    (void)user;
    must(text[len] == 0 && len <= 1000 && (kind != SPLIT_HEAD || len == 1000));
    return 0;
}

static void check_stream(const char *text, size_t len, enum split_mode mode)
{
    struct split s;
    struct err e;
    split_init(&s, mode, 1000, take, NULL);
    if (!split_feed(&s, text, len / 2, &e))
        split_feed(&s, text + len / 2, len - len / 2, &e);
    split_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mem_autofree char *text = copy_of((const char *)data, size);
    check_object(text, size, false);
    check_object(text, size, true);
    check_report(text, size);
    skim_version(text, size);
    check_stream(text, size, SPLIT_LIST);
    check_stream(text, size, SPLIT_WATCH);
    return 0;
}
