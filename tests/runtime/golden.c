/*
 * golden: see golden.h. A fixture, linked into every test of this room.
 */
#include "tests/runtime/golden.h"

#include "base/io.h"
#include "base/mem.h"

#include <check.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The first line that fetch.sh prints, when it succeeds. */
static bool run_fetch(const char *model, char *out, size_t size)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    pid_t pid;
    char *argv[] = {(char *)GOLDEN "fetch.sh", (char *)model, NULL};
    int rc = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t len = 0;
    ssize_t n = 0;
    while (!rc && len < size - 1 && (n = read(ends[0], out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    close(ends[0]);
    out[len] = 0;
    out[strcspn(out, "\n")] = 0;
    int status = 1;
    return !rc && waitpid(pid, &status, 0) == pid && status == 0 && *out;
}

bool golden_fetch(const char *model, char path[1024])
{
    if (run_fetch(model, path, 1024))
        return true;
    printf("SKIP: model %s cannot be fetched\n", model);
    fflush(stdout);
    return false;
}

struct json *golden_json(const char *path)
{
    struct json *root = NULL;
    struct err e = {0};
    json_read_file(path, 64 << 20, &root, &e);
    ck_assert_msg(root != NULL, "%s", e.text);
    return root;
}

int32_t *golden_ids(const struct json *list, int64_t *count)
{
    ck_assert(json_is_array(list));
    int32_t *ids = mem_array(json_count(list) + 1, sizeof *ids);
    *count = 0;
    json_each (v, list)
        ids[(*count)++] = (int32_t)json_number_value(v);
    return ids;
}

void golden_folder(char path[64])
{
    snprintf(path, 64, "/tmp/llmjob-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

void golden_remove(const char *path)
{
    struct err e = {0};
    ck_assert_msg(io_remove_tree(path, &e) == 0, "%s", e.text);
}

void golden_write(const char *path, const void *data, size_t size)
{
    struct err e = {0};
    ck_assert_msg(io_write_file(path, data, size, 0600, &e) == 0, "%s", e.text);
}
