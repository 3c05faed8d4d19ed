/*
 * fuzz_document: the first byte says of which kind the rest is a document. What is read is UTF-8,
 * its sections lie in order within the text, and cut into chunks it comes to an end, in time.
 */
#include "base/clock.h"
#include "base/utf8.h"
#include "runtime/retrieval/cut.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t count_bytes(void *user, const char *text, size_t len, struct err *e)
{
    (void)user;
    (void)text;
    (void)e;
    return (int64_t)len;
}

static void cut_all(const struct document *d)
{
    const struct cut_conf conf = {64, 16, count_bytes, NULL};
    struct cutter c = {.document = d};
    struct cut_chunk x;
    struct err e = {0};
    for (size_t chunks = 0; cut_next(&c, &conf, &x, &e) == 1; chunks++)
        if (x.from >= x.to || x.to > d->text.len || chunks > d->text.len)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct document d;
    struct err e = {0};
    if (!size)
        return 0;
    int64_t from = clock_thread_ms();
    enum document_kind kind = (enum document_kind)(DOCUMENT_TEXT + data[0] % 4);
    if (!document_read(kind, (const char *)data + 1, size - 1, &d, &e)) {
        size_t at = 0;
        if (utf8_valid_prefix(buf_cstr(&d.text), d.text.len) != d.text.len)
            abort();
        for (size_t i = 0; i < d.count; at = d.sections[i++].to)
            if (d.sections[i].from < at || d.sections[i].from + d.sections[i].title > d.text.len ||
                d.sections[i].to > d.text.len || d.sections[i].from >= d.sections[i].to)
                abort();
        cut_all(&d);
    }
    document_done(&d);
    if (clock_thread_ms() - from > 2000)
        abort();
    return 0;
}
