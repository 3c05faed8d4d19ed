/*
 * Goal: a tokenizer.json costs no more memory than is stated, however large it is or claims to be:
 * what is read is bounded before it is parsed (one of the files that a stranger may have made), and
 * the largest published ones are read. Method: files that are too long or hold too many values, and
 * two that were published; each in a process of its own, whose peak of memory is taken.
 */
#include "base/io.h"
#include "runtime/text/tok.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[64];

static void setup(void)
{
    golden_folder(folder);
}

static void done(void)
{
    golden_remove(folder);
}

static int64_t peak_mib(void)
{
    struct rusage u;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss >> 10;
}

/* Opens the folder's tokenizer: what it says, and MiB that the peak grew by. */
static int open_tokenizer(const char *path, struct err *e, int64_t *grown)
{
    struct tok *t = NULL;
    int64_t before = peak_mib();
    int rc = tok_open_folder(path, -1, -1, &t, e);
    *grown = peak_mib() - before;
    printf("%s: %lld MiB, %s\n", path, (long long)*grown, rc ? e->text : "read");
#ifdef __SANITIZE_ADDRESS__
    *grown = 0; /* its own memory is in it */
#endif
    tok_close(t);
    return rc;
}

START_TEST(a_file_that_is_too_long_is_not_read)
{
    char path[128];
    struct err e = {0};
    int64_t grown;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, 128 << 20), 0);
    close(fd);
    ck_assert_int_eq(open_tokenizer(folder, &e, &grown), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "tokenizer.json") != NULL, "%s", e.text);
    ck_assert_int_le(grown, 64); /* what was read of it */
}
END_TEST

START_TEST(too_many_values_are_not_parsed)
{
    char path[128];
    buf_auto struct buf text;
    struct err e = {0};
    int64_t grown;
    buf_init(&text, 16 << 20);
    buf_str(&text, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[0");
    for (int i = 0; i < 3 << 20; i++)
        buf_str(&text, ",0");
    buf_str(&text, "]}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    golden_write(path, text.data, text.len);
    ck_assert_int_eq(open_tokenizer(folder, &e, &grown), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "values") != NULL, "%s", e.text);
    ck_assert_int_le(grown, 32); /* the text */
}
END_TEST

START_TEST(published_ones_are_read_within_the_budget)
{
    char path[1024];
    struct err e = {0};
    int64_t grown;
    if (!golden_fetch("tokenizer-qwen3", path))
        return;
    ck_assert_msg(!open_tokenizer(path, &e, &grown), "%s", e.text);
    ck_assert_int_le(grown, 130);
}
END_TEST

START_TEST(the_largest_is_read_within_the_budget)
{
    char path[1024];
    struct err e = {0};
    int64_t grown;
    if (!golden_fetch("tokenizer-gemma3", path))
        return;
    ck_assert_msg(!open_tokenizer(path, &e, &grown), "%s", e.text);
    ck_assert_int_le(grown, 300);
}
END_TEST

int main(void)
{
    return unit_run_with(
        &(struct unit){.name = "tok_json", .timeout_s = 60, .setup = setup, .done = done},
        (const TTest *const[]){a_file_that_is_too_long_is_not_read, too_many_values_are_not_parsed,
            published_ones_are_read_within_the_budget, the_largest_is_read_within_the_budget,
            NULL});
}
