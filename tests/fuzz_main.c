/*
 * fuzz_main: runs a fuzzer (LLVMFuzzerTestOneInput, so libFuzzer can drive it too) without
 * libFuzzer.
 *
 *   fuzz_x            the corpus tests/corpus/x, then for FUZZ_SECONDS (2) random mutations of it,
 *                     from FUZZ_SEED
 *   fuzz_x file...    these inputs only, to look at a failure again
 *
 * The fuzzer runs in a child whose current input stands in shared memory. When the child dies or
 * takes longer than ten seconds over one input, the parent writes that input beside the program and
 * fails.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/random.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT_BYTES  (64 << 10)
#define CORPUS_FILES 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buf corpus[CORPUS_FILES];
static int corpus_count;

static struct fuzz_input {
    uint64_t runs;
    size_t size;
    uint8_t data[INPUT_BYTES];
} * now;

static uint64_t state; /* of base/random */

static uint64_t next(void)
{
    return random_next(&state);
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

static int read_corpus(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d)) && corpus_count < CORPUS_FILES;) {
        char path[1024];
        struct err e;
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        buf_init(&corpus[corpus_count], INPUT_BYTES);
        if (io_read_file(path, INPUT_BYTES, &corpus[corpus_count], &e)) {
            printf("%s\n", e.text);
            return -1;
        }
        corpus_count++;
    }
    if (d)
        closedir(d);
    if (!corpus_count)
        printf("no corpus in %s\n", folder);
    return corpus_count ? 0 : -1;
}

/* Runs what stands in *now, from a copy of exactly its size so that reading beyond it is seen. */
static void run_now(void)
{
    uint8_t *copy = mem_alloc(now->size);
    if (!copy)
        abort();
    memcpy(copy, now->data, now->size);
    alarm(10);
    LLVMFuzzerTestOneInput(copy, now->size);
    now->runs++;
    mem_free(copy);
}

static void set_now(const void *data, size_t size)
{
    now->size = size > INPUT_BYTES ? INPUT_BYTES : size;
    if (now->size)
        memcpy(now->data, data, now->size);
}

/* Opens a gap of n bytes at `at`; false when it does not fit. */
static bool open_gap(size_t at, size_t n)
{
    if (n > INPUT_BYTES - now->size)
        return false;
    memmove(now->data + at + n, now->data + at, now->size - at);
    now->size += n;
    return true;
}

static void mutate(void)
{
    static const uint8_t odd[] = {
        0, 1, 0x7f, 0x80, 0xff, '"', '\\', '{', '}', '[', ']', ',', ':', '-', '\n', ' '};
    size_t at = below(now->size + 1), n = below(below(16) ? 8 : 256) + 1;
    const struct buf *other = &corpus[below((size_t)corpus_count)];
    size_t from = below(other->len + 1), len = below(other->len - from + 1);
    switch (below(7)) {
    case 0:
        if (at < now->size)
            now->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (at < now->size)
            now->data[at] = odd[below(sizeof odd)];
        break;
    case 2: /* a byte more */
        if (open_gap(at, 1))
            now->data[at] = below(2) ? odd[below(sizeof odd)] : (uint8_t)next();
        break;
    case 3: /* a piece less */
        n = n > now->size - at ? now->size - at : n;
        memmove(now->data + at, now->data + at + n, now->size - at - n);
        now->size -= n;
        break;
    case 4: /* a piece twice */
        n = n > now->size - at ? now->size - at : n;
        if (open_gap(at, n))
            memmove(now->data + at, now->data + at + n, n);
        break;
    case 5: /* a piece of another input */
        if (len && open_gap(at, len))
            memcpy(now->data + at, other->data + from, len);
        break;
    default: /* an integer as binary formats have them */
        for (size_t i = 0; i < 4 && at + i < now->size; i++)
            now->data[at + i] = (uint8_t)((uint32_t)(next() >> below(64)) >> (8 * i));
    }
}

static void fuzz(int64_t until_ms)
{
    for (int i = 0; i < corpus_count; i++) {
        set_now(corpus[i].data, corpus[i].len);
        run_now();
    }
    while (clock_ms() < until_ms) {
        const struct buf *b = &corpus[below((size_t)corpus_count)];
        set_now(b->data, b->len);
        for (size_t i = below(8) + 1; i > 0; i--)
            mutate();
        run_now();
    }
}

static int run_files(int count, char **paths)
{
    for (int i = 0; i < count; i++) {
        buf_auto struct buf b;
        struct err e;
        buf_init(&b, INPUT_BYTES);
        if (io_read_file(paths[i], INPUT_BYTES, &b, &e)) {
            printf("%s\n", e.text);
            return 1;
        }
        set_now(b.data, b.len);
        run_now();
    }
    return 0;
}

static int judge(const char *program, int status)
{
    if (WIFEXITED(status) && !WEXITSTATUS(status))
        return 0;
    char path[1024];
    snprintf(path, sizeof path, "%s.failed-input", program);
    io_write_file(path, now->data, now->size, 0644, NULL);
    printf("status 0x%x after %" PRIu64 " inputs; see it again with: %s %s\n", (unsigned)status,
        now->runs, program, path);
    return 1;
}

int main(int argc, char **argv)
{
    now = mmap(NULL, sizeof *now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (now == MAP_FAILED)
        return 1;
    if (argc > 1)
        return run_files(argc - 1, argv + 1);
    const char *name = strstr(argv[0], "fuzz_");
    const char *seconds = getenv("FUZZ_SECONDS"), *seed = getenv("FUZZ_SEED");
    char folder[256];
    snprintf(folder, sizeof folder, "tests/corpus/%s", name ? name + strlen("fuzz_") : "");
    if (read_corpus(folder))
        return 1;
    uint64_t first = seed ? strtoull(seed, NULL, 10) : (uint64_t)clock_wall_ms();
    int64_t until_ms = clock_ms() + (seconds ? strtoll(seconds, NULL, 10) : 2) * 1000;
    printf("FUZZ_SEED=%" PRIu64 ", %d corpus files\n", first, corpus_count);
    fflush(stdout);
    state = first;
    pid_t child = fork();
    if (!child) {
        fuzz(until_ms);
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    int rc = child < 0 ? 1 : judge(argv[0], status);
    printf("%" PRIu64 " inputs\n", now->runs);
    for (int i = 0; i < corpus_count; i++)
        buf_done(&corpus[i]);
    return rc;
}
