/*
 * Goal: a rank follows its agent: takes stop and checkpoint as flags, shows its task every other
 * frame, ends at once when the agent is gone, whatever it is doing, says why it failed, and ends
 * then too when its device holds it. Method: the door in a child process, this test as its agent.
 * needs: threads
 */
#include "runtime/door/door.h"

#include "api/exitcode.h"
#include "base/clock.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

static char folder[64];
static struct agent a;
static struct door d; /* in the child */
static struct err e;
static _Atomic int shown; /* frames */

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static bool take_any(void *user, const struct wire_frame *f)
{
    ck_assert_ptr_eq(user, &shown);
    atomic_fetch_add(&shown, 1);
    return f->type == WIRE_REQUEST;
}

static void listen_as(int fd, int64_t rank)
{
    door_init(&d, fd, NULL);
    d.rank = (int)rank;
    if (door_listen(&d, take_any, &shown, &e))
        _exit(99);
}

static void log_to_file(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/log", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 2) < 0)
        _exit(99);
}

static bool log_says(const char *word)
{
    char path[128];
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    snprintf(path, sizeof path, "%s/log", folder);
    ck_assert_msg(!io_read_file(path, 1 << 16, &text, &e), "%s", e.text);
    return strstr(buf_cstr(&text), word) != NULL;
}

/* -- bodies -- */

/* Until both flags were seen. */
static int body_flags(int fd)
{
    log_to_file();
    listen_as(fd, 0);
    while (!atomic_load(&d.checkpoint) || !atomic_load(&d.stop))
        usleep(500);
    door_send_fields(&d, WIRE_STEP,
        (struct door_field[]){{"step", 12, NULL}, {"loss", 0.5, NULL},
            {"grad_norm", (double)NAN, NULL}, {"text", 0, "a \"b\""},
            {"shown", atomic_load(&shown), NULL}, {NULL, 0, NULL}},
        &e);
    door_send_done(&d, 12, NULL, &e);
    return EXIT_CLASS_DRAINED;
}

static int body_done(int fd)
{
    door_init(&d, fd, NULL);
    return door_send_done(&d, 7, "/out", &e) ? 1 : EXIT_CLASS_DONE;
}

/* The first frame is taken before there is a reader thread. */
static int body_next(int fd)
{
    json_auto struct json *v = NULL;
    door_init(&d, fd, NULL);
    int rc = door_next(&d, WIRE_PREPARE, AGENT_MS, &v, &e);
    if (rc)
        door_send_failed(&d, &e);
    return rc ? (int)exit_class_of(e.code) : (int)json_int(v, "exit", 99);
}

static int body_stuck(int fd)
{
    listen_as(fd, 0);
    door_send_fields(
        &d, WIRE_LOADED, (struct door_field[]){{"steps", 1, NULL}, {NULL, 0, NULL}}, &e);
    pause();
    return 99; /* never: it is ended */
}

/* Fails, and is held by what it gives back. */
static int body_held(int fd)
{
    log_to_file();
    listen_as(fd, 3);
    err_set(&e, ERR_DEVICE, "the first reason");
    d.end_ms = 300;
    door_end_soon(&d, &e);
    err_set(&e, ERR_PEER, "the second reason");
    d.end_ms = 1;
    door_end_soon(&d, &e);
    pause();
    return 99; /* never: it is ended */
}

/* -- tests -- */

START_TEST(flags_and_frames)
{
    agent_spawn(&a, body_flags);
    agent_send(&a, WIRE_CHECKPOINT, "{}");
    agent_send(&a, WIRE_REQUEST, "{\"id\":1}");
    agent_send(&a, WIRE_READY, "{}");
    agent_send(&a, WIRE_STOP, "{}");
    json_auto struct json *v = agent_expect(&a, WIRE_STEP);
    ck_assert_int_eq(json_int(v, "step", 0), 12);
    ck_assert(json_num(v, "loss", 0) == 0.5);
    ck_assert(json_is_null(json_get(v, "grad_norm")));
    ck_assert_str_eq(json_str(v, "text", ""), "a \"b\"");
    ck_assert_int_ge(json_int(v, "shown", 0), 3); /* the stop may be shown a moment later */
    json_auto struct json *done = agent_expect(&a, WIRE_DONE);
    ck_assert_int_eq(json_int(done, "step", 0), 12);
    ck_assert(json_bool(done, "drained", false));
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DRAINED);
    char unexpected[32]; /* the one that nobody took */
    snprintf(unexpected, sizeof unexpected, "type=%d", WIRE_READY);
    ck_assert(log_says("unexpected frame") && log_says(unexpected));
    snprintf(unexpected, sizeof unexpected, "type=%d", WIRE_REQUEST);
    ck_assert(!log_says(unexpected));
}
END_TEST

START_TEST(a_completed_rank_names_its_output)
{
    agent_spawn(&a, body_done);
    json_auto struct json *v = agent_expect(&a, WIRE_DONE);
    ck_assert_int_eq(json_int(v, "step", 0), 7);
    ck_assert_str_eq(json_str(v, "output", ""), "/out");
    ck_assert(!json_bool(v, "drained", false));
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DONE);
}
END_TEST

START_TEST(the_first_frame_must_be_the_one_that_is_due)
{
    agent_spawn(&a, body_next);
    agent_send(&a, WIRE_PREPARE, "{\"exit\":41}");
    ck_assert_int_eq(agent_wait(&a), 41);
    agent_spawn(&a, body_next);
    agent_send(&a, WIRE_START, "{}");
    agent_expect_failed(&a, "bug", "is due");
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_BUG);
    agent_spawn(&a, body_next);
    agent_send(&a, WIRE_PREPARE, "{");
    agent_expect_failed(&a, "data", "JSON");
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DATA);
}
END_TEST

START_TEST(agent_gone_ends_a_stuck_rank)
{
    agent_spawn(&a, body_stuck);
    json_destroy(agent_expect(&a, WIRE_LOADED));
    int64_t start_ms = clock_ms();
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_PEER);
    ck_assert_int_lt(clock_ms() - start_ms, 5000);
}
END_TEST

START_TEST(a_held_rank_ends_in_time)
{
    int64_t start_ms = clock_ms();
    agent_spawn(&a, body_held);
    agent_expect_failed(&a, "device", "the first reason");
    ck_assert_int_eq(agent_wait(&a), EXIT_CLASS_DEVICE);
    ck_assert_int_ge(clock_ms() - start_ms, 300);
    ck_assert(log_says("the device does not let go") && log_says("the first reason"));
    ck_assert(log_says("rank=3") && !log_says("the second reason"));
}
END_TEST

START_TEST(without_an_agent_frames_are_dropped)
{
    door_init(&d, -1, NULL);
    ck_assert_int_eq(door_send(&d, WIRE_TOKEN, "x", 1, &e), 0);
    ck_assert_int_eq(door_send_done(&d, 1, NULL, &e), 0);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"door", 60, setup, teardown},
        (const TTest *const[]){flags_and_frames, a_completed_rank_names_its_output,
            the_first_frame_must_be_the_one_that_is_due, agent_gone_ends_a_stuck_rank,
            a_held_rank_ends_in_time, without_an_agent_frames_are_dropped, NULL});
}
