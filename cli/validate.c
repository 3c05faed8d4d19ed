/*
 * validate: the command that checks job files as the API server would, without one. Prints a line a
 * file; the first file that is wrong decides the exit status, but every file is looked at.
 */
#include "api/jobspec.h"
#include "cli/command.h"

#include <stddef.h>

struct validate_conf {
    bool print;
};

static const struct conf_item validate_items[] = {
    {"print", CONF_BOOL, offsetof(struct validate_conf, print), NULL, NULL,
        "print each job with every default filled in, as JSON"},
    {0},
};

static int print_job(const struct jobspec *s, struct err *e)
{
    buf_auto struct buf json;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(s, &json, e);
    if (!rc)
        command_print(stdout, "%s", json.data);
    return rc;
}

static int validate_file(const char *path, bool print, struct arena *a, struct err *e)
{
    struct jobspec spec;
    int rc = jobspec_read_file(path, a, &spec, e);
    if (rc)
        return rc;
    if (print)
        return print_job(&spec, e);
    command_print(stdout, "%s: valid: %s %s, %d replica%s", path, task_name(spec.task), spec.name,
        spec.replicas, spec.replicas == 1 ? "" : "s");
    return 0;
}

static int validate_one(const char *path, bool print, struct err *e)
{
    struct arena *a = arena_create(1 << 20);
    int rc = a ? validate_file(path, print, a, e) : err_set(e, ERR_MEMORY, "out of memory");
    arena_destroy(a);
    return rc;
}

int command_validate(int argc, char **argv, int *status, struct err *e)
{
    struct validate_conf conf = {false};
    argv[0] = (char *)"llmjob validate [--print] FILE...\n\n"
                      "Checks LLMJob manifests (YAML or JSON) with the rules of the API server.";
    *status = 0;
    int first = conf_load(validate_items, argc, argv, &conf, e);
    if (first <= 0)
        return first;
    if (first == argc)
        return err_set(e, ERR_USER, "no file given");
    int rc = 0;
    for (int i = first; i < argc; i++) {
        struct err error = {.text = ""};
        if (!validate_one(argv[i], conf.print, &error))
            continue;
        if (rc)
            command_print(stderr, "llmjob validate: %s", e->text);
        *e = error;
        rc = -(int)error.code;
    }
    return rc;
}
