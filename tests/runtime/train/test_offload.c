/*
 * Goal: optimizer state in a file is as good as in memory, and leaves none of it behind, neither in
 * memory nor on disk. Method: windows of a file, and what is resident of it; a folder without room,
 * a folder of memory, and none; trainings with state in a file beside those without, to the bit:
 * optimizers, kinds of state, several windows, slices of it, a resume; the memory of one whose
 * state does not fit into what it may have.
 * needs: sample
 */
#include "runtime/train/offload.h"

#include "runtime/train/train.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB 1048576

static struct err e;

/* Of a disk, where the system has one. */
static char folder[64];

static void setup(void)
{
    training_setup();
    snprintf(folder, sizeof folder, "/var/tmp/llmjob-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    golden_remove(folder);
    training_teardown();
}

static int64_t resident(const void *at, int64_t bytes)
{
    int64_t page = sysconf(_SC_PAGESIZE), pages = bytes / page, count = 0;
    mem_autofree unsigned char *in = mem_array((size_t)pages, 1);
    ck_assert(in && !mincore((void *)at, (size_t)bytes, in));
    for (int64_t i = 0; i < pages; i++)
        count += in[i] & 1;
    return count * page;
}

static int files_in_folder(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* itself and above */
}

START_TEST(windows_come_and_go)
{
    enum { ALL = 32 * MIB, WINDOW = MIB };
    struct offload *o;
    ck_assert_msg(!offload_open(folder, ALL - 5, &o, &e), "%s", e.text);
    ck_assert_int_eq(files_in_folder(), 0);
    uint32_t *data = offload_data(o);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t at = 0; at < ALL; at += WINDOW) {
            uint32_t *x = data + at / 4;
            offload_expect(o, x, WINDOW);
            int wrong = 0;
            for (int64_t i = 0; i < WINDOW / 4; i++) {
                wrong += x[i] != (pass ? (uint32_t)(at + i) : 0);
                x[i] = (uint32_t)(at + i);
            }
            ck_assert_int_eq(wrong, 0);
            offload_leave(o, x, at + WINDOW < ALL ? WINDOW : WINDOW - 5);
            ck_assert_int_le(resident(data, ALL), 8 * WINDOW);
        }
        ck_assert_msg(!offload_settle(o, &e), "%s", e.text);
        ck_assert_int_le(resident(data, ALL), MIB / 4);
    }
    offload_close(o);
    ck_assert_int_eq(files_in_folder(), 0);
}
END_TEST

START_TEST(what_cannot_be_is_told_at_once)
{
    struct offload *o = NULL;
    ck_assert_int_eq(offload_open(folder, INT64_C(1) << 46, &o, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "has no room for 67108864 MiB of optimizer state of this rank: "),
        "%s", e.text);
    ck_assert_int_eq(files_in_folder(), 0);
    ck_assert_int_eq(offload_open("/dev/shm", MIB, &o, &e), -ERR_USER);
    ck_assert_str_eq(
        e.text, "spec.train.optimizer.offload: /dev/shm is memory itself (a tmpfs), not a disk");
    ck_assert_int_eq(offload_open(training_path("nowhere"), MIB, &o, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "nowhere: No such file or directory"), "%s", e.text);
    ck_assert_ptr_null(o);
}
END_TEST

/* -- trainings -- */

#define STEPS 6

/* Of 1.3 million parameters, a third more than a window has, and of 9.6 million. */
#define LLAMA_OF(dim, ffn) \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": " dim ", " \
    "\"intermediate_size\": " ffn ", \"num_hidden_layers\": 4, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"

static const char SMALL[] = LLAMA_OF("192", "384"), LARGE[] = LLAMA_OF("512", "1024");

static struct jobspec job(const char *run, const char *shape, bool offload)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");
    golden_write(path, shape, strlen(shape));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    char out[32];
    snprintf(out, sizeof out, "%s-out", run);
    s.train.output = mem_strdup(training_path(out));
    s.train.optimizer.offload = offload ? folder : NULL;
    return s;
}

static void forget(struct jobspec *s)
{
    golden_remove(s->checkpoint.path);
    golden_remove(s->train.output);
    mem_free((char *)s->model.config);
    mem_free((char *)s->train.output);
}

static void by_lion_in_bf16(struct jobspec *s)
{
    s->train.optimizer.name = OPTIMIZER_LION;
    s->train.optimizer.state = OPTIMIZER_STATE_BF16;
    s->precision = PRECISION_BF16;
}

static void by_sgd(struct jobspec *s)
{
    s->train.optimizer.name = OPTIMIZER_SGD;
    s->train.optimizer.learning_rate = 0.3;
    s->train.optimizer.momentum = 0.9;
}

static void in_codes(struct jobspec *s)
{
    s->train.optimizer.state = OPTIMIZER_STATE_INT8;
}

static void divided(struct jobspec *s)
{
    s->parallelism.zero_stage = 1;
}

static void compare(void (*change)(struct jobspec *), int world)
{
    struct jobspec memory = job("memory", SMALL, false), file = job("file", SMALL, true);
    if (change) {
        change(&memory);
        change(&file);
    }
    struct outcome a = training_run_whole(&memory, world);
    struct outcome b = training_run(&(struct training){
        .spec = &file, .size = world, .incarnation = 1, .stop_after = STEPS / 2});
    ck_assert_msg(b.drained, "%s", b.message);
    struct outcome c =
        training_run(&(struct training){.spec = &file, .size = world, .incarnation = 2});
    ck_assert_msg(c.exit[0] == EXIT_CLASS_DONE, "%s", c.message);
    for (int k = 1; k <= STEPS; k++)
        ck_assert(a.loss[k] == (k <= b.last ? b.loss[k] : c.loss[k]));
    training_same_files(
        training_path("memory-out/model.safetensors"), training_path("file-out/model.safetensors"));
    forget(&memory);
    forget(&file);
}

START_TEST(the_bits_are_those_of_memory)
{
    compare(NULL, 1);
    compare(by_lion_in_bf16, 1);
    compare(by_sgd, 1);
    compare(in_codes, 1);
    compare(divided, 2);
}
END_TEST

/* -- memory -- */

static int64_t peak_of_ranks(void)
{
    struct rusage u;
    ck_assert(!getrusage(RUSAGE_CHILDREN, &u));
    return (int64_t)u.ru_maxrss * 1024;
}

/* Its moments take 73 MiB; it may have 120 in all, which it would have, but for them. */
START_TEST(state_that_does_not_fit_is_trained_with)
{
    const int64_t state = 73LL * MIB, budget = 120LL * MIB;
    struct jobspec file = job("file", LARGE, true), memory = job("memory", LARGE, false);
    file.train.steps = memory.train.steps = 3;
    struct outcome o = training_run(
        &(struct training){.spec = &file, .size = 1, .incarnation = 1, .budget_bytes = budget});
    int64_t there = peak_of_ranks(), planned = o.memory_bytes;
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert_int_eq(files_in_folder(), 0);
    o = training_run(
        &(struct training){.spec = &memory, .size = 1, .incarnation = 1, .budget_bytes = budget});
    ck_assert_int_ne(o.exit[0], EXIT_CLASS_DONE);
    ck_assert_msg(strstr(o.message, "this rank needs"), "%s", o.message);
    memory.checkpoint.asynchronous = false;
    training_run_whole(&memory, 1);
    int64_t here = peak_of_ranks();
    printf("planned %lld MiB, in memory at most %lld MiB; %lld MiB without a file\n",
        (long long)planned / MIB, (long long)there / MIB, (long long)here / MIB);
    ck_assert_int_gt(here - there, state - OFFLOAD_BYTES - 8 * MIB);
    forget(&file);
    forget(&memory);
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){"offload", 120, setup, teardown},
        (const TTest *const[]){windows_come_and_go, what_cannot_be_is_told_at_once,
            the_bits_are_those_of_memory, state_that_does_not_fit_is_trained_with, NULL});
}
