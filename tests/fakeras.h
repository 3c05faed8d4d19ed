/*
 * fakeras: NCCL's RAS threads as a client sees them: the far end of one question, for tests of what
 * asks it. Texts have the layout of NCCL 2.28's.
 */
#ifndef TESTS_FAKERAS_H
#define TESTS_FAKERAS_H

#include "base/clock.h"
#include "base/io.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAKERAS_HEAD \
    "SERVER PROTOCOL 2\nOK\nNCCL version 2.28.9 compiled with CUDA 13.0\n\nJob summary\n" \
    "===========\n\n  Nodes  Processes\n      1          2\n\nCommunicators... (0.00s)\n" \
    "=============\n\nGroup  Status  Errors\n    0  RUNNING  INCOMPLETE\n\n"
#define FAKERAS_LATE_MS 20000 /* of a machine that does ten things at once */

/* Takes one connection, reads the question, which must allow RAS timeout_s, and answers in two
 * parts, so that reading one is not enough. NULL: says nothing for ever. 0, or which part failed.
 */
static inline int fakeras_answer(int listener, int timeout_s, const char *answer)
{
    char ask[256] = "", want[64];
    size_t used = 0;
    io_auto_fd int fd = io_accept(listener, clock_ms() + FAKERAS_LATE_MS, NULL);
    snprintf(want, sizeof want, "CLIENT PROTOCOL 2\nTIMEOUT %d\nSTATUS\n", timeout_s);
    while (fd >= 0 && used < sizeof ask - 1 && !strstr(ask, "STATUS\n")) {
        if (io_wait_readable(fd, clock_ms() + FAKERAS_LATE_MS, NULL))
            return 1;
        int64_t n = io_recv_now(fd, ask + used, sizeof ask - 1 - used, NULL);
        if (n < 0)
            return 2;
        used += (size_t)n;
        ask[used] = 0;
    }
    if (fd < 0 || strcmp(ask, want) != 0)
        return 3;
    if (!answer)
        pause();
    size_t n = strlen(answer);
    if (io_send_full(fd, answer, n / 2, clock_ms() + FAKERAS_LATE_MS, NULL))
        return 4;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return io_send_full(fd, answer + n / 2, n - n / 2, clock_ms() + FAKERAS_LATE_MS, NULL) ? 5 : 0;
}

#endif
