/*
 * Goal: frames arrive whole and in order whatever the pieces they come in, a peer that breaks the
 * format is refused, deadlines hold, and the heartbeat page has the layout both processes expect.
 * Method: a socket pair; random frames cut at random places; every malformed header; faults.
 * needs: faults threads
 */
#include "api/wire.h"

#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t soon(void)
{
    return clock_ms() + 5000;
}

static void make_pair(int pair[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

START_TEST(names_are_total)
{
    for (int i = 0; i < WIRE_PHASES; i++)
        ck_assert_str_ne(wire_phase_name((enum wire_phase)i), "");
    ck_assert_str_eq(wire_phase_name(WIRE_PHASE_COLLECTIVE), "collective");
    ck_assert_str_eq(wire_phase_name(WIRE_PHASES), "unknown");
    ck_assert_str_eq(wire_phase_name((enum wire_phase)0xffffffffu), "unknown");
    ck_assert_str_eq(wire_operation_name(1), "allreduce");
    ck_assert_str_eq(wire_operation_name(4), "barrier");
    ck_assert_str_eq(wire_operation_name(WIRE_EXCHANGE), "exchange");
    ck_assert_str_eq(wire_operation_name(WIRE_OPERATIONS), "unknown");
    for (enum wire_calls c = 0; c < WIRE_CALLS_FORMS; c++)
        ck_assert_int_eq(wire_calls_of(wire_calls_name(c)), c);
    ck_assert_int_eq(wire_calls_of("of another version"), WIRE_CALLS_NONE);
    for (enum wire_does d = 0; d < WIRE_DOES_KINDS; d++)
        ck_assert_int_eq(wire_does_of(wire_does_name(d)), d);
    ck_assert_int_eq(wire_does_of(""), WIRE_DOES_GENERATE);
}
END_TEST

START_TEST(page_fits_a_page_without_locks)
{
    struct wire_page p = {0};
    ck_assert_uint_le(sizeof p, 4096);
    ck_assert(atomic_is_lock_free(&p.step) && atomic_is_lock_free(&p.magic));
}
END_TEST

START_TEST(a_note_is_read_back)
{
    struct wire_page p = {0};
    char got[WIRE_NOTE_BYTES], longer[2 * WIRE_NOTE_BYTES] = {0};
    wire_page_noted(&p, got);
    ck_assert_str_eq(got, "");
    wire_page_note(&p, "NCCL: rank 3 is missing");
    wire_page_noted(&p, got);
    ck_assert_str_eq(got, "NCCL: rank 3 is missing");
    wire_page_note(&p, "a\tb\xff\n");
    wire_page_noted(&p, got);
    ck_assert_str_eq(got, "a?b??");
    memset(longer, 'x', sizeof longer - 1);
    wire_page_note(&p, longer);
    wire_page_noted(&p, got);
    ck_assert_uint_eq(strlen(got), WIRE_NOTE_BYTES - 1);
    atomic_fetch_add(&p.note_writes, 1); /* its writer was stopped there */
    wire_page_noted(&p, got);
    ck_assert_str_eq(got, "");
    memset(&p, 0xff, sizeof p); /* no end */
    p.note_writes = 2;
    wire_page_noted(&p, got);
    ck_assert_uint_eq(strlen(got), WIRE_NOTE_BYTES - 1);
    wire_page_note(&p, "");
    wire_page_noted(&p, got);
    ck_assert_str_eq(got, "");
}
END_TEST

START_TEST(bytes_on_the_wire)
{
    int pair[2];
    make_pair(pair);
    ck_assert_int_eq(wire_send(pair[0], WIRE_READY, "{\"port\":80}", 11, soon(), NULL), 0);
    ck_assert_int_eq(wire_send(pair[0], WIRE_STOP, NULL, 0, soon(), NULL), 0);
    unsigned char got[100];
    ck_assert_int_eq(read(pair[1], got, sizeof got), 8 + 11 + 8);
    ck_assert(!memcmp(got, "\x0b\0\0\0\x40\0\0\0{\"port\":80}\0\0\0\0\x03\0\0\0", 27));
    close(pair[0]);
    close(pair[1]);
}
END_TEST

static void pattern(char *p, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = (char)((seed + i) * 2654435761u >> 24);
}

struct sender {
    int fd;
    unsigned seed;
    int frames;
};

static uint32_t length_of(unsigned *seed, int i)
{
    uint32_t n = (uint32_t)rand_r(seed);
    return i % 50 == 7 ? n % 300000 : i % 3 ? n % 40 : 0;
}

/* All frames as one run of bytes, cut anywhere. */
static void *send_pieces(void *user)
{
    struct sender *s = user;
    unsigned lengths = s->seed, cuts = s->seed + 1;
    struct buf b;
    buf_init(&b, 100 << 20);
    for (int i = 0; i < s->frames; i++) {
        static char payload[300000];
        uint32_t n = length_of(&lengths, i);
        pattern(payload, n, (uint32_t)i);
        uint16_t type[2] = {(uint16_t)(i % 7 + 1), 0};
        buf_add(&b, &n, 4);
        buf_add(&b, type, 4);
        buf_add(&b, payload, n);
    }
    for (size_t at = 0; at < b.len;) {
        size_t n =
            (size_t)(rand_r(&cuts) % 10 ? rand_r(&cuts) % 20 + 1 : rand_r(&cuts) % 90000 + 1);
        n = n > b.len - at ? b.len - at : n;
        if (io_send_full(s->fd, b.data + at, n, soon(), NULL))
            break;
        at += n;
    }
    buf_done(&b);
    shutdown(s->fd, SHUT_WR);
    return NULL;
}

START_TEST(frames_survive_any_cutting)
{
    int pair[2];
    make_pair(pair);
    struct sender s = {.fd = pair[0], .seed = (unsigned)time(NULL), .frames = 1500};
    printf("seed %u\n", s.seed);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, send_pieces, &s), 0);
    struct wire_reader r;
    wire_reader_init(&r);
    unsigned lengths = s.seed;
    static char want[300000];
    struct err e = {0};
    for (int i = 0; i < s.frames; i++) {
        struct wire_frame f;
        ck_assert_msg(wire_wait(&r, pair[1], soon(), &f, &e) == 0, "frame %d: %s", i, e.text);
        uint32_t n = length_of(&lengths, i);
        pattern(want, n, (uint32_t)i);
        ck_assert_uint_eq(f.len, n);
        ck_assert_uint_eq(f.type, (unsigned)(i % 7 + 1));
        ck_assert(!memcmp(f.data, want, n));
        ck_assert(f.data[n] == 0);
    }
    struct wire_frame f;
    ck_assert_int_eq(wire_wait(&r, pair[1], soon(), &f, &e), -ERR_PEER);
    pthread_join(thread, NULL);
    wire_reader_done(&r);
    wire_reader_done(&r);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

static void *send_largest(void *fd)
{
    char *p = mem_zalloc(LIMIT_FRAME_BYTES);
    int rc = p ? wire_send(*(int *)fd, WIRE_TOKEN, p, LIMIT_FRAME_BYTES, soon(), NULL) : -1;
    mem_free(p);
    return rc ? "failed" : NULL;
}

START_TEST(largest_frame_passes)
{
    int pair[2];
    make_pair(pair);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, send_largest, &pair[0]), 0);
    struct wire_reader r;
    wire_reader_init(&r);
    struct wire_frame f;
    ck_assert_int_eq(wire_wait(&r, pair[1], soon(), &f, NULL), 0);
    ck_assert_uint_eq(f.len, LIMIT_FRAME_BYTES);
    void *failed;
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    wire_reader_done(&r);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(malformed_headers_are_refused)
{
    static const struct {
        uint32_t len;
        uint16_t type, zero;
    } bad[] = {
        {LIMIT_FRAME_BYTES + 1, 1, 0}, {UINT32_MAX, 1, 0}, {0, 0, 0}, {0, 1, 1}, {0, 1, 0x100}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int pair[2];
        make_pair(pair);
        ck_assert_int_eq(write(pair[0], &bad[i], 8), 8);
        struct wire_reader r;
        struct wire_frame f;
        struct err e;
        wire_reader_init(&r);
        ck_assert_int_eq(wire_wait(&r, pair[1], soon(), &f, &e), -ERR_BUG);
        ck_assert_int_eq(wire_next(&r, &f, &e), -ERR_BUG); /* and stays refused */
        wire_reader_done(&r);
        close(pair[0]);
        close(pair[1]);
    }
}
END_TEST

START_TEST(a_request_begins_with_its_id)
{
    static const struct {
        const char *text;
        uint64_t id;
    } rows[] = {{"{\"id\":7,\"prompt\":\"a\"}", 7}, {"{\"id\":12}", 12},
        {"{\"chat\":1,\"id\":7}", 0}, {"{\"id\":\"7\"}", 0}, {"{\"id\":", 0}, {"", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct wire_frame f = {WIRE_REQUEST, rows[i].text, (uint32_t)strlen(rows[i].text)};
        ck_assert_uint_eq(wire_request_id(&f), rows[i].id);
    }
}
END_TEST

START_TEST(waiting_ends)
{
    int pair[2];
    make_pair(pair);
    struct wire_reader r;
    struct wire_frame f;
    struct err e;
    wire_reader_init(&r);
    ck_assert_int_eq(wire_read(&r, pair[1], &e), 0);
    ck_assert_int_eq(wire_wait(&r, pair[1], clock_ms() + 20, &f, &e), -ERR_HANG);
    ck_assert_int_eq(write(pair[0], "\x05\0\0\0\x01\0\0\0ab", 10), 10);
    ck_assert_int_eq(wire_wait(&r, pair[1], clock_ms() + 20, &f, &e), -ERR_HANG);
    close(pair[0]);
    ck_assert_int_eq(wire_wait(&r, pair[1], soon(), &f, &e), -ERR_PEER);
    ck_assert_int_eq(wire_send(pair[1], WIRE_STOP, NULL, 0, soon(), &e), -ERR_PEER);
    wire_reader_done(&r);
    close(pair[1]);
}
END_TEST

/* A caller that reads on without taking frames gets no more than the bound. */
START_TEST(unread_frames_are_bounded)
{
    int pair[2];
    make_pair(pair);
    struct wire_reader r;
    struct wire_frame f;
    struct err e;
    wire_reader_init(&r);
    static char payload[60000];
    int sent = 0, got = 0;
    while (r.in.len < r.in.limit) {
        ck_assert_int_eq(wire_send(pair[0], WIRE_TOKEN, payload, sizeof payload, soon(), &e), 0);
        sent++;
        while (wire_read(&r, pair[1], &e) == 1 && r.in.len < r.in.limit)
            ;
    }
    ck_assert_uint_eq(r.in.len, r.in.limit);
    ck_assert_int_eq(wire_read(&r, pair[1], &e), 1);
    ck_assert_uint_eq(r.in.len, r.in.limit);
    for (; got < sent; got++)
        ck_assert_int_eq(wire_wait(&r, pair[1], soon(), &f, &e), 0);
    ck_assert_int_eq(wire_read(&r, pair[1], &e), 0);
    wire_reader_done(&r);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

/* Written, cut anywhere and read back: whole ones as they were, no others. */
START_TEST(logprobs_are_read_back)
{
    static const struct wire_logprob said[] = {
        {7, -0.5f, "a\xc3", 2}, {-1, -INFINITY, "", 0}, {INT32_MAX, NAN, "xyz", 3}};
    buf_auto struct buf out;
    struct wire_token t = {1ull << 60, 77, true, 1u << 31, 5}, back;
    buf_init(&out, 1000);
    ck_assert_int_eq(wire_put_token(&out, &t), 0);
    ck_assert_uint_eq(out.len, WIRE_TOKEN_BYTES);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(wire_put_logprob(&out, &said[i]), 0);
    for (uint32_t len = 0; len <= out.len; len++) {
        const struct wire_frame f = {WIRE_LOGPROBS, out.data, len};
        uint32_t at = WIRE_TOKEN_BYTES;
        struct wire_logprob x;
        int n = 0;
        ck_assert(wire_take_token(&f, &back) == (len >= WIRE_TOKEN_BYTES));
        for (; wire_take_logprob(&f, &at, &x); n++) {
            ck_assert(x.token == said[n].token && x.len == said[n].len);
            ck_assert(isnan(x.logprob) ? isnan(said[n].logprob) : x.logprob == said[n].logprob);
            ck_assert_int_eq(memcmp(x.bytes, said[n].bytes, x.len), 0);
        }
        ck_assert_int_eq(n, (len >= 38) + (len >= 50) + (len >= 65));
    }
    ck_assert(back.request == t.request && back.count == t.count && back.hidden);
    ck_assert(back.prompt == t.prompt && back.cached == t.cached);
}
END_TEST

static int one_message(void *user)
{
    (void)user;
    int pair[2];
    make_pair(pair);
    struct wire_reader r;
    struct wire_frame f;
    wire_reader_init(&r);
    int rc = wire_send(pair[0], WIRE_STEP, "{\"step\":3}", 10, soon(), NULL);
    rc = rc ? rc : wire_wait(&r, pair[1], soon(), &f, NULL);
    if (!rc)
        ck_assert_str_eq(f.data, "{\"step\":3}");
    wire_reader_done(&r);
    close(pair[0]);
    close(pair[1]);
    return rc;
}

START_TEST(faults_are_seen)
{
    fault_each(FAULT_MEM, one_message, NULL);
    fault_each(FAULT_IO, one_message, NULL);
}
END_TEST

UNIT_MAIN("wire", names_are_total, page_fits_a_page_without_locks, a_note_is_read_back,
    bytes_on_the_wire, frames_survive_any_cutting, largest_frame_passes,
    malformed_headers_are_refused, a_request_begins_with_its_id, waiting_ends,
    unread_frames_are_bounded, logprobs_are_read_back, faults_are_seen)
