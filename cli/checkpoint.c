/*
 * checkpoint: the command that says what a folder of checkpoints holds, and whether it is as it was
 * written. The files are the runtime's and no other room reads them, so this only checks what was
 * typed and becomes `llmjob-rank checkpoint ...` (runtime/ckpt/inspect.h), whose exit status is the
 * command's.
 */
#include "api/names.h"
#include "base/number.h"
#include "cli/command.h"
#include "cli/spawn.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <unistd.h>

struct checkpoint_conf {
    const char *rank_program;
    int64_t step;
};

#define RANK_PROGRAM \
    { \
        "rank-program", CONF_STR, offsetof(struct checkpoint_conf, rank_program), NULL, "", \
            "path of llmjob-rank; else beside llmjob" \
    }

static const struct conf_item ls_items[] = {RANK_PROGRAM, {0}};
static const struct conf_item verify_items[] = {
    {"step", CONF_INT, offsetof(struct checkpoint_conf, step), NULL, "-1",
        "only the checkpoint of this step; -1: all"},
    RANK_PROGRAM,
    {0},
};

static const char usage[] =
    "llmjob checkpoint ls PATH, or llmjob checkpoint verify PATH [--step N]\n\n"
    "PATH is a folder of checkpoints, spec.checkpoint.path, as this machine sees it.\n\n"
    "ls      lists the checkpoints, the newest first: step, time, size, world and layout that\n"
    "        wrote it, precision, and what it was trained from. What is damaged, as far as that\n"
    "        can be told without reading everything, is marked, and so is what a training found\n"
    "        damaged and set aside, with what all of that takes: nothing removes it but you.\n"
    "verify  reads everything and compares it with the hashes of the manifest. It names each file\n"
    "        that is not as it was written; then it ends with the status of a corrupt checkpoint.";

static int become_rank(
    const struct checkpoint_conf *conf, const char *verb, const char *path, struct err *e)
{
    char program[512], step[24];
    spawn_find(conf->rank_program, NULL, "llmjob-rank", NAME_LIB_DIR "/llmjob-rank", program,
        sizeof program);
    snprintf(step, sizeof step, "%" PRId64, conf->step);
    char *const argv[] = {program, (char *)"checkpoint", (char *)verb, (char *)path,
        conf->step >= 0 ? step : NULL, NULL};
    execvp(program, argv);
    return err_sys(e, ERR_USER, errno, "%s", program);
}

int command_checkpoint(int argc, char **argv, int *status, struct err *e)
{
    struct checkpoint_conf conf = {.step = -1};
    const char *verb = argc > 1 ? argv[1] : "", *path;
    bool ls = !strcmp(verb, "ls"), verify = !strcmp(verb, "verify");
    *status = 0;
    if (!strcmp(verb, "--help") || !strcmp(verb, "-h")) {
        printf("Usage: %s\n", usage);
        return 0;
    }
    if (!ls && !verify)
        return err_set(e, ERR_USER, "ls or verify is expected%s%.40s; --help tells more",
            *verb ? ", not " : "", verb);
    int rc = command_flags(
        ls ? ls_items : verify_items, usage, "folder", argc - 1, argv + 1, &conf, &path, e);
    if (rc <= 0)
        return rc;
    if (conf.step < -1 || conf.step > NUMBER_EXACT)
        return err_set(e, ERR_USER, "--step: %" PRId64 " is no step", conf.step);
    return become_rank(&conf, ls ? "ls" : "verify", path, e);
}
