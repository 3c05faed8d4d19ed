/*
 * fuzz_labelled: any bytes as a file of texts with labels, or of pairs; the first chooses. Must
 * refuse with the file's name, or give texts with a label each, or any number of labels, line by
 * line, and end.
 */
#include "runtime/data/labelled.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const char *text, int64_t bytes)
{
    if (bytes < 0)
        abort();
    for (volatile int64_t i = 0; i < bytes; i++)
        (void)((volatile const char *)text)[i];
}

static void check_text(const struct labelled_text *t, int64_t last, bool pairs)
{
    struct labelled_label at = {.name = NULL};
    int labels = 0;
    if (t->line <= last)
        abort();
    for (; !pairs && labelled_next_label(t, &at); labels++)
        if (at.bytes < 1 || at.bytes > LABELLED_LABEL_BYTES || memchr(at.name, 0, (size_t)at.bytes))
            abort();
    if (!pairs && !t->several && labels != 1)
        abort();
    read_all(t->text, t->text_bytes);
    if (t->second)
        read_all(t->second, t->second_bytes);
    if (pairs && !t->second)
        abort();
    if (!pairs)
        return;
    if (!isnan(t->value) && !(t->value >= 0 && t->value <= 1))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum data_format formats[] = {FORMAT_JSONL, FORMAT_CSV, FORMAT_TSV};
    struct labelled l;
    struct labelled_text t;
    struct err e = {0};
    int64_t line = 0;
    if (!size)
        return 0;
    bool pairs = data[0] / 3 % 2;
    const char *text = (const char *)data + 1;
    int more = labelled_begin(&l, "f.csv", formats[data[0] % 3], pairs, text, size - 1, &e);
    more = more ? more : 1;
    while (more > 0 && (more = labelled_next(&l, &t, &e)) > 0) {
        check_text(&t, line, pairs);
        line = t.line;
    }
    if (more < 0 && !strstr(e.text, "f.csv: "))
        abort();
    labelled_done(&l);
    return 0;
}
