/*
 * llmjob, also installed as kubectl-llmjob: the command line. Owns the command table, and the one
 * place where an error becomes a message and an exit status (api/exitcode.h). Each command is one
 * file.
 */
#include "api/exitcode.h"
#include "base/log.h"
#include "cli/command.h"

static command_fn command_version;

static const struct command {
    const char *name;
    command_fn *fn;
    const char *summary;
} commands[] = {
    {"run", command_run, "run a job file on this machine alone, without a cluster"},
    {"top", command_top, "watch a job of the cluster on one live screen"},
    {"plot", command_plot, "draw the curves of trainings"},
    {"validate", command_validate, "check job files without a cluster"},
    {"plan", command_plan, "say how a training would be laid out, without running it"},
    {"checkpoint", command_checkpoint, "list checkpoints, or look for damage in them"},
    {"api-doc", command_api_doc, "print the reference of a CRD as Markdown"},
    {"version", command_version, "print the version"},
};

static int command_version(int argc, char **argv, int *status, struct err *e)
{
    (void)argv;
    *status = 0;
    if (argc > 1)
        return err_set(e, ERR_USER, "version takes no arguments");
    puts("llmjob " LLMJOB_VERSION);
    return 0;
}

static void usage(FILE *out)
{
    fputs("llmjob: train and serve language models, as LLMJob manifests\n\n"
          "usage: llmjob COMMAND [flags] [arguments]     (kubectl llmjob is the same)\n\n",
        out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nllmjob COMMAND --help tells more.\n", out);
}

int main(int argc, char **argv)
{
    struct err e = {.text = ""};
    int status = 0;
    log_setup("llmjob", LOG_WARN, false);
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        usage(stdout);
        return EXIT_CLASS_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(name, commands[i].name) != 0 &&
            !(commands[i].fn == command_version && !strcmp(name, "--version")))
            continue;
        if (commands[i].fn(argc - 1, argv + 1, &status, &e)) {
            command_print(stderr, "llmjob %s: %s", name, e.text);
            return (int)exit_class_of(e.code);
        }
        return status;
    }
    if (*name)
        command_print(stderr, "llmjob: no command %s", name);
    usage(stderr);
    return EXIT_CLASS_USER;
}
