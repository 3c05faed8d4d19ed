/*
 * Goal: json_parse takes any bytes without harm, and what it takes survives printing and reading
 * again. Method: parse; print, parse and print once more; the input as a string value must always
 * give valid JSON.
 */
#include "base/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void print_twice(const struct json *v)
{
    buf_auto struct buf once, twice;
    buf_init(&once, 4 << 20);
    buf_init(&twice, 4 << 20);
    must(!json_print(v, &once));
    json_auto struct json *again = NULL;
    must(!json_parse(once.data, once.len, &again, NULL));
    must(!json_print(again, &twice));
    must(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    int rc = json_parse((const char *)data, size, &v, &e);
    must(rc ? !v && e.code == ERR_DATA : v != NULL);
    if (v)
        print_twice(v);
    buf_auto struct buf b;
    struct jsonw w;
    buf_init(&b, 4 << 20);
    jsonw_init(&w, &b);
    jsonw_strn(&w, NULL, (const char *)data, size);
    must(!jsonw_end(&w));
    json_auto struct json *string = NULL;
    /* A NUL is written as an escape, which reading refuses. */
    rc = json_parse(b.data, b.len, &string, NULL);
    must(!rc || memchr(data, 0, size));
    return 0;
}
