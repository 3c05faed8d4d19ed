/*
 * run_secrets: goal: a job that names Secrets has what they hold, from files, and no other key of
 * the folder; what is missing, or given in vain, is told by its flag or field. Method: specs made
 * here, files of the test's.
 */
#include "cli/run_secrets.h"

#include "api/names.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], keys[96], hooks[96], out[96];
static struct err e;

static void put(const char *path, const char *text)
{
    ck_assert_int_eq(io_write_file(path, text, strlen(text), 0600, &e), 0);
}

static void setup(void)
{
    char path[160];
    snprintf(folder, sizeof folder, "/tmp/llmjob-secrets-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(keys, sizeof keys, "%s/keys", folder);
    snprintf(hooks, sizeof hooks, "%s/hooks", folder);
    snprintf(out, sizeof out, "%s/job", folder);
    ck_assert_int_eq(io_mkdirs(hooks, 0700, &e), 0);
    ck_assert_int_eq(io_mkdirs(out, 0700, &e), 0);
    put(keys, "k1\n");
    snprintf(path, sizeof path, "%s/token", hooks);
    put(path, "t0ken\n");
    snprintf(path, sizeof path, "%s/other", hooks);
    put(path, "secret");
}

static void teardown(void)
{
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

/* Of alerts the second names a key. */
static struct jobspec spec_of(const char *api_key_secret, const char *webhook_secret)
{
    return (struct jobspec){.task = TASK_SERVE,
        .serve = {.api_key_secret = api_key_secret,
            .classify = {.webhook_secret = webhook_secret,
                .alerts = {{.name = "a"},
                    {.name = "b", .webhook_key = webhook_secret ? "token" : NULL}},
                .alert_count = 2}}};
}

START_TEST(what_is_named_is_given)
{
    const struct {
        enum task task;
        const char *api_key_secret, *webhook_secret, *keys, *hooks, *says;
    } table[] = {
        {TASK_SERVE, NULL, NULL, "", "", NULL},
        {TASK_SERVE, "s", "h", keys, hooks, NULL},
        {TASK_SERVE, NULL, NULL, keys, "", NULL},
        {TASK_SERVE, "s", NULL, "", "", "f: spec.serve.apiKeySecret: there are no Secrets here"},
        {TASK_TRAIN, NULL, NULL, keys, "", "--api-key-file: f serves nothing"},
        {TASK_SERVE, NULL, "h", "", "", "f: spec.serve.classify.webhookSecret: there are no"},
        {TASK_SERVE, NULL, NULL, "", hooks, "--webhook-secret: f names no webhookSecret"},
        {TASK_TRAIN, NULL, NULL, "", hooks, "--webhook-secret: f names no webhookSecret"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct jobspec spec = spec_of(table[i].api_key_secret, table[i].webhook_secret);
        const struct run_secrets s = {"f", table[i].keys, table[i].hooks};
        spec.task = table[i].task;
        int rc = run_secrets_check(&s, &spec, &e);
        ck_assert_int_eq(rc, table[i].says ? -ERR_USER : 0);
        ck_assert_msg(!rc || strstr(e.text, table[i].says) == e.text, "%s", e.text);
        ck_assert(rc || !*table[i].keys == !spec.serve.api_key_secret);
    }
}
END_TEST

static void assert_has(const char *file, const char *text)
{
    char path[192];
    struct stat st;
    buf_auto struct buf found;
    buf_init(&found, 64);
    snprintf(path, sizeof path, "%s/%s", out, file);
    ck_assert_int_eq(io_read_file(path, 64, &found, &e), 0);
    ck_assert_str_eq(buf_cstr(&found), text);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}

START_TEST(only_what_is_named_is_written)
{
    char path[192];
    struct jobspec spec = spec_of("s", "h");
    const struct run_secrets s = {"f", keys, hooks};
    ck_assert_int_eq(run_secrets_write(&s, &spec, out, &e), 0);
    assert_has(NAME_API_KEY_FILE, "k1\n");
    assert_has(NAME_WEBHOOK_DIR "/token", "t0ken\n");
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR "/other", out);
    ck_assert(!io_exists(path));
    spec.serve.classify.alerts[0].webhook_key = "none";
    ck_assert_int_eq(run_secrets_write(&s, &spec, out, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "/hooks/none"));
    put(keys, " \n");
    ck_assert_int_eq(run_secrets_write(&s, &spec, out, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "no API key"));
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"run_secrets", 30, setup, teardown},
        (const TTest *const[]){what_is_named_is_given, only_what_is_named_is_written, NULL});
}
