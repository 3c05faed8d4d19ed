/*
 * llmjob-rank: one rank of a world. Started by an agent with two inherited descriptors
 * (api/wire.h); takes no arguments. Says how it ended twice: by a last frame (WIRE_DONE,
 * WIRE_FAILED) and by its exit class.
 */
#include "api/exitcode.h"
#include "base/log.h"
#include "runtime/door/beat.h"
#include "runtime/serve/infer.h"
#include "runtime/rank.h"
#include "runtime/train/train.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static int run(struct rank *r, struct err *e)
{
    switch (r->spec->task) {
    case TASK_TRAIN:
        return train_run(r, e);
    case TASK_SERVE:
        return infer_run(r, e);
    default:
        return err_set(e, ERR_BUG, "a rank cannot do %s", task_name(r->spec->task));
    }
}

int main(void)
{
    struct wire_page *page = NULL;
    struct rank r = {.fd = WIRE_FD_SOCKET};
    struct err e = {0};
    struct stat st;
    int rc;

    log_setup("llmjob-rank", LOG_INFO, false);
    if (fstat(WIRE_FD_SOCKET, &st) || fstat(WIRE_FD_PAGE, &st)) {
        fprintf(stderr, "llmjob-rank is started by llmjob-agent, not by hand\n");
        return EXIT_CLASS_USER;
    }
    signal(SIGPIPE, SIG_IGN);
    rc = beat_map(WIRE_FD_PAGE, &page, &e);
    if (!rc)
        rc = rank_open(&r, WIRE_FD_SOCKET, page, &e);
    if (!rc)
        rc = run(&r, &e);
    if (rc && e.code != ERR_DRAINED) {
        log_error("rank failed", LOG_I("rank", r.rank), LOG_ERR(&e));
        rank_send_failed(&r, &e);
        rank_end_within(&r, RANK_END_MS, &e);
    }
    rank_close(&r);
    /* Not by return: the reader thread still looks at r, and libraries' exit handlers beside a
     * living thread have nothing to save here. */
    _exit((int)exit_class_of(rc ? e.code : ERR_NONE));
}
