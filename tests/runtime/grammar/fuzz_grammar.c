/*
 * fuzz_grammar: any text as a JSON schema: refused, or compiled, and then two texts that it allows
 * are drawn, which must be JSON and be taken again.
 */
#include "base/json.h"
#include "base/mem.h"
#include "tests/runtime/grammar/walk.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_text(const struct automaton *a, const struct vocab *v, uint64_t seed)
{
    json_auto struct json *back = NULL;
    buf_auto struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 20);
    if (walk_draw(a, v, &seed, &text, &e))
        return;
    if (json_parse(buf_cstr(&text), text.len, &back, &e) || !walk_takes(a, text.data, text.len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab *v;
    mem_autofree char *schema = mem_strndup((const char *)data, size);
    struct automaton a;
    struct err e = {0};
    char path[128];
    if (!v && walk_vocab(&v, &e))
        abort();
    if (!walk_compile(schema, &a, path, &e)) {
        try_text(&a, NULL, size);
        try_text(&a, v, size + 1);
    }
    automaton_done(&a);
    return 0;
}
