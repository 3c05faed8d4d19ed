/*
 * llmjob-rank: one rank of a world. Started by an agent with two inherited descriptors
 * (api/wire.h). Says how it ended twice: by a last frame (WIRE_DONE, WIRE_FAILED) and by its exit
 * class. What it composes stands in `struct program`; what training, evaluating, converting and
 * serving are is not known here. With the argument "checkpoint", "plan", "forecast" or "muster" it
 * is no rank: it answers the command line, for it alone reads those files.
 */
#include "api/exitcode.h"
#include "api/limits.h"
#include "base/log.h"
#include "runtime/ckpt/inspect.h"
#include "runtime/convert/convert.h"
#include "runtime/evaluate/evaluate.h"
#include "runtime/evaluate/forecast.h"
#include "runtime/door/beat.h"
#include "runtime/model/device.h"
#include "runtime/serve/encode.h"
#include "runtime/serve/retrieve.h"
#include "runtime/serve/infer.h"
#include "runtime/serve/muster.h"
#include "runtime/serve/requests.h"
#include "runtime/train/preview.h"
#include "runtime/train/train.h"
#include "runtime/train/world.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

struct program {
    struct door door;
    struct orders orders;
    struct requests requests;
    struct dev *dev;
    int64_t budget_bytes; /* memory this rank may use */
    struct coll *coll;
};

static int train(struct program *p, struct err *e)
{
    int rc = world_connect(&p->orders, &p->door, p->dev, &p->coll, e);
    if (rc)
        return rc;
    const struct train_conf conf = {&p->door, &p->orders, p->dev, p->budget_bytes, p->coll};
    return train_run(&conf, e);
}

static int evaluate(struct program *p, struct err *e)
{
    int rc = world_connect(&p->orders, &p->door, p->dev, &p->coll, e);
    if (rc)
        return rc;
    const struct train_conf conf = {&p->door, &p->orders, p->dev, p->budget_bytes, p->coll};
    return evaluate_run(&conf, e);
}

static int serve(struct program *p, struct err *e)
{
    int rc = p->orders.world > 1 ? world_connect(&p->orders, &p->door, p->dev, &p->coll, e) : 0;
    if (rc)
        return rc;
    const struct infer_conf conf = {
        &p->door, &p->orders, p->coll, p->dev, p->budget_bytes, p->requests.inbox};
    bool reads = false;
    rc = encode_serves(&p->orders, &reads, e);
    if (!rc && !reads && p->orders.spec->serve.classify.alert_count)
        return err_set(e, ERR_USER,
            "spec.serve.classify: %.150s goes on with texts, and has no labels to watch",
            p->orders.spec->model.source);
    return rc ? rc : reads ? encode_run(&conf, e) : infer_run(&conf, e);
}

static int convert(struct program *p, struct err *e)
{
    const struct convert_conf conf = {&p->door, &p->orders, p->dev, p->budget_bytes};
    return convert_run(&conf, e);
}

static int run(struct program *p, struct err *e)
{
    int rc = orders_take(&p->orders, &p->door, e);
    if (rc)
        return rc;
    const struct jobspec *spec = p->orders.spec;
    p->requests.door = &p->door;
    if ((spec->task == TASK_SERVE &&
            (rc = inbox_create(
                 spec->serve.max_sequences + LIMIT_RANK_REQUESTS + LIMIT_RANK_WATCHING,
                 &p->requests.inbox, e))) ||
        (rc = door_listen(&p->door, requests_take, &p->requests, e)) ||
        (rc = device_open(spec->device.resource, p->orders.local_rank, p->orders.local_world,
             &p->dev, &p->budget_bytes, e)))
        return rc;
    switch (spec->task) {
    case TASK_TRAIN:
        return train(p, e);
    case TASK_SERVE:
        return serve(p, e);
    case TASK_CONVERT:
        return convert(p, e);
    case TASK_EVALUATE:
        return evaluate(p, e);
    default:
        return err_set(e, ERR_BUG, "a rank cannot do %s", task_name(spec->task));
    }
}

static int forecast(int argc, char **argv, FILE *out, struct err *e)
{
    return forecast_run(argc, argv, retrieve_plan, out, e);
}

/* Questions of the command line (cli/checkpoint.c, cli/plan.c) about files that this program knows,
   and the functions that answer them. */
typedef int answer_fn(int argc, char **argv, FILE *out, struct err *e);
static const struct {
    const char *name;
    answer_fn *fn;
} answers[] = {{"checkpoint", ckpt_inspect_run}, {"plan", preview_run}, {"forecast", forecast},
    {"muster", muster_run}};

static int answer(const char *name, answer_fn *fn, int argc, char **argv)
{
    struct err e = {.text = ""};
    log_setup("llmjob-rank", LOG_WARN, false);
    if (!fn(argc - 2, argv + 2, stdout, &e))
        return EXIT_CLASS_DONE;
    fflush(stdout);
    fprintf(stderr, "llmjob %s: %s\n", name, e.text);
    return (int)exit_class_of(e.code);
}

int main(int argc, char **argv)
{
    struct program p = {.orders.listen_fd = -1};
    struct wire_page *page = NULL;
    struct err e = {0};
    struct stat st;

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (argc > 1 && !strcmp(argv[1], answers[i].name))
            return answer(answers[i].name, answers[i].fn, argc, argv);
    log_setup("llmjob-rank", LOG_INFO, false);
    if (fstat(WIRE_FD_SOCKET, &st) || fstat(WIRE_FD_PAGE, &st)) {
        fprintf(stderr, "llmjob-rank is started by llmjob-agent, not by hand\n");
        return EXIT_CLASS_USER;
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = beat_map(WIRE_FD_PAGE, &page, &e);
    door_init(&p.door, WIRE_FD_SOCKET, page);
    if (!rc)
        rc = run(&p, &e);
    if (rc && e.code != ERR_DRAINED) {
        log_error("rank failed", LOG_I("rank", p.door.rank), LOG_ERR(&e));
        door_send_failed(&p.door, &e);
        door_end_soon(&p.door, &e);
    }
    coll_destroy(p.coll);
    dev_close(p.dev);
    orders_done(&p.orders);
    /* Not by return: the reader thread still looks at p, and libraries' exit handlers beside a
     * living thread have nothing to save here. */
    _exit((int)exit_class_of(rc ? e.code : ERR_NONE));
}
