/*
 * fuzz_conll: any bytes as a CoNLL file. Must refuse with the file's name and a line that is in it,
 * or give words and labels that lie in the text in order, and sentences that are not empty.
 */
#include "runtime/data/conll.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t lines_of(const char *text, size_t size)
{
    int64_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

static void check_word(const struct conll_word *w, const char *from, const char *end)
{
    if (w->word < from || w->word_bytes < 1 || w->label < w->word + w->word_bytes ||
        w->label_bytes < 1 || w->label + w->label_bytes > end)
        abort();
    if (memchr(w->word, '\n', (size_t)(w->label + w->label_bytes - w->word)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *from = text;
    struct conll c;
    struct conll_word w = {0};
    struct err e = {0};
    int64_t words = 0, line = 0;
    int event;
    conll_begin(&c, "f.conll", text, size);
    while ((event = conll_next(&c, &w, &e)) > CONLL_END) {
        if (event == CONLL_SENTENCE && !words)
            abort();
        words = event == CONLL_WORD ? words + 1 : 0;
        if (event != CONLL_WORD)
            continue;
        check_word(&w, from, text + size);
        if (w.line <= line || w.line > lines_of(text, size))
            abort();
        from = w.label + w.label_bytes;
        line = w.line;
    }
    if (event < 0 ? !strstr(e.text, "f.conll: line ") : words != 0)
        abort();
    return 0;
}
