/*
 * Goal: files are read and written whole or not at all, deadlines hold, errors name the path and
 * carry the right class, and no failing system call goes unnoticed or leaks a descriptor. Method: a
 * folder under /tmp, socket pairs and loopback; each function under the fault loop, with the number
 * of open descriptors compared before and after.
 * needs: faults threads
 */
#include "base/io.h"

#include "base/clock.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][200];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_io.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
    struct err e;
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
    ck_assert(!io_exists(folder));
}

static int entries(const char *path)
{
    int n = -2; /* . and .. */
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int open_files(void)
{
    return entries("/proc/self/fd");
}

START_TEST(write_then_read)
{
    make_folder();
    const char *path = in_folder("f");
    struct err e;
    ck_assert_int_eq(io_write_file(path, "hello", 5, 0640, &e), 0);
    ck_assert_int_eq(io_write_file(path, "hello world", 11, 0640, &e), 0);
    ck_assert_int_eq(entries(folder), 1);
    struct stat st;
    stat(path, &st);
    ck_assert_uint_eq(st.st_mode & 0777 & ~(unsigned)022, 0640 & ~(unsigned)022);
    buf_auto struct buf b;
    buf_init(&b, 100);
    buf_str(&b, "> ");
    ck_assert_int_eq(io_read_file(path, 11, &b, &e), 0);
    ck_assert_str_eq(buf_cstr(&b), "> hello world");
    ck_assert_int_eq(io_read_file(path, 10, &b, &e), -ERR_DATA);
    ck_assert_str_eq(buf_cstr(&b), "> hello world");
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_int_eq(io_file_size(path, &e), 11);
    struct io_map m;
    ck_assert_int_eq(io_map(path, &m, &e), 0);
    ck_assert_uint_eq(m.size, 11);
    ck_assert(!memcmp(m.data, "hello world", 11));
    io_unmap(&m);
    io_unmap(&m);
    io_unmap(NULL);
    remove_folder();
}
END_TEST

/* What is forgotten is read again, and stays what it is; a page that is not whole is left alone. */
START_TEST(written_in_place_and_forgotten)
{
    enum { SIZE = 100000 };
    static char bytes[SIZE];
    struct io_map m;
    struct err e = {0};
    make_folder();
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)(i % 251);
    const char *path = in_folder("map");
    int fd = io_create(path, 0600, &e);
    ck_assert(fd >= 0 && !io_write_full(fd, bytes, SIZE, &e));
    memcpy(bytes + 5000, "other", 5);
    ck_assert(!io_pwrite_full(fd, "other", 5, 5000, &e));
    close(fd);
    ck_assert_int_lt(io_pwrite_full(fd, "other", 5, 0, &e), 0);
    ck_assert(!io_map(path, &m, &e));
    io_map_forget(&m, 0, SIZE);
    io_map_forget(&m, 1, 2);
    io_map_forget(&m, 4095, 8193);
    io_map_forget(&(struct io_map){0}, 0, 0);
    ck_assert(m.size == SIZE && !memcmp(m.data, bytes, SIZE));
    io_unmap(&m);
    remove_folder();
}
END_TEST

START_TEST(descriptors)
{
    make_folder();
    const char *path = in_folder("f");
    struct err e;
    int fd = io_create(path, 0600, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(io_write_full(fd, "abcdef", 6, &e), 0);
    ck_assert_int_eq(io_fsync(fd, &e), 0);
    io_close(fd);
    fd = io_append(path, 0600, &e);
    ck_assert_int_eq(io_write_full(fd, "gh", 2, &e), 0);
    io_close(fd);
    fd = io_open_read(path, &e);
    char p[9] = "";
    ck_assert_int_eq(io_pread_full(fd, p, 8, 0, &e), 0);
    ck_assert_str_eq(p, "abcdefgh");
    ck_assert_int_eq(io_pread_full(fd, p, 3, 2, &e), 0);
    ck_assert_int_eq(memcmp(p, "cde", 3), 0);
    ck_assert_int_eq(io_pread_full(fd, p, 3, 6, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_int_eq(io_pread_full(fd, p, 3, -1, &e), -ERR_DATA);
    ck_assert_int_eq(io_pread_full(fd, p, 3, INT64_MAX - 1, &e), -ERR_DATA);
    ck_assert_int_eq(io_pread_full(fd, p, 1, 8, &e), -ERR_DATA);
    ck_assert_int_eq(io_write_full(fd, p, 1, &e), -ERR_RETRY); /* EBADF: opened for reading */
    io_close(fd);
    io_close(-1);
    fd = io_create(path, 0600, &e);
    io_close(fd);
    ck_assert_int_eq(io_file_size(path, &e), 0);
    struct io_map m = {.size = 7};
    ck_assert_int_eq(io_map(path, &m, &e), 0);
    ck_assert(!m.data && !m.size);
    remove_folder();
}
END_TEST

START_TEST(classes_of_failure)
{
    make_folder();
    struct err e;
    struct io_map m;
    buf_auto struct buf b;
    buf_init(&b, 100);
    const char *no = in_folder("no/such");
    ck_assert_int_eq(io_open_read(no, &e), -ERR_DATA);
    ck_assert_int_eq(e.sys, ENOENT);
    ck_assert_ptr_nonnull(strstr(e.text, no));
    ck_assert_int_eq(io_map(folder, &m, &e), -ERR_DATA);
    ck_assert_int_eq(io_file_size(folder, &e), -ERR_DATA);
    ck_assert_int_eq(io_read_file(folder, 10, &b, &e), -ERR_DATA);
    ck_assert_int_eq(io_create(no, 0600, &e), -ERR_USER);
    ck_assert_int_eq(io_write_file(no, "", 0, 0600, &e), -ERR_USER);
    ck_assert_int_eq(io_rename(no, no, &e), -ERR_USER);
    ck_assert_int_eq(entries(folder), 0);
    char longest[5000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    ck_assert_int_eq(io_open_read(longest, &e), -ERR_DATA);
    ck_assert_int_eq(io_write_file(longest, "", 0, 0600, &e), -ERR_USER);
    ck_assert_int_eq(io_mkdirs(longest, 0700, &e), -ERR_USER);
    remove_folder();
}
END_TEST

START_TEST(folders)
{
    make_folder();
    struct err e;
    ck_assert_int_eq(io_mkdirs(in_folder("a/b//c/"), 0700, &e), 0);
    ck_assert_int_eq(io_mkdirs(in_folder("a/b/c"), 0700, &e), 0);
    ck_assert_int_eq(io_mkdirs("", 0700, &e), -ERR_USER);
    ck_assert_int_eq(io_write_file(in_folder("a/f"), "x", 1, 0600, &e), 0);
    ck_assert_int_eq(io_mkdirs(in_folder("a/f"), 0700, &e), -ERR_USER);
    ck_assert_int_eq(io_mkdirs(in_folder("a/f/g"), 0700, &e), -ERR_USER);
    ck_assert_int_eq(io_rename(in_folder("a/f"), in_folder("a/b/g"), &e), 0);
    ck_assert(!io_exists(in_folder("a/f")) && io_exists(in_folder("a/b/g")));
    /* A link is removed, never followed. */
    ck_assert_int_eq(io_mkdirs(in_folder("keep"), 0700, &e), 0);
    ck_assert_int_eq(io_write_file(in_folder("keep/x"), "x", 1, 0600, &e), 0);
    ck_assert_int_eq(symlink(in_folder("keep"), in_folder("a/b/link")), 0);
    ck_assert_int_eq(io_remove_tree(in_folder("a"), &e), 0);
    ck_assert(io_exists(in_folder("keep/x")) && !io_exists(in_folder("a")));
    ck_assert_int_eq(io_remove_tree(in_folder("a"), &e), 0);
    ck_assert_int_eq(io_remove_tree(in_folder("keep/x"), &e), 0);
    char deep[400] = "d";
    for (int i = 0; i < 70; i++)
        snprintf(deep + strlen(deep), sizeof deep - strlen(deep), "/d");
    char path[500];
    snprintf(path, sizeof path, "%s/%s", folder, deep);
    ck_assert_int_eq(io_mkdirs(path, 0700, &e), 0);
    ck_assert_int_eq(io_remove_tree(folder, &e), -ERR_USER);
    snprintf(path, sizeof path, "%s/d/d/d/d/d/d/d/d/d/d", folder);
    ck_assert_int_eq(io_remove_tree(path, &e), 0);
    remove_folder();
}
END_TEST

START_TEST(exchanged_and_removed_one_by_one)
{
    make_folder();
    struct err e;
    buf_auto struct buf b;
    buf_init(&b, 100);
    ck_assert_int_eq(io_mkdirs(in_folder("a"), 0700, &e), 0);
    ck_assert_int_eq(io_mkdirs(in_folder("b"), 0700, &e), 0);
    ck_assert_int_eq(io_write_new(in_folder("a/f"), "one", 3, 0600, &e), 0);
    ck_assert_int_eq(io_write_new(in_folder("b/f"), "longer", 6, 0600, &e), 0);
    ck_assert_int_eq(io_write_new(in_folder("b/f"), "two", 3, 0600, &e), 0);
    ck_assert_int_eq(io_exchange(in_folder("a"), in_folder("b"), &e), 0);
    ck_assert_int_eq(io_read_file(in_folder("a/f"), 100, &b, &e), 0);
    ck_assert_str_eq(buf_cstr(&b), "two");
    ck_assert_int_eq(io_exchange(in_folder("a"), in_folder("c"), &e), -ERR_USER);
    ck_assert_int_eq(io_remove(in_folder("a"), &e), -ERR_USER);
    ck_assert_int_eq(e.sys, ENOTEMPTY);
    ck_assert_int_eq(io_rename_new(in_folder("a/f"), in_folder("b/f"), &e), -ERR_USER);
    ck_assert_int_eq(e.sys, EEXIST);
    ck_assert_int_eq(io_rename_new(in_folder("a/f"), in_folder("a/g"), &e), 0);
    ck_assert(!io_exists(in_folder("a/f")) && io_exists(in_folder("a/g")));
    ck_assert_int_eq(io_rename_new(in_folder("a/g"), in_folder("a/f"), &e), 0);
    ck_assert_int_eq(io_remove(in_folder("a/f"), &e), 0);
    ck_assert_int_eq(io_remove(in_folder("a/f"), &e), 0);
    ck_assert_int_eq(io_remove(in_folder("a"), &e), 0);
    ck_assert(!io_exists(in_folder("a")) && io_exists(in_folder("b/f")));
    ck_assert_int_eq(io_sync_folder(in_folder("b"), &e), 0);
    remove_folder();
}
END_TEST

static bool mount_here(const char *from, const char *to)
{
    return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
        !mount(from, to, NULL, MS_BIND, NULL);
}

/* Kind: what is removed as a tree holds nothing of another's. */
START_TEST(no_tree_is_removed_across_a_mount)
{
    struct err e;
    ck_assert_int_eq(io_is_mount("/proc", &e), 1);
    ck_assert_int_eq(io_is_mount("/no/such", &e), -ERR_DATA);
    make_folder();
    ck_assert_int_eq(io_mkdirs(in_folder("tree/mount"), 0700, &e), 0);
    ck_assert_int_eq(io_mkdirs(in_folder("volume"), 0700, &e), 0);
    ck_assert_int_eq(io_write_file(in_folder("volume/x"), "x", 1, 0600, &e), 0);
    if (mount_here(in_folder("volume"), in_folder("tree/mount"))) {
        ck_assert_int_eq(io_is_mount(in_folder("tree/mount"), &e), 1);
        ck_assert_int_eq(io_is_mount(in_folder("tree"), &e), 0);
        ck_assert_int_eq(io_remove_tree(in_folder("tree"), &e), -ERR_USER);
        ck_assert_str_eq(e.text, "mount: something is mounted there");
        ck_assert(io_exists(in_folder("volume/x")));
        ck_assert_int_eq(umount(in_folder("tree/mount")), 0);
    } else {
        printf("SKIP: a folder below a mount: nothing can be mounted here\n");
    }
    remove_folder();
}
END_TEST

static int file_round(void *user)
{
    (void)user;
    struct err e = {0};
    int before = open_files();
    const char *path = in_folder("x/y/f");
    struct io_map m = {0};
    buf_auto struct buf b;
    buf_init(&b, 100);
    int rc = io_mkdirs(in_folder("x/y"), 0700, &e);
    rc = rc ? rc : io_write_file(path, "content", 7, 0600, &e);
    rc = rc ? rc : io_read_file(path, 100, &b, &e);
    rc = rc ? rc : (int)io_file_size(path, &e) - 7;
    rc = rc ? rc : io_map(path, &m, &e);
    rc = rc ? rc : io_rename(path, in_folder("x/g"), &e);
    rc = rc ? rc : io_write_new(in_folder("x/h"), "other", 5, 0600, &e);
    rc = rc ? rc : io_exchange(in_folder("x/h"), in_folder("x/g"), &e);
    unlink(in_folder("x/i")); /* of a run that failed */
    rc = rc ? rc : io_rename_new(in_folder("x/h"), in_folder("x/i"), &e);
    rc = rc ? rc : io_rename_new(in_folder("x/i"), in_folder("x/h"), &e);
    rc = rc ? rc : io_sync_folder(in_folder("x"), &e);
    rc = rc ? rc : io_is_mount(in_folder("x"), &e);
    rc = rc ? rc : io_remove(in_folder("x/g"), &e);
    rc = rc ? rc : io_remove(in_folder("x/y"), &e);
    rc = rc ? rc : io_remove_tree(in_folder("x"), &e);
    io_unmap(&m);
    ck_assert_int_eq(open_files(), before);
    if (rc)
        ck_assert_int_ne(e.code, 0);
    return rc > 0 ? -rc : rc;
}

static int write_twice(void *user)
{
    (void)user;
    const char *path = in_folder("file");
    int rc = io_write_file(path, "new content", 11, 0600, NULL);
    buf_auto struct buf b;
    buf_init(&b, 100);
    fault_arm(&io_faults, 0); /* look at the outcome undisturbed */
    ck_assert_int_eq(io_read_file(path, 100, &b, NULL), 0);
    ck_assert(!strcmp(buf_cstr(&b), "new content") || (rc && !strcmp(buf_cstr(&b), "old")));
    ck_assert_int_eq(entries(folder), 1);
    return rc;
}

START_TEST(file_faults)
{
    make_folder();
    fault_each(FAULT_IO, file_round, NULL);
    fault_each(FAULT_MEM, file_round, NULL);
    remove_folder();
}
END_TEST

START_TEST(atomic_write_shows_old_or_new)
{
    make_folder();
    ck_assert_int_eq(io_write_file(in_folder("file"), "old", 3, 0600, NULL), 0);
    /* The body resets the counter, so the loop is spelled out: a write makes fewer than 20
     * calls. */
    int failures = 0;
    for (uint64_t n = 1; n < 20; n++) {
        fault_arm(&io_faults, n);
        failures += write_twice(NULL) != 0;
    }
#ifdef LLMJOB_FAULT
    ck_assert_int_ge(failures, 5); /* open, write, fsync, rename, open folder, fsync */
#else
    ck_assert_int_eq(failures, 0);
#endif
    remove_folder();
}
END_TEST

struct server {
    int listener;
    const char *host; /* that the client asks for */
    uint16_t port;
    int got;
    bool own;
};

static void *serve(void *user)
{
    struct server *s = user;
    int fd = io_accept(s->listener, clock_ms() + 5000, NULL);
    char p[100000];
    s->own = io_own_is(fd, s->host, s->port) && !io_own_is(fd, "192.0.2.1", s->port) &&
        !io_own_is(fd, s->host, (uint16_t)(s->port + 1));
    if (fd >= 0 && !io_recv_full(fd, p, sizeof p, clock_ms() + 5000, NULL) &&
        !io_send_full(fd, p, sizeof p, clock_ms() + 5000, NULL))
        s->got = 1;
    io_close(fd);
    return NULL;
}

static void echo_through(const char *listen_host, const char *host)
{
    struct err e = {0};
    uint16_t port = 0;
    struct server s = {.listener = io_listen(listen_host, 0, &port, &e)};
    ck_assert_msg(s.listener >= 0 && port, "%s", e.text);
    s.host = host;
    s.port = port;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, &s), 0);
    int fd = io_connect(host, port, clock_ms() + 5000, &e);
    ck_assert_msg(fd >= 0, "%s", e.text);
    static char out[100000], back[100000];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7);
    ck_assert_int_eq(io_send_full(fd, out, sizeof out, clock_ms() + 5000, &e), 0);
    ck_assert_int_eq(io_recv_full(fd, back, sizeof back, clock_ms() + 5000, &e), 0);
    ck_assert(!memcmp(out, back, sizeof out));
    ck_assert_int_eq(io_recv_full(fd, back, 1, clock_ms() + 5000, &e), -ERR_PEER);
    pthread_join(thread, NULL);
    ck_assert_int_eq(s.got, 1);
    ck_assert_int_eq(s.own, strcmp(host, "localhost") != 0); /* a name is no address */
    io_close(fd);
    io_close(s.listener);
}

static bool have_ipv6(void)
{
    int fd = io_listen("::1", 0, NULL, NULL);
    io_close(fd);
    return fd >= 0;
}

START_TEST(bytes_through_loopback)
{
    int before = open_files();
    echo_through("127.0.0.1", "127.0.0.1");
    echo_through(NULL, "127.0.0.1");
    echo_through("localhost", "localhost");
    if (have_ipv6()) {
        echo_through("::1", "::1");
        echo_through("", "::1");
    }
    ck_assert_int_eq(open_files(), before);
}
END_TEST

START_TEST(deadlines_hold)
{
    struct err e;
    uint16_t port;
    int listener = io_listen("127.0.0.1", 0, &port, &e);
    int64_t start = clock_ms();
    ck_assert_int_eq(io_accept(listener, start + 50, &e), -ERR_HANG);
    ck_assert_int_ge(clock_ms() - start, 49);
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    char p[1 << 16] = "";
    ck_assert_int_eq(io_recv_full(pair[0], p, 1, clock_ms() + 20, &e), -ERR_HANG);
    ck_assert_int_eq(io_wait_readable(pair[0], clock_ms() - 1, &e), -ERR_HANG);
    ck_assert_int_eq(io_recv_now(pair[0], p, 1, &e), 0);
    int rc = 0;
    for (int i = 0; i < 1000 && !rc; i++) /* until the socket's buffer is full */
        rc = io_send_full(pair[0], p, sizeof p, clock_ms() + 20, &e);
    ck_assert_int_eq(rc, -ERR_HANG);
    /* What is there is given even when the deadline has passed. */
    ck_assert_int_eq(io_recv_full(pair[1], p, sizeof p, clock_ms() - 1, &e), 0);
    /* A clock that stands still does not make a wait endless. */
    clock_set_fake(1000, 0);
    ck_assert_int_eq(io_recv_full(pair[0], p, 1, 1020, &e), -ERR_HANG);
    clock_set_real();
    close(pair[1]);
    ck_assert_int_eq(io_recv_now(pair[0], p, 1, &e), -ERR_PEER);
    ck_assert_int_eq(io_send_full(pair[0], p, 1, clock_ms() + 5000, &e), -ERR_PEER);
    close(pair[0]);
    io_close(listener);
    ck_assert_int_eq(io_connect("127.0.0.1", port, clock_ms() + 5000, &e), -ERR_RETRY);
    ck_assert_int_eq(e.sys, ECONNREFUSED);
    ck_assert_int_eq(io_connect("no-such-host.invalid", port, clock_ms() + 15000, &e),
        e.code == ERR_HANG ? -ERR_HANG : -ERR_RETRY);
    /* Past its deadline nothing is waited for; an answer that is there at once is given. */
    ck_assert_int_eq(io_connect("also-no-such-host.invalid", port, clock_ms() - 1, &e),
        e.code == ERR_HANG ? -ERR_HANG : -ERR_RETRY);
    int again = io_listen("127.0.0.1", port, &port, &e); /* at once: SO_REUSEADDR */
    ck_assert_int_ge(again, 0);
    ck_assert_int_eq(io_listen("127.0.0.1", port, NULL, &e), -ERR_RETRY);
    ck_assert_int_eq(e.sys, EADDRINUSE);
    io_close(again);
}
END_TEST

static int socket_round(void *user)
{
    (void)user;
    struct err e = {0};
    int before = open_files();
    uint16_t port;
    char p[4] = "abc";
    int client = -1, served = -1;
    int listener = io_listen("127.0.0.1", 0, &port, &e);
    int rc = listener < 0 ? listener : 0;
    if (!rc)
        rc = client = io_connect("127.0.0.1", port, clock_ms() + 5000, &e);
    if (rc >= 0)
        rc = served = io_accept(listener, clock_ms() + 5000, &e);
    rc = rc < 0 ? rc : io_set_nonblocking(client, true, &e);
    rc = rc ? rc : io_send_full(client, p, 4, clock_ms() + 5000, &e);
    rc = rc ? rc : io_recv_full(served, p, 4, clock_ms() + 5000, &e);
    rc = rc ? rc : io_random(p, 4, &e);
    io_close(served);
    io_close(client);
    io_close(listener);
    ck_assert_int_eq(open_files(), before);
    ck_assert(!rc || e.code);
    return rc;
}

static int listen_by_name(void *user)
{
    (void)user;
    struct err e = {0};
    int fd = io_listen("localhost", 0, NULL, &e);
    io_close(fd);
    ck_assert(fd >= 0 || e.code == ERR_MEMORY);
    return fd < 0 ? fd : 0;
}

START_TEST(socket_faults)
{
    fault_each(FAULT_MEM, listen_by_name, NULL);
    fault_each(FAULT_IO, socket_round, NULL);
}
END_TEST

START_TEST(random_and_hex)
{
    unsigned char a[32] = {0}, b[32] = {0};
    ck_assert_int_eq(io_random(a, sizeof a, NULL), 0);
    ck_assert_int_eq(io_random(b, sizeof b, NULL), 0);
    ck_assert(memcmp(a, b, sizeof a));
    char hex[7];
    io_hex("\x00\x9f\xff", 3, hex);
    ck_assert_str_eq(hex, "009fff");
    io_hex("", 0, hex);
    ck_assert_str_eq(hex, "");
}
END_TEST

UNIT_MAIN("io", write_then_read, written_in_place_and_forgotten, descriptors, classes_of_failure,
    folders, exchanged_and_removed_one_by_one, no_tree_is_removed_across_a_mount, file_faults,
    atomic_write_shows_old_or_new, bytes_through_loopback, deadlines_hold, socket_faults,
    random_and_hex)
