/*
 * events: see events.h. Fields are told by number and depth; what a scalar or a restart has not,
 * the decoder takes for an error of the writer.
 */
#include "tests/runtime/events.h"

#include "base/io.h"

#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint32_t events_crc32c(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0x82f63b78u & -(c & 1));
    }
    return ~c;
}

static uint32_t unmask(uint32_t m)
{
    m -= 0xa282ead8u;
    return m >> 17 | m << 15;
}

static uint64_t varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
}

static void decode_histogram(const uint8_t *p, const uint8_t *end, struct event *e)
{
    double *const numbers[] = {&e->histogram.min, &e->histogram.max, &e->histogram.count,
        &e->histogram.sum, &e->histogram.squares};
    double last = -INFINITY, bound, count;
    for (size_t i = 0; i < 5; i++, p += 8) {
        ck_assert_uint_eq(varint(&p), (i + 1) << 3 | 1);
        memcpy(numbers[i], p, 8);
    }
    ck_assert_uint_eq(varint(&p), 6 << 3 | 2);
    uint64_t size = varint(&p);
    const uint8_t *counts = p + size;
    ck_assert_uint_eq(varint(&counts), 7 << 3 | 2);
    ck_assert_uint_eq(varint(&counts), size);
    ck_assert_ptr_eq(counts + size, end);
    for (uint64_t i = 0; i < size; i += 8) {
        memcpy(&bound, p + i, 8);
        memcpy(&count, counts + i, 8);
        ck_assert_double_gt(bound, last);
        last = bound;
        e->histogram.counted += count;
        e->histogram.bounds++;
    }
}

/* Of a tensor of one string: its type, its shape, the string. */
static void decode_text(const uint8_t *p, size_t n, struct event *e)
{
    static const uint8_t head[] = {0x08, 7, 0x12, 4, 0x12, 2, 0x08, 1, 0x42};
    const uint8_t *end = p + n;
    if (n < sizeof head || memcmp(p, head, sizeof head) != 0)
        return;
    p += sizeof head;
    uint64_t size = varint(&p);
    ck_assert_ptr_eq(p + size, end);
    memcpy(e->text, p, size < sizeof e->text ? size : sizeof e->text - 1);
}

/* Fields of Event, Summary and Value clash in their numbers only, so depth tells them apart. */
static void decode(const uint8_t *p, const uint8_t *end, int depth, struct event *e)
{
    while (p < end) {
        uint64_t tag = varint(&p), n;
        switch (tag & 7) {
        case 0:
            n = varint(&p);
            if (depth == 0)
                e->step = n;
            else
                e->start = n == 1;
            break;
        case 1:
            memcpy(&e->wall, p, 8);
            p += 8;
            break;
        case 5:
            memcpy(&e->value, p, 4);
            p += 4;
            break;
        default:
            n = varint(&p);
            if (depth == 0 && tag >> 3 == 3)
                memcpy(e->version, p, n);
            else if (depth == 2 && tag >> 3 == 1)
                memcpy(e->tag, p, n);
            else if (depth == 2 && tag >> 3 == 5)
                decode_histogram(p, p + n, e);
            else if (depth == 2 && tag >> 3 == 8)
                decode_text(p, n, e);
            else if (depth != 2) /* else of another plugin's value, whose tag is enough */
                decode(p, p + n, depth + 1, e);
            p += n;
        }
    }
    ck_assert_ptr_eq(p, end);
}

int events_read(const char *path, struct event *out, int room)
{
    struct io_map m;
    struct err e = {0};
    int count = 0;
    ck_assert_int_eq(io_map(path, &m, &e), 0);
    for (size_t at = 0; at < m.size; count++) {
        uint64_t n;
        uint32_t crc;
        ck_assert_int_lt(count, room);
        memcpy(&n, m.data + at, 8);
        memcpy(&crc, m.data + at + 8, 4);
        ck_assert_uint_eq(unmask(crc), events_crc32c(m.data + at, 8));
        ck_assert_uint_le(at + 16 + n, m.size);
        memcpy(&crc, m.data + at + 12 + n, 4);
        ck_assert_uint_eq(unmask(crc), events_crc32c(m.data + at + 12, n));
        out[count] = (struct event){0};
        decode(m.data + at + 12, m.data + at + 12 + n, 0, &out[count]);
        at += 16 + n;
    }
    io_unmap(&m);
    return count;
}

static int only_events(const struct dirent *d)
{
    return strstr(d->d_name, ".tfevents.") != NULL;
}

int events_shown(const char *folder, struct event *out, int room)
{
    static struct event file[4096];
    struct dirent **names;
    int files = scandir(folder, &names, only_events, alphasort), count = 0;
    ck_assert_int_gt(files, 0);
    for (int i = 0; i < files; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        int n = events_read(path, file, 4096);
        for (int k = 0; k < n; k++) {
            if (file[k].start) {
                int kept = 0;
                for (int j = 0; j < count; j++)
                    if (out[j].step < file[k].step)
                        out[kept++] = out[j];
                count = kept;
            } else if (*file[k].tag) {
                ck_assert_int_lt(count, room);
                out[count++] = file[k];
            }
        }
        free(names[i]);
    }
    free(names);
    return count;
}

int events_at(const struct event *events, int count, const char *tag, uint64_t step)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += events[i].step == step && !strcmp(events[i].tag, tag);
    return n;
}
