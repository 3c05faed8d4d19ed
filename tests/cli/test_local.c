/*
 * Goal: a job of the cluster finds its files on this machine, and nothing is mapped by mistake.
 * Method: specs with storage are mapped in a temporary folder; every path of the result is
 * compared, and the result must be a spec that api/jobspec accepts.
 */
#include "base/io.h"
#include "base/yaml.h"
#include "cli/local.h"

#include <check.h>
#include <limits.h>
#include <unistd.h>

static struct arena *arena;
static char root[PATH_MAX];

static void setup(void)
{
    char made[] = "/tmp/test_local.XXXXXX";
    arena = arena_create(1 << 20);
    ck_assert_ptr_nonnull(mkdtemp(made));
    ck_assert_ptr_nonnull(realpath(made, root));
    ck_assert_int_eq(chdir(root), 0);
}

static void teardown(void)
{
    struct err e;
    arena_destroy(arena);
    io_remove_tree(root, &e);
}

static const char job[] =
    "{apiVersion: llmjob.dev/v1alpha1, kind: LLMJob, metadata: {name: j}, spec: {"
    "storage: [{name: data, claimName: c, mountPath: /no-such/data}, {name: ckpt, claimName: "
    "d, mountPath: /no-such/data/ckpt}],"
    "model: {source: /no-such/data/m.gguf, init: Random, config: /no-such/data/c.json}, "
    "checkpoint: {path: /no-such/data/ckpt/j}, "
    "train: {data: {train: /no-such/data/t, validation: /no-such/data/v}, steps: 1, "
    "tensorboard: /no-such/data/tb, "
    "output: /no-such/data/out}}}";

static void read_job(struct jobspec *spec)
{
    struct json *documents;
    struct err e = {.text = ""};
    ck_assert_int_eq(yaml_parse(job, strlen(job), &documents, &e), 0);
    ck_assert_msg(!jobspec_decode(json_first(documents), arena, spec, &e), "%s", e.text);
    json_destroy(documents);
}

static void assert_path(const char *path, const char *below_root)
{
    char expect[PATH_MAX + 64];
    snprintf(expect, sizeof expect, "%s/%s", root, below_root);
    ck_assert_str_eq(path, expect);
}

START_TEST(test_default_folders)
{
    struct jobspec s, again;
    struct err e = {.text = ""};
    read_job(&s);
    ck_assert_msg(!local_map(&s, "", arena, &e), "%s", e.text);
    assert_path(s.model.source, "llmjob-data/data/m.gguf");
    assert_path(s.model.config, "llmjob-data/data/c.json");
    assert_path(s.checkpoint.path, "llmjob-data/ckpt/j"); /* the inner mount wins */
    assert_path(s.train.data.train, "llmjob-data/data/t");
    assert_path(s.train.data.validation, "llmjob-data/data/v");
    assert_path(s.train.tensorboard, "llmjob-data/data/tb");
    assert_path(s.train.output, "llmjob-data/data/out");
    ck_assert(io_exists("llmjob-data/data") && io_exists("llmjob-data/ckpt"));
    /* An agent reads it from job.json and checks it again. */
    buf_auto struct buf b;
    json_auto struct json *tree = NULL;
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    ck_assert_int_eq(jobspec_encode(&s, &b, &e), 0);
    ck_assert_int_eq(json_parse(b.data, b.len, &tree, &e), 0);
    ck_assert_msg(!jobspec_decode(tree, arena, &again, &e), "%s", e.text);
}
END_TEST

START_TEST(test_given_folders)
{
    struct jobspec s;
    struct err e = {.text = ""};
    char mapping[2 * PATH_MAX];
    read_job(&s);
    snprintf(mapping, sizeof mapping, "data=%s/here,ckpt=there", root);
    ck_assert_msg(!local_map(&s, mapping, arena, &e), "%s", e.text);
    assert_path(s.model.source, "here/m.gguf");
    assert_path(s.checkpoint.path, "there/j");
    assert_path(s.storage[0].mount_path, "here");
}
END_TEST

/* A folder inside another entry's folder must not be moved twice. */
START_TEST(test_moved_once)
{
    struct jobspec s;
    struct err e = {.text = ""};
    char mapping[2 * PATH_MAX];
    read_job(&s);
    s.storage[1].mount_path = "/no-such/data-long-name";
    s.checkpoint.path = "/no-such/data-long-name/j";
    snprintf(mapping, sizeof mapping, "data=x,ckpt=%s/x", root);
    ck_assert_int_eq(local_map(&s, mapping, arena, &e), 0);
    assert_path(s.checkpoint.path, "x/j");
}
END_TEST

/* Those of lists, too. */
START_TEST(test_adapters_are_moved)
{
    struct jobspec s;
    struct err e = {.text = ""};
    struct jobspec_served_adapter adapters[] = {
        {"a", "/no-such/data/a"}, {"b", "/no-such/data/ckpt/b"}, {"c", "/no-such/other"}};
    char mapping[2 * PATH_MAX];
    read_job(&s);
    s.serve.adapters = adapters;
    s.serve.adapter_count = 3;
    snprintf(mapping, sizeof mapping, "data=x,ckpt=%s/y", root);
    ck_assert_int_eq(local_map(&s, mapping, arena, &e), 0);
    assert_path(adapters[0].path, "x/a");
    assert_path(adapters[1].path, "y/b");
    ck_assert_str_eq(adapters[2].path, "/no-such/other");
}
END_TEST

START_TEST(test_existing_mount_path)
{
    struct jobspec s;
    struct err e = {.text = ""};
    read_job(&s);
    char inside[PATH_MAX + 8];
    snprintf(inside, sizeof inside, "%s/m", root);
    s.storage_count = 1;
    s.storage[0].mount_path = root;
    s.model.source = inside;
    s.model.config = s.checkpoint.path = s.train.data.train = s.train.data.validation = NULL;
    s.train.tensorboard = s.train.output = NULL;
    ck_assert_int_eq(local_map(&s, "", arena, &e), 0);
    ck_assert_str_eq(s.model.source, inside);
    ck_assert(!io_exists("llmjob-data"));
}
END_TEST

static const char *const bad[] = {"nope=x", "data", "data=x,other=y", "dat=x", "=x"};

START_TEST(test_bad_mapping)
{
    struct jobspec s;
    struct err e = {.text = ""};
    read_job(&s);
    ck_assert_int_eq(local_map(&s, bad[_i], arena, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "wanted NAME=DIR"));
}
END_TEST

START_TEST(test_move)
{
    ck_assert_str_eq(local_move("/data/x", "/data", "/srv", arena), "/srv/x");
    ck_assert_str_eq(local_move("/data", "/data", "/srv", arena), "/srv");
    ck_assert_str_eq(local_move("/database/x", "/data", "/srv", arena), "/database/x");
    ck_assert_ptr_null(local_move(NULL, "/data", "/srv", arena));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local");
    TCase *t = tcase_create("local");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_default_folders);
    tcase_add_test(t, test_given_folders);
    tcase_add_test(t, test_moved_once);
    tcase_add_test(t, test_adapters_are_moved);
    tcase_add_test(t, test_existing_mount_path);
    tcase_add_loop_test(t, test_bad_mapping, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, test_move);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
