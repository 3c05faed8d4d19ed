/*
 * fuzz_document: the first byte says of which kind the rest is a document. What is read is UTF-8,
 * its sections lie in order within the text, and cut into chunks it comes to an end, in time. Of
 * some inputs the end is said over and over, since what does not end costs time in large files
 * alone.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/retrieval/cut.h"

#include <stdlib.h>
#include <string.h>

#define REPEATED ((size_t)1 << 18) /* bytes of a large file */
#define PART     12                /* of which it is made, at most */

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

/* Is it valid or not: it takes time by its size. */
static void read_repeated(enum document_kind kind, const char *text, size_t size)
{
    size_t n = size < PART ? size : PART;
    struct document d;
    struct err e = {0};
    mem_autofree char *large = mem_alloc(REPEATED);
    for (size_t at = 0; at + n <= REPEATED; at += n)
        memcpy(large + at, text + size - n, n);
    int64_t from = clock_thread_ms();
    document_read(kind, large, REPEATED / n * n, &d, &e);
    document_done(&d);
    if (clock_thread_ms() - from > 1000)
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
    if (size % 4 == 0)
        read_repeated(kind, (const char *)data + 1, size - 1);
    return 0;
}
