/*
 * pause: PID 1 of a node and of every pod sandbox. Reaps children that lost their parent and ends
 * on SIGTERM or SIGINT; does nothing else. Static, so that it is the whole of the pause image.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_end(int signal)
{
    (void)signal;
    _exit(0);
}

static void on_child(int signal)
{
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(void)
{
    struct sigaction end = {.sa_handler = on_end};
    struct sigaction child = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};

    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGCHLD, &child, NULL);
    for (;;)
        pause();
}
