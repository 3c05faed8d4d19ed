/*
 * probe: what a pod sees, for the tests of the cluster and of the image. Packed by image/rootfs and
 * image/pack as the product's own programs are, so that names, users and libraries are found as
 * theirs are.
 *
 *   probe info DATA            uid, gid, whether / and DATA can be written
 *   probe listen PORT          says "hello" to whoever connects, until SIGTERM
 *   probe connect HOST PORT    resolves HOST, connects, prints the answer
 *
 * connect asks again while the name is not known or the connection is refused, 20 seconds at most
 * for all of it: DNS, and the node for a service, may not have heard of the pods yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *writable(const char *folder)
{
    char path[512];
    int fd;

    snprintf(path, sizeof path, "%s/probe", folder);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return strerror(errno);
    close(fd);
    unlink(path);
    return "writable";
}

static int resolve(const char *host, const char *port, int flags, struct addrinfo **out)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = flags};

    return getaddrinfo(host, port, &hints, out);
}

static int not_resolved(const char *host, int rc)
{
    fprintf(stderr, "%s: %s\n", host, gai_strerror(rc));
    return 1;
}

static void on_term(int signal)
{
    (void)signal;
    _exit(0);
}

static int listen_on(const char *port)
{
    struct addrinfo *a;
    int fd, client, rc;

    signal(SIGTERM, on_term); /* PID 1 has no default action */
    rc = resolve(NULL, port, AI_PASSIVE, &a);
    if (rc != 0)
        return not_resolved("listen", rc);
    fd = socket(a->ai_family, a->ai_socktype, 0);
    if (fd < 0 || bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 16) != 0) {
        perror("listen");
        return 1;
    }
    while ((client = accept(fd, NULL, NULL)) >= 0) {
        if (write(client, "hello\n", 6) != 6)
            perror("write");
        close(client);
    }
    perror("accept");
    return 1;
}

static int dial(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0), error;

    if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static const char *volatile late; /* what is said when the time is over */

static void on_alarm(int signal)
{
    (void)signal;
    _exit(write(STDERR_FILENO, late, strlen(late)) < 0 ? 2 : 1);
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo *a;
    char answer[64];
    ssize_t n;
    int fd, rc;

    late = "the name is not known in time\n";
    signal(SIGALRM, on_alarm);
    alarm(20);
    while ((rc = resolve(host, port, 0, &a)) == EAI_NONAME || rc == EAI_AGAIN)
        usleep(100000);
    if (rc != 0)
        return not_resolved(host, rc);
    late = "no connection or answer in time\n";
    while ((fd = dial(a)) < 0 && errno == ECONNREFUSED)
        usleep(100000);
    if (fd < 0) {
        perror(host);
        return 1;
    }
    n = read(fd, answer, sizeof answer);
    if (n <= 0)
        return 1;
    return fwrite(answer, 1, (size_t)n, stdout) != (size_t)n;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "info") == 0) {
        printf("uid %u gid %u\nroot %s\ndata %s\n", getuid(), getgid(), writable("/"),
            writable(argv[2]));
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "listen") == 0)
        return listen_on(argv[2]);
    if (argc == 4 && strcmp(argv[1], "connect") == 0)
        return connect_to(argv[2], argv[3]);
    fprintf(stderr, "usage: probe info DATA | listen PORT | connect HOST PORT\n");
    return 2;
}
