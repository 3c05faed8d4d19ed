/*
 * Goal: whatever a model writes, its calls are ones that a client can read, no word is lost where
 * there are none, and where the text is cut changes nothing. Method: the input as an answer in each
 * form, whole and byte by byte; the arguments are parsed again.
 */
#include "agent/calls.h"

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

static void feed(struct calls *c, enum wire_calls form, const char *text, size_t size, size_t step)
{
    calls_init(c, form, CALLS_MOST);
    for (size_t at = 0; at < size; at += step)
        must(!calls_add(c, text + at, size - at < step ? size - at : step));
    must(!calls_end(c));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    for (enum wire_calls form = 0; form < WIRE_CALLS_FORMS; form++) {
        struct calls whole, bytes;
        feed(&whole, form, text, size, size + 1);
        feed(&bytes, form, text, size, 1);
        must(whole.count == bytes.count && whole.text.len == bytes.text.len);
        must(!whole.text.len || !memcmp(whole.text.data, bytes.text.data, whole.text.len));
        must(whole.count || (whole.text.len == size && !memcmp(buf_cstr(&whole.text), text, size)));
        for (int i = 0; i < whole.count; i++) {
            json_auto struct json *v = NULL;
            const char *arguments = whole.call[i].arguments;
            must(!strcmp(whole.call[i].name, bytes.call[i].name));
            must(!strcmp(arguments, bytes.call[i].arguments));
            must(!json_parse(arguments, strlen(arguments), &v, NULL) && json_is_object(v));
        }
        calls_done(&whole);
        calls_done(&bytes);
    }
    return 0;
}
