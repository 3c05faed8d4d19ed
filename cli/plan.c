/*
 * plan: the command that says how a training, an evaluation or a served model would be laid out,
 * without running it. The planner is the runtime's, so this checks what was typed, writes the job
 * as agents would get it into memory, and becomes `llmjob-rank plan FILE ...`
 * (runtime/train/preview.h), `llmjob-rank forecast FILE ...` (runtime/evaluate/forecast.h) or, of
 * several models as one, `llmjob-rank muster FILE ...` (runtime/serve/muster.h), whose exit status
 * is the command's.
 */
#include "api/jobspec.h"
#include "api/jobspec_text.h"
#include "api/names.h"
#include "cli/command.h"
#include "cli/local.h"
#include "cli/spawn.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

struct plan_conf {
    const char *storage, *memory, *rank_program;
    int64_t replicas, best;
    double tflops, memory_gb_s, inside_gb_s, inside_us, between_gb_s, between_us;
};

#define FIGURE(name_, member, help_) \
    { \
        name_, CONF_NUM, offsetof(struct plan_conf, member), NULL, "0", help_ \
    }

static const struct conf_item plan_items[] = {
    {"storage", CONF_STR, offsetof(struct plan_conf, storage), NULL, "",
        "folders of storage entries, as of llmjob run"},
    {"replicas", CONF_INT, offsetof(struct plan_conf, replicas), NULL, "-1",
        "so many, whatever the file says; -1: as the file says"},
    {"memory", CONF_STR, offsetof(struct plan_conf, memory), NULL, "",
        "of one rank, such as 80Gi; else a rank's part of the file's resources, else a GPU's 80Gi"},
    {"best", CONF_INT, offsetof(struct plan_conf, best), NULL, "8", "layouts that are shown"},
    FIGURE("tflops", tflops,
        "TFLOP/s that a rank's large matrix products reach; 0: a GPU's 218 (an A100's 312, seven "
        "tenths of it), a processor's 0.2"),
    FIGURE("memory-gb-s", memory_gb_s, "GB/s of a rank's memory; 0: 2039, or 20"),
    FIGURE("inside-gb-s", inside_gb_s, "GB/s of a rank to others of its pod; 0: 300, or 5"),
    FIGURE("inside-us", inside_us, "a step of a sum inside a pod; 0: 3.4, or 20"),
    FIGURE("between-gb-s", between_gb_s,
        "GB/s of a rank to other pods, while all of its pod use it; 0: 25, or 1.25"),
    FIGURE("between-us", between_us, "a step of a sum between pods; 0: 14, or 100"),
    {"rank-program", CONF_STR, offsetof(struct plan_conf, rank_program), NULL, "",
        "path of llmjob-rank; else beside llmjob"},
    {0},
};

static const char plan_usage[] =
    "llmjob plan FILE [flags]\n\n"
    "Says how the training of FILE would be laid out over its ranks, without running it: the\n"
    "layouts that fit with the memory they take and the time of a step that is predicted, and\n"
    "those that do not fit. What the job would get is marked. Of the model only its config.json\n"
    "is read where model.init is Random; no text is. On a cluster links and devices are measured,\n"
    "here they are told. Where nothing fits it ends with the status of a job out of memory.\n"
    "Of an evaluation or a served model it says what each layout takes of a rank's memory, of\n"
    "several models as one what each rank's members take.";

/* Of the resources that a pod gets; 0: they do not say. */
static int64_t memory_of_file(const struct jobspec *s)
{
    const struct jobspec_map *maps[] = {&s->limits, &s->requests};
    int64_t bytes = 0;
    for (size_t k = 0; k < 2; k++)
        for (int i = 0; i < maps[k]->count && !bytes; i++)
            if (!strcmp(maps[k]->keys[i], "memory") && !jobspec_bytes(maps[k]->values[i], &bytes))
                bytes = 0;
    return bytes / s->device.per_replica;
}

static int memory_of(
    const struct plan_conf *c, const struct jobspec *s, int64_t *bytes, struct err *e)
{
    const char *kind = device_kind(s->device.resource);
    *bytes = 0;
    if (*c->memory && !jobspec_bytes(c->memory, bytes))
        return err_set(e, ERR_USER, "--memory: \"%.40s\" is no size such as 80Gi", c->memory);
    if (!*bytes && kind && strcmp(kind, "cpu") != 0)
        *bytes = 80LL << 30;
    if (!*bytes)
        *bytes = memory_of_file(s);
    if (!*bytes)
        return err_set(
            e, ERR_USER, "--memory is needed: spec.resources does not say what memory a pod has");
    return 0;
}

static int check_conf(const struct plan_conf *c, struct err *e)
{
    const struct {
        const char *name;
        double value;
    } figures[] = {{"tflops", c->tflops}, {"memory-gb-s", c->memory_gb_s},
        {"inside-gb-s", c->inside_gb_s}, {"inside-us", c->inside_us},
        {"between-gb-s", c->between_gb_s}, {"between-us", c->between_us}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        if (!(figures[i].value >= 0 && figures[i].value <= 1e9))
            return err_set(e, ERR_USER, "--%s: not in 0 to 1e9", figures[i].name);
    if (c->replicas < -1 || !c->replicas || c->replicas > LIMIT_REPLICAS)
        return err_set(e, ERR_USER, "--replicas: from 1 to %d", LIMIT_REPLICAS);
    if (c->best < 1 || c->best > 1000)
        return err_set(e, ERR_USER, "--best: from 1 to 1000");
    return 0;
}

static int read_job(
    const struct plan_conf *c, const char *file, struct arena *a, struct jobspec *s, struct err *e)
{
    int rc = jobspec_read_file(file, a, s, e);
    if (rc)
        return rc;
    if (s->task == TASK_RUN || s->task == TASK_CONVERT)
        return err_set(e, ERR_USER,
            "%s: only trainings, evaluations and served models are laid out, and this is a %s job",
            file, task_name(s->task));
    if (c->replicas > 0)
        s->replicas = (int)c->replicas;
    if (!s->replicas)
        return err_set(e, ERR_USER, "%s: replicas is 0; give --replicas", file);
    return local_map(s, c->storage, a, e);
}

/* A file in memory that the next program still has. */
static int write_job(const struct jobspec *s, int *fd, struct err *e)
{
    buf_auto struct buf json;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(s, &json, e);
    if (rc)
        return rc;
    *fd = memfd_create("job.json", 0);
    if (*fd < 0 || write(*fd, json.data, json.len) != (ssize_t)json.len)
        return err_sys(e, ERR_USER, errno, "a job in memory");
    return 0;
}

static int become_rank(
    const struct plan_conf *c, const struct jobspec *s, int64_t memory, struct err *e)
{
    char program[512], text[9][64], file[32];
    int fd = -1, rc = write_job(s, &fd, e);
    if (rc)
        return rc;
    spawn_find(
        c->rank_program, NULL, "llmjob-rank", NAME_LIB_DIR "/llmjob-rank", program, sizeof program);
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    snprintf(text[0], sizeof text[0], "--memory-bytes=%lld", (long long)memory);
    snprintf(text[1], sizeof text[1], "--best=%lld", (long long)c->best);
    snprintf(text[2], sizeof text[2], "--tflops=%.9g", c->tflops);
    snprintf(text[3], sizeof text[3], "--memory-gb-s=%.9g", c->memory_gb_s);
    snprintf(text[4], sizeof text[4], "--inside-gb-s=%.9g", c->inside_gb_s);
    snprintf(text[5], sizeof text[5], "--inside-us=%.9g", c->inside_us);
    snprintf(text[6], sizeof text[6], "--between-gb-s=%.9g", c->between_gb_s);
    snprintf(text[7], sizeof text[7], "--between-us=%.9g", c->between_us);
    char *const training[] = {program, (char *)"plan", text[0], text[1], text[2], text[3], text[4],
        text[5], text[6], text[7], file, NULL};
    char *const forward[] = {program, (char *)"forecast", text[0], text[1], file, NULL};
    char *const members[] = {program, (char *)"muster", text[0], file, NULL};
    execvp(program,
        s->task == TASK_TRAIN                ? training
            : s->serve.ensemble.member_count ? members
                                             : forward);
    return err_sys(e, ERR_USER, errno, "%s", program);
}

int command_plan(int argc, char **argv, int *status, struct err *e)
{
    struct plan_conf conf = {.replicas = -1};
    const char *file;
    struct jobspec spec;
    int64_t memory;
    *status = 0;
    int rc = command_flags(plan_items, plan_usage, "job file", argc, argv, &conf, &file, e);
    if (rc <= 0)
        return rc;
    arena_auto struct arena *a = arena_create(1 << 20);
    if (!a)
        return err_set(e, ERR_MEMORY, "out of memory");
    if ((rc = check_conf(&conf, e)) || (rc = read_job(&conf, file, a, &spec, e)) ||
        (rc = memory_of(&conf, &spec, &memory, e)))
        return rc;
    return become_rank(&conf, &spec, memory, e);
}
