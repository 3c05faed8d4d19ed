/*
 * tensorboard: the fields of tensorflow's Event that values and a restart need, encoded by hand.
 * Records gather in a buffer and go out whole, so a reader never sees half of one but at a crash,
 * which the format allows at the end of a file. A restart is a SessionLog of status START: readers
 * then drop what they have of its step and later ones. Called by train.c on rank 0 at step
 * boundaries.
 */
#include "runtime/train/tensorboard.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/mem.h"
#include "base/number.h"

#include <dirent.h>
#include <unistd.h>

#define PENDING_LIMIT (1 << 20) /* bytes; written out at half of it */
#define EVENT_LIMIT   4096
#define VALUE_LIMIT   (256 << 10) /* of a histogram or a text */
#define SECOND_MAX    9999999999  /* ten digits sort as numbers do */

/* Protobuf tags: field number << 3 | wire type (0 varint, 1 fixed 64, 2 bytes, 5 fixed 32). */
enum {
    EVENT_WALL_TIME = 1 << 3 | 1,
    EVENT_STEP = 2 << 3 | 0,
    EVENT_FILE_VERSION = 3 << 3 | 2,
    EVENT_SUMMARY = 5 << 3 | 2,
    EVENT_SESSION_LOG = 7 << 3 | 2,
    SUMMARY_VALUE = 1 << 3 | 2,
    VALUE_TAG = 1 << 3 | 2,
    VALUE_SIMPLE_VALUE = 2 << 3 | 5,
    VALUE_HISTOGRAM = 5 << 3 | 2,
    VALUE_TENSOR = 8 << 3 | 2,
    VALUE_METADATA = 9 << 3 | 2,
    METADATA_PLUGIN = 1 << 3 | 2,
    PLUGIN_NAME = 1 << 3 | 2,
    PLUGIN_CONTENT = 2 << 3 | 2,
    HPARAMS_SESSION = 3 << 3 | 2,
    SESSION_NUMBERS = 1 << 3 | 2, /* a map: entries */
    ENTRY_KEY = 1 << 3 | 2,
    ENTRY_VALUE = 2 << 3 | 2,
    STRUCT_NUMBER = 2 << 3 | 1,
    HISTOGRAM_MIN = 1 << 3 | 1,
    HISTOGRAM_MAX = 2 << 3 | 1,
    HISTOGRAM_COUNT = 3 << 3 | 1,
    HISTOGRAM_SUM = 4 << 3 | 1,
    HISTOGRAM_SQUARES = 5 << 3 | 1,
    HISTOGRAM_BOUNDS = 6 << 3 | 2,
    HISTOGRAM_COUNTS = 7 << 3 | 2,
    TENSOR_TYPE = 1 << 3 | 0,
    TENSOR_SHAPE = 2 << 3 | 2,
    TENSOR_STRINGS = 8 << 3 | 2,
    TYPE_STRING = 7,
    SESSION_STATUS = 1 << 3 | 0,
    SESSION_START = 1,
};

struct tensorboard {
    int fd;
    struct buf pending;
    uint32_t crc[256];
};

static void make_crc_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1; /* Castagnoli, reflected */
        table[i] = c;
    }
}

/* TFRecord stores CRC-32C rotated and shifted, so that a record may hold CRCs itself. */
static uint32_t masked_crc(const struct tensorboard *t, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < size; i++)
        c = t->crc[(c ^ p[i]) & 0xff] ^ c >> 8;
    c = ~c;
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_char(b, (char)(v | 0x80));
    buf_char(b, (char)v);
}

static void put_bytes(struct buf *b, int tag, const void *data, size_t size)
{
    put_varint(b, (uint64_t)tag);
    put_varint(b, size);
    buf_add(b, data, size);
}

static int put_record(struct tensorboard *t, const struct buf *event, struct err *e)
{
    uint64_t size = event->len;
    uint32_t crc = masked_crc(t, &size, sizeof size);
    buf_add(&t->pending, &size, sizeof size);
    buf_add(&t->pending, &crc, sizeof crc);
    buf_add(&t->pending, event->data, event->len);
    crc = masked_crc(t, event->data, event->len);
    buf_add(&t->pending, &crc, sizeof crc);
    if (!buf_ok(event) || !buf_ok(&t->pending))
        return err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
    return t->pending.len > PENDING_LIMIT / 2 ? tensorboard_flush(t, e) : 0;
}

static void put_time(struct buf *event)
{
    double seconds = (double)clock_wall_ms() / 1e3;
    put_varint(event, EVENT_WALL_TIME);
    buf_add(event, &seconds, sizeof seconds);
}

/* Readers go through the files of a folder by name: a clock behind the last writer's, or a restart
 * within its second, must not put this one before that. */
static int64_t next_second(const char *folder)
{
    static const char stem[] = "events.out.tfevents.";
    int64_t newest = clock_wall_ms() / 1000 - 1, second;
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        const char *digits = f->d_name + sizeof stem - 1;
        if (!strncmp(f->d_name, stem, sizeof stem - 1) &&
            number_whole(digits, strcspn(digits, "."), SECOND_MAX - 1, &second) && second > newest)
            newest = second;
    }
    if (d)
        closedir(d);
    return newest + 1;
}

static int open_file(struct tensorboard *t, const char *folder, int64_t incarnation, struct err *e)
{
    char host[64] = "host", path[LIMIT_PATH_BYTES];
    int rc = io_mkdirs(folder, 0755, e);
    if (rc)
        return rc;
    gethostname(host, sizeof host - 1);
    if (snprintf(path, sizeof path, "%s/events.out.tfevents.%010lld.%s.%lld", folder,
            (long long)next_second(folder), host, (long long)incarnation) >= (int)sizeof path)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    t->fd = io_create(path, 0644, e);
    return t->fd < 0 ? t->fd : 0;
}

static int put_start(struct tensorboard *t, int64_t first_step, struct err *e)
{
    static const char version[] = "brain.Event:2";
    buf_auto struct buf event, start;
    buf_init(&event, EVENT_LIMIT);
    buf_init(&start, EVENT_LIMIT);
    put_time(&event);
    put_bytes(&event, EVENT_FILE_VERSION, version, sizeof version - 1);
    int rc = put_record(t, &event, e);
    buf_reset(&event);
    put_varint(&start, SESSION_STATUS);
    put_varint(&start, SESSION_START);
    put_time(&event);
    put_varint(&event, EVENT_STEP);
    put_varint(&event, (uint64_t)first_step);
    put_bytes(&event, EVENT_SESSION_LOG, buf_cstr(&start), start.len);
    if (!rc && !buf_ok(&start))
        rc = err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
    return rc ? rc : put_record(t, &event, e);
}

int tensorboard_create(const char *folder, int64_t incarnation, int64_t first_step,
    struct tensorboard **out, struct err *e)
{
    struct tensorboard *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for a TensorBoard writer");
    t->fd = -1;
    buf_init(&t->pending, PENDING_LIMIT);
    make_crc_table(t->crc);
    int rc;
    if ((rc = open_file(t, folder, incarnation, e)) || (rc = put_start(t, first_step, e)) ||
        (rc = tensorboard_flush(t, e))) {
        tensorboard_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

/* -- values -- */

static int put_value(struct tensorboard *t, int64_t step, const struct buf *value, struct err *e)
{
    buf_auto struct buf summary, event;
    buf_init(&summary, VALUE_LIMIT);
    buf_init(&event, VALUE_LIMIT);
    put_bytes(&summary, SUMMARY_VALUE, buf_cstr(value), value->len);
    put_time(&event);
    put_varint(&event, EVENT_STEP);
    put_varint(&event, (uint64_t)step);
    put_bytes(&event, EVENT_SUMMARY, buf_cstr(&summary), summary.len);
    if (!buf_ok(value) || !buf_ok(&summary))
        return err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
    return put_record(t, &event, e);
}

int tensorboard_scalar(
    struct tensorboard *t, const char *tag, int64_t step, double value, struct err *e)
{
    float simple = (float)value;
    buf_auto struct buf inner;
    buf_init(&inner, EVENT_LIMIT);
    put_bytes(&inner, VALUE_TAG, tag, strlen(tag));
    put_varint(&inner, VALUE_SIMPLE_VALUE);
    buf_add(&inner, &simple, sizeof simple);
    return put_value(t, step, &inner, e);
}

static void put_double(struct buf *b, int tag, double v)
{
    put_varint(b, (uint64_t)tag);
    buf_add(b, &v, sizeof v);
}

int tensorboard_histogram(
    struct tensorboard *t, const char *tag, int64_t step, const struct histogram *h, struct err *e)
{
    double bounds[HISTOGRAM_BUCKETS], counts[HISTOGRAM_BUCKETS];
    int n = histogram_buckets(h, bounds, counts);
    buf_auto struct buf inner, value;
    buf_init(&inner, VALUE_LIMIT);
    buf_init(&value, VALUE_LIMIT);
    put_double(&inner, HISTOGRAM_MIN, h->min);
    put_double(&inner, HISTOGRAM_MAX, h->max);
    put_double(&inner, HISTOGRAM_COUNT, (double)h->count);
    put_double(&inner, HISTOGRAM_SUM, h->sum);
    put_double(&inner, HISTOGRAM_SQUARES, h->squares);
    put_bytes(&inner, HISTOGRAM_BOUNDS, bounds, (size_t)n * sizeof *bounds);
    put_bytes(&inner, HISTOGRAM_COUNTS, counts, (size_t)n * sizeof *counts);
    put_bytes(&value, VALUE_TAG, tag, strlen(tag));
    put_bytes(&value, VALUE_HISTOGRAM, buf_cstr(&inner), inner.len);
    if (!buf_ok(&inner))
        return err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
    return put_value(t, step, &value, e);
}

/* A tensor of one string. */
int tensorboard_text(
    struct tensorboard *t, const char *tag, int64_t step, const char *text, struct err *e)
{
    static const char plugin[] = "\x0a\x04text"; /* its name */
    static const uint8_t one[] = {0x12, 2, 0x08, 1};
    buf_auto struct buf inner, metadata, value;
    buf_init(&inner, VALUE_LIMIT);
    buf_init(&metadata, EVENT_LIMIT);
    buf_init(&value, VALUE_LIMIT);
    put_varint(&inner, TENSOR_TYPE);
    put_varint(&inner, TYPE_STRING);
    put_bytes(&inner, TENSOR_SHAPE, one, sizeof one);
    put_bytes(&inner, TENSOR_STRINGS, text, strlen(text));
    put_bytes(&metadata, METADATA_PLUGIN, plugin, sizeof plugin - 1);
    put_bytes(&value, VALUE_TAG, tag, strlen(tag));
    put_bytes(&value, VALUE_TENSOR, buf_cstr(&inner), inner.len);
    put_bytes(&value, VALUE_METADATA, buf_cstr(&metadata), metadata.len);
    if (!buf_ok(&inner) || !buf_ok(&metadata))
        return err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
    return put_value(t, step, &value, e);
}

struct nest { /* messages within messages; whole: none has failed */
    struct buf inner, entry, session;
    bool whole;
};

/* The bytes of `inner` become a field of `outer`, and make room for the next. */
static void put_message(struct nest *m, struct buf *outer, int tag, struct buf *inner)
{
    m->whole &= buf_ok(inner);
    put_bytes(outer, tag, buf_cstr(inner), inner->len);
    buf_reset(inner);
}

/* The tag is what readers look for; the tensor, a float of 0, must be there and says nothing. */
static void put_numbers(
    struct nest *m, struct buf *value, const struct tensorboard_number *numbers, int count)
{
    static const char tag[] = "_hparams_/session_start_info", plugin[] = "hparams";
    static const uint8_t nothing[] = {0x08, 1, 0x12, 0, 0x2a, 4, 0, 0, 0, 0};
    for (int i = 0; i < count; i++) {
        put_varint(&m->inner, STRUCT_NUMBER);
        buf_add(&m->inner, &numbers[i].value, sizeof numbers[i].value);
        put_bytes(&m->entry, ENTRY_KEY, numbers[i].name, strlen(numbers[i].name));
        put_message(m, &m->entry, ENTRY_VALUE, &m->inner);
        put_message(m, &m->session, SESSION_NUMBERS, &m->entry);
    }
    put_message(m, &m->inner, HPARAMS_SESSION, &m->session);
    put_bytes(&m->entry, PLUGIN_NAME, plugin, sizeof plugin - 1);
    put_message(m, &m->entry, PLUGIN_CONTENT, &m->inner);
    put_message(m, &m->session, METADATA_PLUGIN, &m->entry);
    put_bytes(value, VALUE_TAG, tag, sizeof tag - 1);
    put_bytes(value, VALUE_TENSOR, nothing, sizeof nothing);
    put_message(m, value, VALUE_METADATA, &m->session);
}

int tensorboard_numbers(
    struct tensorboard *t, const struct tensorboard_number *numbers, int count, struct err *e)
{
    struct nest m = {.whole = true};
    buf_auto struct buf value;
    buf_init(&m.inner, EVENT_LIMIT);
    buf_init(&m.entry, EVENT_LIMIT);
    buf_init(&m.session, EVENT_LIMIT);
    buf_init(&value, EVENT_LIMIT);
    put_numbers(&m, &value, numbers, count);
    buf_done(&m.inner);
    buf_done(&m.entry);
    buf_done(&m.session);
    return m.whole ? put_value(t, 0, &value, e)
                   : err_set(e, ERR_MEMORY, "no memory for a TensorBoard event");
}

int tensorboard_flush(struct tensorboard *t, struct err *e)
{
    int rc = io_write_full(t->fd, buf_cstr(&t->pending), t->pending.len, e);
    buf_reset(&t->pending); /* part of it may be out: written again it would not be read */
    return rc ? err_wrap(e, "TensorBoard event file") : 0;
}

int tensorboard_sync(struct tensorboard *t, struct err *e)
{
    int rc = tensorboard_flush(t, e);
    return rc ? rc : io_fsync(t->fd, e);
}

int tensorboard_fd(const struct tensorboard *t)
{
    return t->fd;
}

void tensorboard_close(struct tensorboard *t)
{
    if (!t)
        return;
    if (t->fd >= 0 && t->pending.len)
        tensorboard_flush(t, NULL);
    io_close(t->fd);
    buf_done(&t->pending);
    mem_free(t);
}
