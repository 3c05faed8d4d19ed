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

static const struct conf_item items[] = {
    {"print", CONF_BOOL, offsetof(struct validate_conf, print), NULL, NULL,
        "print each job with every default filled in, as JSON"},
    {0},
};

static int validate_one(const char *path, bool print, struct err *e)
{
    struct arena *a = arena_create(1 << 20);
    buf_auto struct buf json;
    struct jobspec spec;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    int r = a ? jobspec_read_file(path, a, &spec, e) : err_set(e, ERR_MEMORY, "out of memory");
    if (!r && print)
        r = jobspec_encode(&spec, &json, e);
    if (!r && print)
        command_print(stdout, "%s", json.data);
    else if (!r)
        command_print(stdout, "%s: valid: %s %s, %d replica%s", path, task_name(spec.task),
            spec.name, spec.replicas, spec.replicas == 1 ? "" : "s");
    arena_destroy(a);
    return r;
}

int command_validate(int argc, char **argv, int *status, struct err *e)
{
    struct validate_conf conf = {false};
    argv[0] = (char *)"llmjob validate [--print] FILE...\n\n"
                      "Checks LLMJob manifests (YAML or JSON) with the rules of the API server.";
    int first = conf_load(items, argc, argv, &conf, e), result = 0;
    *status = 0;
    if (first <= 0)
        return first;
    if (first == argc)
        return err_set(e, ERR_USER, "no file given");
    for (int i = first; i < argc; i++) {
        struct err error = {.text = ""};
        if (!validate_one(argv[i], conf.print, &error))
            continue;
        if (result)
            command_print(stderr, "llmjob validate: %s", e->text);
        *e = error;
        result = -(int)error.code;
    }
    return result;
}
