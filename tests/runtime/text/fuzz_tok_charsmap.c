/*
 * fuzz_tok_charsmap: any bytes as SentencePiece's table of characters, applied to a text: what
 * comes of it must be UTF-8 when the table was checked, and nothing outside is read.
 */
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_charsmap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "abA\xc3\x89 e\xcc\x81\xef\xac\x81\r\nx\xf0\x9f\x98\x80"
                               "b\xcc\x81\xe3\x80\x80";
    struct tok_steps steps = {.count = 1};
    const char *out;
    size_t len;
    void *owned;
    struct err e = {0};
    mem_autofree char *copy = mem_alloc(size ? size : 1); /* ends where data does */
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (!tok_charsmap_check((struct tok_text){copy, size}))
        return 0;
    for (int longest = 0; longest < 2; longest++) {
        steps.list[0] = (struct tok_step){
            .kind = longest ? TOK_STEP_LONGEST : TOK_STEP_CHARSMAP, .from = {copy, size}};
        if (tok_steps_run(&steps, text, sizeof text - 1, &out, &len, &owned, &e))
            continue;
        if (utf8_valid_prefix(out, len) != len)
            abort();
        mem_free(owned);
    }
    return 0;
}
