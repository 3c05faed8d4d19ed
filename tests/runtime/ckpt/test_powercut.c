/*
 * Goal: a save that the power, a full disk or a failing one ends anywhere leaves the generations
 * before it: what is opened then is the newest that was committed, or the one that was about to be,
 * with the right bits; behind two commits there are two; and the training goes on from there. A
 * flipped bit in any file is seen. Method: the writer runs on a real folder while this program
 * stands between it and the kernel (its own open, write, fsync, ...), and tells powercut.h what was
 * done: begins of two ranks, claims, commits over the same step, generations that go, one set
 * aside. All states that the disk may be left in are opened, claimed, swept, and saved into; then
 * each call fails once with EIO and once with ENOSPC (a write by half), and the states behind that
 * are opened, too.
 * needs: sample
 */
#include "runtime/ckpt/ckpt.h"

#include "base/log.h"
#include "base/random.h"
#include "runtime/ckpt/folder.h"
#include "tests/runtime/ckpt/powercut.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* -- between the writer and the kernel -- */

static bool watching; /* calls are told, and may fail */
static int calls, fail_at, fail_with;

/* Whether this call is the one to fail; errno says how. */
static bool strikes(void)
{
    if (!watching || ++calls != fail_at)
        return false;
    errno = fail_with;
    return true;
}

int powercut_open(const char *path, int flags, ...) __asm__("open");
ssize_t powercut_write(int fd, const void *p, size_t n) __asm__("write");
int powercut_fsync(int fd) __asm__("fsync");
int powercut_close(int fd) __asm__("close");
int powercut_rename(const char *from, const char *to) __asm__("rename");
int powercut_mkdir(const char *path, mode_t mode) __asm__("mkdir");
int powercut_unlink(const char *path) __asm__("unlink");
int powercut_rmdir(const char *path) __asm__("rmdir");

int powercut_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    if (strikes())
        return -1;
    bool made = syscall(SYS_access, path, F_OK) != 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (watching && fd >= 0)
        powercut_opened(fd, path, made, flags & O_TRUNC);
    return fd;
}

ssize_t powercut_write(int fd, const void *p, size_t n)
{
    if (powercut_watches(fd) && strikes()) {
        if (fail_with != ENOSPC || n < 2)
            return -1;
        n /= 2;
        fail_at++; /* what is left of it */
    }
    int64_t at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_write, fd, p, n);
    if (watching && done > 0)
        powercut_wrote(fd, at, p, (size_t)done);
    return done;
}

/* The power does not go off in earnest. */
int powercut_fsync(int fd)
{
    if (strikes())
        return -1;
    if (watching)
        powercut_synced(fd);
    return 0;
}

int powercut_close(int fd)
{
    powercut_closed(fd);
    return (int)syscall(SYS_close, fd);
}

int powercut_rename(const char *from, const char *to)
{
    int rc = strikes() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (watching && !rc)
        powercut_renamed(from, to);
    return rc;
}

int powercut_mkdir(const char *path, mode_t mode)
{
    int rc = strikes() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (watching && !rc)
        powercut_made(path);
    return rc;
}

static int remove_by(const char *path, int flags)
{
    int rc = strikes() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
    if (watching && !rc)
        powercut_removed(path);
    return rc;
}

int powercut_unlink(const char *path)
{
    return remove_by(path, 0);
}

int powercut_rmdir(const char *path)
{
    return remove_by(path, AT_REMOVEDIR);
}

/* -- generations -- */

#define TOTAL  600
#define PATH   "/storage/ckpt" /* of the root, made by the first claim */
#define WORLDS 3

static char root[64], states[64];

static float value(int64_t step, int64_t i)
{
    return (float)(step * 10000 + i);
}

static int put_slice(struct ckpt_writer *w, int64_t step, int world, int rank, struct err *e)
{
    float x[TOTAL];
    int64_t first = TOTAL * rank / world, n = TOTAL * (rank + 1) / world - first;
    for (int64_t i = 0; i < n; i++)
        x[i] = value(step, first + i);
    return ckpt_put(w, "w", TOTAL, first, n, DTYPE_F32, x, e);
}

/* As a world does it whose ranks are never in step: all begin, all write, the last finishes
   first. */
static int save(
    const char *folder, int64_t step, int world, int64_t incarnation, int keep, struct err *e)
{
    struct ckpt_writer *w[WORLDS] = {NULL};
    char hashes[WORLDS][17];
    int64_t bytes[WORLDS];
    int rc = 0;
    for (int i = 0; i < world && !rc; i++)
        rc = ckpt_begin(folder, step, i, &w[i], e);
    for (int i = 0; i < world && !rc; i++)
        rc = put_slice(w[i], step, world, i, e);
    for (int i = world - 1; i >= 0; i--) {
        if (rc)
            ckpt_abandon(w[i]);
        else
            rc = ckpt_finish(w[i], hashes[i], &bytes[i], e);
    }
    struct ckpt_state s = {.step = step,
        .samples = step * 8,
        .seed = 9,
        .incarnation = incarnation,
        .world = world,
        .owner = "a",
        .loss = 1.5};
    return rc ? rc : ckpt_commit(folder, &s, world, (const char(*)[17])hashes, bytes, keep, e);
}

/* The newest generation up to a limit, whose bits must be right; 0: none, -1: none can be read. */
static int64_t newest(const char *folder, int64_t limit)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s = {0};
    struct err e = {0};
    float x[TOTAL];
    int rc = ckpt_open_newest(folder, limit, &r, &s, &e);
    ck_assert_msg(!rc || rc == -ERR_CORRUPT, "%s", e.text);
    if (!r)
        return rc ? -1 : 0;
    ck_assert_msg(!ckpt_get(r, "w", TOTAL, 0, TOTAL, DTYPE_F32, x, &e), "%s", e.text);
    for (int64_t i = 0; i < TOTAL; i++)
        ck_assert_float_eq(x[i], value(s.step, i));
    ck_assert_int_eq(s.samples, s.step * 8);
    ck_assert_uint_eq(s.seed, 9);
    ckpt_close(r);
    return s.step;
}

/* -- what was promised, call by call -- */

struct promise {
    int64_t newest, before; /* generations that must be there; 0: none yet */
    int64_t coming;         /* that may be there already */
};
static struct promise promises[128];
static int promise_count;

static void promise(int64_t newest_step, int64_t before, int64_t coming)
{
    ck_assert_int_lt(promise_count, 128);
    promises[promise_count] = (struct promise){newest_step, before, coming};
    powercut_mark(promise_count++);
}

static void saved(int64_t step, int world, int64_t incarnation)
{
    struct err e = {0};
    const struct promise had = promises[promise_count - 1];
    char folder[200];
    snprintf(folder, sizeof folder, "%s" PATH, root);
    promise(had.newest, had.before, step);
    ck_assert_msg(!save(folder, step, world, incarnation, 2, &e), "%s", e.text);
    promise(step, had.newest == step ? had.before : had.newest, step);
}

static void flip(const char *path, int64_t at, int bit)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s", path);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1 << bit);
    ck_assert_int_eq(lseek(fd, at, SEEK_SET), at);
    ck_assert_int_eq(write(fd, &byte, 1), 1);
    close(fd);
}

/* Of a step, the file of a rank, or with -1 the manifest. */
static void file_of(const char *folder, int64_t step, int rank, char out[300])
{
    struct ckpt_manifest m;
    struct err e = {0};
    char manifest[LIMIT_PATH_BYTES], in[LIMIT_PATH_BYTES];
    ck_assert(!ckpt_folder_manifest(folder, step, manifest, &e));
    ck_assert(!ckpt_folder_step(folder, step, in, &e));
    snprintf(out, 300, "%.299s", manifest);
    if (rank < 0)
        return;
    ck_assert_msg(!ckpt_manifest_read(manifest, &m, &e), "%s", e.text);
    snprintf(out, 300, "%.200s/%.90s", in, m.files[rank].name);
    ckpt_manifest_done(&m);
}

/* A life of a folder: a world of two, one of three behind it, damage that is set aside, the same
   step again. */
static void live(void)
{
    struct err e = {0};
    struct ckpt_state s = {.step = 5, .incarnation = 3, .owner = "a"};
    char folder[200], file[300];
    snprintf(folder, sizeof folder, "%s" PATH, root);
    promise_count = 0;
    promise(0, 0, 0);
    ck_assert_msg(!ckpt_claim(folder, 1, "a", &e), "%s", e.text);
    for (int64_t step = 1; step <= 4; step++)
        saved(step, 2, 1);
    ck_assert_msg(!ckpt_claim(folder, 2, "a", &e), "%s", e.text);
    saved(5, 3, 2);
    saved(6, 3, 2);
    powercut_settle();
    promise(5, 0, 6); /* until the damage is done, too */
    file_of(folder, 6, 1, file);
    flip(file, -1 + (1 << 20), 3);
    powercut_settle();
    promise(5, 0, 0);
    ck_assert_msg(!ckpt_claim(folder, 3, "a", &e), "%s", e.text);
    ck_assert_msg(!ckpt_set_aside(folder, &s, &e), "%s", e.text);
    saved(6, 2, 3);
    saved(7, 2, 3);
    saved(7, 1, 3); /* over itself */
    saved(8, 2, 3);
}

static void begin(void)
{
    sample_print();
    log_setup("test", LOG_ERROR, false); /* damage is seen a thousand times */
}

static void record(void)
{
    golden_folder(root);
    powercut_begin(root);
    calls = 0;
    watching = true;
}

/* -- a state that the disk is left in -- */

#define GO_ON 8 /* of so many states one is saved into */
static int checked, with_none;

/* It is opened as what was promised, claimed by the next world, and saved into. */
static void look_at(void *user, const char *state, int mark)
{
    const struct promise *p = &promises[mark];
    char folder[300];
    struct err e = {0};
    (void)user;
    snprintf(folder, sizeof folder, "%s" PATH, state);
    int64_t found = newest(folder, INT64_MAX), again;
    ck_assert_msg(found >= p->newest && (found == p->newest || found <= p->coming),
        "promise %d: found %lld, committed %lld, %lld begun", mark, (long long)found,
        (long long)p->newest, (long long)p->coming);
    if (found && p->before) {
        int64_t before = newest(folder, found - 1);
        ck_assert_msg(before >= p->before, "promise %d: found %lld, before it %lld, not %lld", mark,
            (long long)found, (long long)before, (long long)p->before);
    }
    ck_assert_msg(!ckpt_claim(folder, 9, "a", &e), "%s", e.text);
    again = newest(folder, INT64_MAX);
    ck_assert_int_eq(again, found);
    with_none += !found;
    if (checked++ % GO_ON)
        return;
    ck_assert_msg(!save(folder, found + 1, 2, 9, 2, &e), "%s", e.text);
    ck_assert_int_eq(newest(folder, INT64_MAX), found + 1);
    ck_assert_int_eq(newest(folder, found), found > 0 ? found : -1);
}

static uint64_t seed(void)
{
    return sample_setting("LLMJOB_SEED") * 1000003;
}

/* All states, or of every `one_in` of them one. */
static struct powercut_states look_at_states(int from, uint64_t one_in, int most)
{
    struct powercut_states s = {.to = states,
        .from = from,
        .end = powercut_count(),
        .most = most,
        .seed = seed(),
        .one_in = one_in,
        .fn = look_at};
    watching = false;
    golden_folder(states);
    powercut_each(&s);
    golden_remove(states);
    return s;
}

static void forget(void)
{
    watching = false;
    powercut_end();
    golden_remove(root);
}

START_TEST(power_that_goes_leaves_what_was_committed)
{
    begin();
    record();
    live();
    uint64_t n = sample_setting("LLMJOB_SAMPLE");
    struct powercut_states s = look_at_states(0, n > 1 ? 16 * n : 1, 256);
    printf("%d calls, %d states opened, %d more\n", powercut_count(), s.shown, s.skipped);
    ck_assert_int_gt(checked, n > 1 ? 8 : 500);
    ck_assert(n > 1 || with_none > 0);
    forget();
}
END_TEST

/* -- disks that are full, or fail -- */

/* The n-th call of a save fails, and the next world goes on; false: it made fewer calls. */
static bool live_with(int n, int how)
{
    struct err e = {0}, why = {0};
    char folder[200];
    record();
    snprintf(folder, sizeof folder, "%s" PATH, root);
    promise_count = 0;
    promise(0, 0, 0);
    ck_assert_msg(!ckpt_claim(folder, 1, "a", &e), "%s", e.text);
    for (int64_t step = 1; step <= 2; step++)
        saved(step, 2, 1);
    powercut_settle();
    promise(2, 1, 3);
    int from = powercut_count();
    calls = 0;
    fail_at = n;
    fail_with = how;
    int rc = save(folder, 3, 2, 1, 2, &why);
    bool failed = calls >= n;
    fail_at = 0;
    ck_assert_msg(failed || !rc, "%s, though no call failed", why.text);
    ck_assert_msg(!rc || *why.text, "call %d: nothing is said", n);
    /* Renamed into place though the folder was not synced: the next world goes on from it. */
    int64_t at = newest(folder, INT64_MAX);
    ck_assert_msg(at == 3 || (rc && at == 2), "call %d: found %lld", n, (long long)at);
    promise(rc ? 2 : 3, rc ? 1 : 2, at + 1);
    ck_assert_msg(!ckpt_claim(folder, 2, "a", &e), "%s", e.text);
    ck_assert_msg(!save(folder, at + 1, 2, 2, 2, &e), "%s", e.text);
    promise(at + 1, at, at + 1);
    saved(at + 2, 2, 2);
    look_at_states(from, 24 * sample_setting("LLMJOB_SAMPLE"), 32);
    forget();
    return failed;
}

START_TEST(a_call_that_fails_leaves_what_was_committed)
{
    static const int ways[] = {EIO, ENOSPC};
    int tried = 0, n = 0;
    bool failed = true, whole = sample_setting("LLMJOB_SAMPLE") == 1;
    begin();
    while (n++, failed)
        for (int k = 0; k < (whole ? 2 : 1) && failed; k++)
            if (sample_takes((uint64_t)n) && ++tried)
                failed = live_with(n, ways[(n + k) % 2]);
    printf("%d calls, %d times one failed, %d states opened\n", n, tried, checked);
    ck_assert_int_gt(tried, 8);
}
END_TEST

/* -- bits -- */

/* Each bit that is flipped leads to the other generation, or changes nothing: of a file that has
   nothing to say of the newest. */
static void flip_all(const char *folder, const char *path, int64_t want, uint64_t *random)
{
    struct err e = {0};
    int64_t size = io_file_size(path, &e);
    const int64_t places[] = {0, 7, 8, 9, size / 3, size / 2, size - 2, size - 1,
        (int64_t)(random_next(random) % (uint64_t)size),
        (int64_t)(random_next(random) % (uint64_t)size)};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int bit = (int)(random_next(random) % 8);
        if (places[i] < 0 || places[i] >= size)
            continue;
        flip(path, places[i], bit);
        int64_t found = newest(folder, INT64_MAX);
        ck_assert_msg(found == want, "%s: bit %d of byte %lld: step %lld", path, bit,
            (long long)places[i], (long long)found);
        flip(path, places[i], bit);
    }
    ck_assert_int_eq(newest(folder, INT64_MAX), 2);
}

START_TEST(a_flipped_bit_is_seen_wherever_it_is)
{
    char folder[200], path[300];
    struct err e = {0};
    uint64_t random = seed();
    begin();
    golden_folder(root);
    snprintf(folder, sizeof folder, "%s" PATH, root);
    ck_assert_msg(!ckpt_claim(folder, 1, "a", &e), "%s", e.text);
    for (int64_t step = 1; step <= 2; step++)
        ck_assert_msg(!save(folder, step, 3, 1, 2, &e), "%s", e.text);
    for (int64_t step = 1; step <= 2; step++)
        for (int rank = -1; rank < 3; rank++)
            if (sample_takes((uint64_t)(step * 4 + rank))) {
                file_of(folder, step, rank, path);
                flip_all(folder, path, step == 2 ? 1 : 2, &random);
            }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "incarnation" : CKPT_FOLDER_OWNER);
        flip_all(folder, path, 2, &random);
    }
    golden_remove(root);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"powercut", 1200, NULL, NULL},
        (const TTest *const[]){power_that_goes_leaves_what_was_committed,
            a_call_that_fails_leaves_what_was_committed, a_flipped_bit_is_seen_wherever_it_is,
            NULL});
}
