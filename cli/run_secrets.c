/*
 * run_secrets: only keys that the job names are copied.
 */
#include "cli/run_secrets.h"

#include "api/limits.h"
#include "api/names.h"
#include "base/io.h"

#include <stdio.h>
#include <string.h>

int run_secrets_check(const struct run_secrets *s, struct jobspec *spec, struct err *e)
{
    bool serves = spec->task == TASK_SERVE;
    bool hooks = serves && spec->serve.classify.webhook_secret;
    if (serves && spec->serve.api_key_secret && !*s->api_key_file)
        return err_set(e, ERR_USER,
            "%s: spec.serve.apiKeySecret: there are no Secrets here; "
            "give the key by --api-key-file",
            s->file);
    if (*s->api_key_file && !serves)
        return err_set(e, ERR_USER, "--api-key-file: %s serves nothing", s->file);
    if (hooks && !*s->webhook_folder)
        return err_set(e, ERR_USER,
            "%s: spec.serve.classify.webhookSecret: there are no Secrets here; "
            "give a folder that has its keys by --webhook-secret",
            s->file);
    if (*s->webhook_folder && !hooks)
        return err_set(e, ERR_USER, "--webhook-secret: %s names no webhookSecret", s->file);
    if (*s->api_key_file)
        spec->serve.api_key_secret = "keys";
    return 0;
}

static int write_api_keys(const struct run_secrets *s, const char *job_dir, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf keys;
    buf_init(&keys, LIMIT_API_KEYS_BYTES + 1);
    int rc = io_read_file(s->api_key_file, LIMIT_API_KEYS_BYTES, &keys, e);
    if (rc)
        return rc;
    if (strspn(buf_cstr(&keys), " \t\r\n") == keys.len)
        return err_set(e, ERR_USER, "%s: no API key", s->api_key_file);
    snprintf(path, sizeof path, "%s/%s", job_dir, NAME_API_KEY_FILE);
    return io_write_file(path, buf_cstr(&keys), keys.len, 0600, e);
}

static int write_webhook_key(
    const struct run_secrets *s, const char *key, const char *job_dir, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    buf_init(&text, LIMIT_WEBHOOK_BYTES + 1);
    snprintf(path, sizeof path, "%s/%s", s->webhook_folder, key);
    int rc = io_read_file(path, LIMIT_WEBHOOK_BYTES, &text, e);
    if (rc)
        return err_wrap(e, "--webhook-secret");
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR, job_dir);
    rc = io_mkdirs(path, 0700, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR "/%s", job_dir, key);
    return io_write_file(path, buf_cstr(&text), text.len, 0600, e);
}

int run_secrets_write(
    const struct run_secrets *s, const struct jobspec *spec, const char *job_dir, struct err *e)
{
    int rc = *s->api_key_file ? write_api_keys(s, job_dir, e) : 0;
    for (int i = 0; !rc && *s->webhook_folder && i < spec->serve.classify.alert_count; i++) {
        const char *key = spec->serve.classify.alerts[i].webhook_key;
        rc = key ? write_webhook_key(s, key, job_dir, e) : 0;
    }
    return rc;
}
