/*
 * Goal: of replicas that serve one model a prompt's beginning has one, whichever is asked; what is
 * sent on arrives as it was asked, by who may ask, and once; no request is lost because the replica
 * that it was for is busy, hangs or dies; and whoever has that one's address without being it hears
 * neither key nor prompt, and can give no answer.
 * Method: three real agents as child processes (agents) with testranks, told of each other as the
 * controller does; who answered is read from their metrics. One replica alone, of which the other
 * is this program, which dies or hangs at each point of an answer. Strangers are it, too: one that
 * lies, one that relays, one that says again what a replica said.
 * needs: faults threads
 */
#include "agent/forward.h"

#include "agent/route.h"
#include "agent/vouch.h"

#include "api/names.h"
#include "base/io.h"
#include "tests/agent/agents.h"
#include "tests/agent/testrank.h"
#include "tests/unit.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALL (1 << AGENTS_COUNT)

static struct err e;

/* -- the replicas -- */

static double metric(int agent, const char *name)
{
    buf_auto struct buf out;
    char line[96];
    buf_init(&out, 1 << 20);
    agents.lead = agent;
    ck_assert_int_eq(agents_request("GET", "/metrics", NULL, NULL, &out), 200);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(out.data, line);
    ck_assert_msg(at != NULL, "no %s", name);
    return strtod(at + strlen(line), NULL);
}

static double sum(const char *name)
{
    double n = 0;
    for (int i = 0; i < AGENTS_COUNT; i++)
        n += metric(i, name);
    return n;
}

static struct {
    const char *uid;
    uint16_t port;
} elsewhere; /* where replica 1 is said to be, and who; port 0: where it is */

/* ready, to: bits. */
static void tell(int ready, int to)
{
    struct desired_member members[AGENTS_COUNT];
    char pod[AGENTS_COUNT][8], uid[AGENTS_COUNT][8], at[AGENTS_COUNT][32];
    struct desired d = {.generation = 1,
        .term = 1,
        .replicas = 1,
        .members = members,
        .health = {.hang_seconds = 9}};
    buf_auto struct buf body;
    buf_init(&body, 1 << 16);
    for (int i = 0; i < AGENTS_COUNT; i++) {
        snprintf(pod[i], sizeof pod[i], "t-%d", i);
        snprintf(uid[i], sizeof uid[i], "uid-%d", i);
        snprintf(at[i], sizeof at[i], "127.0.0.1:%u", agents.serve_ports[i]);
        if (i == 1 && elsewhere.port) {
            snprintf(uid[i], sizeof uid[i], "%s", elsewhere.uid);
            snprintf(at[i], sizeof at[i], "127.0.0.1:%u", elsewhere.port);
        }
        if (ready & 1 << i)
            members[d.member_count++] = (struct desired_member){i, pod[i], uid[i], "node", at[i]};
    }
    ck_assert_int_eq(desired_encode(&d, &body, &e), 0);
    for (int i = 0; i < AGENTS_COUNT; i++) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 16);
        agents.lead = i;
        if (to & 1 << i)
            ck_assert_int_eq(
                agents_request("PUT", NAME_PATH_DESIRED, agents_token(i), body.data, &out), 204);
    }
}

static void begin(const char *serve)
{
    char task[256];
    agents_setup("token_ms=2");
    agents_write(NAME_API_KEY_FILE, "key\n");
    snprintf(
        task, sizeof task, "\"serve\":{\"modelName\":\"tiny\",\"apiKeySecret\":\"s\",%s}", serve);
    agents_job(task);
    agents.alone = true;
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    for (agents.lead = 0; agents.lead < AGENTS_COUNT; agents.lead++)
        agents_until(agents.report.state == JOB_SERVING);
    tell(ALL - 1, ALL - 1);
}

/* -- their clients -- */

struct asked {
    const char *key, *headers; /* "": the right one, none */
    int tokens;
    bool stream;
};

static int ask(int agent, const char *prompt, struct asked a)
{
    char text[1024], body[256];
    int fd = io_connect("127.0.0.1", agents.serve_ports[agent], clock_ms() + AGENTS_WAIT_MS, &e);
    ck_assert_msg(fd >= 0, "%s", e.text);
    int n = snprintf(body, sizeof body,
        "{\"model\":\"tiny\",\"prompt\":\"%s\",\"max_tokens\":%d,\"stream\":%s}", prompt, a.tokens,
        a.stream ? "true" : "false");
    int all = snprintf(text, sizeof text,
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s"
        "Connection: close\r\nContent-Length: %d\r\n\r\n%s",
        a.key ? a.key : "key", a.headers ? a.headers : "", n, body);
    ck_assert_int_eq(write(fd, text, (size_t)all), all);
    return fd;
}

/* Until `last` has come, NULL: to the connection's end. */
static void hear(int fd, const char *last, struct buf *out)
{
    char text[4096];
    struct timeval patience = {.tv_sec = AGENTS_WAIT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (!last || !strstr(buf_cstr(out), last)) {
        ssize_t n = read(fd, text, sizeof text);
        ck_assert_msg(n > 0 || (!n && !last), "no end: %s", buf_cstr(out));
        if (!n)
            break;
        ck_assert_int_eq(buf_add(out, text, (size_t)n), 0);
    }
}

/* To the end; true: an answer of so many tokens. */
static bool answered(int fd, int tokens)
{
    buf_auto struct buf out;
    char usage[48];
    buf_init(&out, 4 << 20);
    hear(fd, NULL, &out);
    close(fd);
    snprintf(usage, sizeof usage, "\"completion_tokens\":%d", tokens);
    return !strncmp(out.data, "HTTP/1.1 200 ", 13) && strstr(out.data, usage);
}

/* Of (agent) replicas the one that prompt is for. */
static int owner_of(const char *prompt)
{
    double before[AGENTS_COUNT];
    int owner = -1;
    for (int i = 0; i < AGENTS_COUNT; i++)
        before[i] = metric(i, NAME_METRIC_REQUESTS);
    ck_assert(answered(ask(0, prompt, (struct asked){.tokens = 1}), 1));
    for (int i = 0; i < AGENTS_COUNT; i++)
        if (metric(i, NAME_METRIC_REQUESTS) > before[i]) {
            ck_assert_int_eq(owner, -1);
            owner = i;
        }
    ck_assert_int_ge(owner, 0);
    return owner;
}

/* A prompt that is for that replica. */
static const char *prompt_of(int owner)
{
    static char prompt[16];
    for (int i = 0; i < 100; i++) {
        snprintf(prompt, sizeof prompt, "Once %d", i);
        if (owner_of(prompt) == owner)
            return prompt;
    }
    ck_abort_msg("none of 100 is for replica %d", owner);
}

#define ROUTED "\"routing\":{\"prefixAffinity\":true}"

START_TEST(a_beginning_has_one_replica)
{
    int of[AGENTS_COUNT] = {0}, requests = 0;
    begin(ROUTED);
    for (int k = 0; k < 12; k++) {
        char prompt[16];
        snprintf(prompt, sizeof prompt, "Tell %d", k);
        int owner = owner_of(prompt);
        double before = metric(owner, NAME_METRIC_REQUESTS);
        of[owner]++;
        requests += 3;
        for (int i = 1; i < AGENTS_COUNT; i++)
            ck_assert(answered(ask(i, prompt, (struct asked){.tokens = 7}), 7));
        ck_assert_double_eq(metric(owner, NAME_METRIC_REQUESTS), before + 2);
    }
    for (int i = 0; i < AGENTS_COUNT; i++)
        ck_assert_int_gt(of[i], 0);
    ck_assert_double_eq(sum(NAME_METRIC_REQUESTS), requests);
    ck_assert_double_eq(sum(NAME_METRIC_KEPT), requests / 3);
    ck_assert_double_eq(sum(NAME_METRIC_FORWARDED), requests - requests / 3);
    ck_assert_double_eq(sum(NAME_METRIC_FALLBACK), 0);
}
END_TEST

START_TEST(a_stream_passes_as_it_is)
{
    buf_auto struct buf near, far;
    buf_init(&near, 1 << 20);
    buf_init(&far, 1 << 20);
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    hear(ask(1, prompt, (struct asked){.tokens = 20, .stream = true}), NULL, &near);
    hear(ask(2, prompt, (struct asked){.tokens = 20, .stream = true}), NULL, &far);
    int events[2] = {0};
    for (const char *at = near.data; (at = strstr(at, "data: ")); at++)
        events[0]++;
    for (const char *at = far.data; (at = strstr(at, "data: ")); at++)
        events[1]++;
    ck_assert_int_gt(events[0], 5);
    ck_assert_int_eq(events[0], events[1]);
    ck_assert_msg(strstr(far.data, "text/event-stream") && strstr(far.data, "data: [DONE]\n\n"),
        "%s", far.data);
    ck_assert_double_ge(metric(2, NAME_METRIC_FORWARDED), 1);
}
END_TEST

START_TEST(strangers_are_not_sent_on_and_nothing_twice)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 16);
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    double sent = sum(NAME_METRIC_FORWARDED), served = metric(1, NAME_METRIC_REQUESTS);
    hear(ask(0, prompt, (struct asked){.tokens = 1, .key = "guess"}), NULL, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 401 ", 13), "%s", out.data);
    buf_reset(&out); /* not even with the key: a replica has none */
    const struct asked again = {.tokens = 1, .headers = NAME_HEADER_FORWARDED ": 0\r\n"};
    hear(ask(0, prompt, again), NULL, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 401 ", 13), "%s", out.data);
    ck_assert_double_eq(sum(NAME_METRIC_FORWARDED), sent);
    ck_assert_double_eq(metric(1, NAME_METRIC_REQUESTS), served);
    tell(1 << 0 | 1 << 2, ALL - 1); /* who is not ready gets nothing */
    ck_assert(answered(ask(0, prompt, (struct asked){.tokens = 1}), 1));
    ck_assert_double_eq(metric(1, NAME_METRIC_REQUESTS), served);
}
END_TEST

/* -- strangers -- */

static struct stranger {
    int fd;           /* listens */
    const char *says; /* when a head has come; NULL: what replica 1 does, to whom all is passed */
    struct buf heard; /* of all connections */
    _Atomic bool ends;
} stranger;

static bool pass(int from, int to, struct buf *heard)
{
    char text[4096];
    ssize_t n = recv(from, text, sizeof text, 0);
    if (n > 0 && heard)
        ck_assert_int_eq(buf_add(heard, text, (size_t)n), 0);
    return n > 0 && (to < 0 || send(to, text, (size_t)n, MSG_NOSIGNAL) == n);
}

/* Until either end, or the stranger, has had enough. */
static void attend(struct stranger *s, int client)
{
    io_auto_fd int real = s->says
        ? -1
        : io_connect("127.0.0.1", agents.serve_ports[1], clock_ms() + AGENTS_WAIT_MS, &e);
    struct pollfd p[2] = {{client, POLLIN, 0}, {real, POLLIN, 0}};
    size_t before = s->heard.len;
    bool said = !s->says, open = true;
    while (open && !atomic_load(&s->ends)) {
        poll(p, 2, 20);
        open = (!p[0].revents || pass(client, real, &s->heard)) &&
            (!p[1].revents || pass(real, client, NULL));
        if (!said && strstr(buf_cstr(&s->heard) + before, "\r\n\r\n"))
            said = send(client, s->says, strlen(s->says), MSG_NOSIGNAL) > 0;
    }
}

static void *stand_in(void *user)
{
    struct stranger *s = user;
    struct err late;
    while (!atomic_load(&s->ends)) {
        io_auto_fd int client = io_accept(s->fd, clock_ms() + 20, &late);
        if (client >= 0)
            attend(s, client);
    }
    return NULL;
}

/* Of a request that is answered at home: what the stranger heard of it. */
static void deceive(const char *prompt, const char *uid, const char *says)
{
    pthread_t thread;
    buf_init(&stranger.heard, 1 << 20);
    stranger.says = says;
    atomic_store(&stranger.ends, false);
    stranger.fd = io_listen("127.0.0.1", 0, &elsewhere.port, &e);
    elsewhere.uid = uid;
    ck_assert_int_eq(pthread_create(&thread, NULL, stand_in, &stranger), 0);
    tell(ALL - 1, 1 << 0);
    double fell = metric(0, NAME_METRIC_FALLBACK), here = metric(0, NAME_METRIC_REQUESTS);
    ck_assert(answered(ask(0, prompt, (struct asked){.tokens = 3}), 3));
    ck_assert_double_eq(metric(0, NAME_METRIC_FALLBACK), fell + 1);
    ck_assert_double_eq(metric(0, NAME_METRIC_REQUESTS), here + 1);
    atomic_store(&stranger.ends, true);
    pthread_join(thread, NULL);
    io_close(stranger.fd);
    elsewhere.port = 0;
}

START_TEST(who_cannot_prove_hears_nothing)
{
    static const char *const lies[] = {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"
        "{\"usage\":{\"completion_tokens\":99}}\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 100 Continue\r\n" NAME_HEADER_PROOF ": 0123456789abcdef0123456789abcdef "
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n\r\n",
        "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/completions\r\nContent-Length: "
        "0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nfalse",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 99999\r\n\r\nwhich never comes",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nfalse",
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        "",
        NULL,
    };
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char uid[8] = "uid-1"; /* who relays has all but the address */
        if (lies[i])
            snprintf(uid, sizeof uid, "new-%zu", i);
        deceive(prompt, uid, lies[i]);
        const char *heard = buf_cstr(&stranger.heard);
        ck_assert_msg(strstr(heard, NAME_HEADER_FORWARDED), "lie %zu: %s", i, heard);
        ck_assert_msg(!strstr(heard, "prompt") && !strstr(heard, prompt) &&
                !strcasestr(heard, "bearer") && !strcasestr(heard, "authorization: "),
            "lie %zu: %s", i, heard);
        buf_done(&stranger.heard);
    }
}
END_TEST

#define VISIT "{\"model\":\"tiny\",\"prompt\":\"On\",\"max_tokens\":3}"

/* As replica 0 would ask replica 1: what it sends, before 100 Continue and then. */
static void write_visit(struct vouch *v, const char *key, char head[1024])
{
    char line[VOUCH_LINE_BYTES], at[32];
    *v = (struct vouch){.of = {"secret", "u"}, .uid = "uid-1", .key = key};
    snprintf(at, sizeof at, "127.0.0.1:%u", agents.serve_ports[1]);
    ck_assert_int_eq(vouch_ask(v, at, 0, line, &e), 0);
    snprintf(head, 1024,
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\n" NAME_HEADER_FORWARDED ": %s\r\n"
        "Expect: 100-continue\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
        line, VOUCH_MAC_BYTES + (int)strlen(VISIT));
}

/* Sends head, waits for what comes first, then body, and hears the rest. */
static void visit(const char *head, struct vouch *v, char body[512], struct buf *out)
{
    int fd = io_connect("127.0.0.1", agents.serve_ports[1], clock_ms() + AGENTS_WAIT_MS, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, head, strlen(head)), (ssize_t)strlen(head));
    buf_reset(out);
    hear(fd, "\r\n\r\n", out);
    const char *line = strstr(out->data, NAME_HEADER_PROOF ": ");
    if (v && line) { /* the replica itself */
        char answer[VOUCH_LINE_BYTES], seal[VOUCH_MAC_BYTES + 1];
        line += sizeof NAME_HEADER_PROOF + 1;
        snprintf(answer, sizeof answer, "%.*s", (int)strcspn(line, "\r"), line);
        ck_assert(vouch_heard(v, answer));
        ck_assert_int_eq(vouch_seal(v, seal, &e), 0);
        snprintf(
            body, 512, "%s%s", seal, "{\"model\":\"tiny\",\"prompt\":\"On\",\"max_tokens\":3}");
    }
    if (line)
        ck_assert_int_eq(write(fd, body, strlen(body)), (ssize_t)strlen(body));
    hear(fd, NULL, out);
    close(fd);
}

START_TEST(what_a_replica_said_says_nothing_again)
{
    struct vouch v;
    char head[1024], body[512] = "", unproven[512];
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    begin(ROUTED);
    write_visit(&v, "key", head);
    visit(head, &v, body, &out);
    ck_assert_msg(strstr(out.data, "HTTP/1.1 200 ") && strstr(out.data, "\"completion_tokens\":3"),
        "%s", out.data);
    double served = metric(1, NAME_METRIC_REQUESTS);
    visit(head, NULL, body, &out); /* all of it, once more */
    ck_assert_msg(
        strstr(out.data, "HTTP/1.1 100 ") && strstr(out.data, "HTTP/1.1 401 "), "%s", out.data);
    memset(unproven, '0', VOUCH_MAC_BYTES);
    snprintf(unproven + VOUCH_MAC_BYTES, sizeof unproven - VOUCH_MAC_BYTES, "%s",
        body + VOUCH_MAC_BYTES);
    visit(head, NULL, unproven, &out);
    ck_assert_msg(strstr(out.data, "HTTP/1.1 401 "), "%s", out.data);
    write_visit(&v, "guess", head); /* before the body is asked for */
    visit(head, &v, body, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 401 ", 13), "%s", out.data);
    ck_assert_double_eq(metric(1, NAME_METRIC_REQUESTS), served);
}
END_TEST

/* -- what is lost, and what is not -- */

START_TEST(a_refused_request_is_neither_kept_nor_fallen_back)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 16);
    begin("\"maxQueue\":1," ROUTED);
    const char *prompt = prompt_of(0);
    int first = ask(0, prompt, (struct asked){.tokens = 300});
    while (metric(0, NAME_METRIC_IN_FLIGHT) < 1)
        usleep(1000);
    double kept = metric(0, NAME_METRIC_KEPT);
    hear(ask(0, prompt, (struct asked){.tokens = 1}), NULL, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 429 ", 13), "%s", out.data);
    ck_assert_double_eq(metric(0, NAME_METRIC_KEPT), kept);
    ck_assert(answered(first, 300));
}
END_TEST

START_TEST(a_longer_queue_sends_back)
{
    begin("\"maxSequences\":1,\"routing\":{\"prefixAffinity\":true,\"maxAhead\":1}");
    const char *prompt = prompt_of(1);
    double served = metric(1, NAME_METRIC_REQUESTS), fell = metric(0, NAME_METRIC_FALLBACK);
    int long_ones[3];
    for (int i = 0; i < 3; i++) { /* two wait: one more than may be ahead */
        long_ones[i] = ask(1, prompt, (struct asked){.tokens = 400});
        while (metric(1, NAME_METRIC_IN_FLIGHT) < i + 1)
            usleep(1000);
    }
    ck_assert(answered(ask(0, prompt, (struct asked){.tokens = 1}), 1));
    ck_assert_double_eq(metric(1, NAME_METRIC_REQUESTS), served + 3);
    ck_assert_double_eq(metric(0, NAME_METRIC_FALLBACK), fell + 1);
    for (int i = 0; i < 3; i++)
        ck_assert(answered(long_ones[i], 400));
    ck_assert(answered(ask(0, prompt, (struct asked){.tokens = 1}), 1));
    ck_assert_double_eq(metric(1, NAME_METRIC_REQUESTS), served + 4);
}
END_TEST

static void await_at(int agent, int in_flight)
{
    int64_t until_ms = clock_ms() + AGENTS_WAIT_MS;
    while (metric(agent, NAME_METRIC_IN_FLIGHT) != in_flight) {
        ck_assert_int_lt(clock_ms(), until_ms);
        usleep(2000);
    }
}

START_TEST(who_goes_away_takes_its_request_along)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    double ended = metric(1, NAME_METRIC_ANSWER "_count");
    int stream = ask(0, prompt, (struct asked){.tokens = 4096, .stream = true});
    int whole = ask(2, prompt, (struct asked){.tokens = 4096});
    hear(stream, "data: ", &out);
    await_at(1, 2);
    close(stream);
    await_at(1, 1);
    close(whole);
    await_at(1, 0);
    ck_assert_double_eq(metric(1, NAME_METRIC_ANSWER "_count"), ended); /* none by itself */
}
END_TEST

/* One that dies, one that has not begun, and those that come later. */
START_TEST(a_dead_replica_costs_no_request)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    double fell = metric(0, NAME_METRIC_FALLBACK);
    int whole = ask(0, prompt, (struct asked){.tokens = 500});
    int stream = ask(0, prompt, (struct asked){.tokens = 1000, .stream = true});
    hear(stream, "data: ", &out);
    await_at(1, 2);
    kill(agents.pid[1], SIGKILL);
    ck_assert_int_eq(agents_wait(1), 128 + SIGKILL);
    hear(stream, NULL, &out); /* what the client has of it cannot be taken back */
    ck_assert_msg(strstr(out.data, "\"error\":") && strstr(out.data, "the model was stopped") &&
            !strcmp(out.data + out.len - 5, "0\r\n\r\n"),
        "%s", out.data);
    close(stream);
    ck_assert(answered(whole, 500));
    int64_t began_ms = clock_ms();
    for (int i = 0; i < 5; i++) {
        bool streams = i % 2;
        int fd = ask(0, prompt, (struct asked){.tokens = 3, .stream = streams});
        if (!streams) {
            ck_assert(answered(fd, 3));
            continue;
        }
        buf_reset(&out);
        hear(fd, NULL, &out);
        close(fd);
        ck_assert_msg(
            strstr(out.data, "data: [DONE]") && !strstr(out.data, "\"error\""), "%s", out.data);
    }
    ck_assert_int_lt(clock_ms() - began_ms, 3000);
    ck_assert_double_eq(metric(0, NAME_METRIC_FALLBACK), fell + 6);
}
END_TEST

/* It takes connections, and says nothing; that it is not ready is for the controller to see. */
START_TEST(what_hangs_is_called_back)
{
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    kill(agents.pid[1], SIGSTOP);
    double fell = metric(0, NAME_METRIC_FALLBACK);
    int whole = ask(0, prompt, (struct asked){.tokens = 9});
    int stream = ask(0, prompt, (struct asked){.tokens = 9, .stream = true});
    tell(1 << 0 | 1 << 2, 1 << 0 | 1 << 2);
    ck_assert(answered(whole, 9));
    buf_auto struct buf out;
    buf_init(&out, 1 << 16);
    hear(stream, "data: [DONE]", &out);
    close(stream);
    ck_assert_double_le(metric(0, NAME_METRIC_FALLBACK), fell + 2);
}
END_TEST

/* It waits for what is under way elsewhere as for what is its own. */
START_TEST(who_is_asked_to_go_brings_the_answer_first)
{
    begin(ROUTED);
    const char *prompt = prompt_of(1);
    int whole = ask(0, prompt, (struct asked){.tokens = 900});
    await_at(1, 1);
    kill(agents.pid[0], SIGTERM);
    ck_assert(answered(whole, 900));
    ck_assert_int_eq(agents_wait(0), 0);
}
END_TEST

/* -- a replica that proves to be one, and then does as it is told -- */

static const struct api_keys nobody;
static const struct jobspec_serve alone = {.max_queue = 4, .max_sequences = 1};
static struct forward *sends;

static struct replica {
    int fd;           /* listens */
    const char *says; /* once it has the request */
    bool hangs;       /* and then nothing, else it is gone */
} replica;

static void *be_replica(void *user)
{
    const struct replica *r = user;
    char value[VOUCH_LINE_BYTES], text[VOUCH_LINE_BYTES + 64];
    struct vouch v = {.of = {"secret", "u"}, .uid = "uid-1"};
    struct net_address at;
    struct err late;
    int ahead;
    buf_auto struct buf heard;
    buf_init(&heard, 1 << 16);
    io_auto_fd int from = io_accept(r->fd, clock_ms() + AGENTS_WAIT_MS, &late);
    hear(from, "\r\n\r\n", &heard);
    const char *line =
        strstr(heard.data, NAME_HEADER_FORWARDED ": ") + sizeof NAME_HEADER_FORWARDED + 1;
    snprintf(value, sizeof value, "%.*s", (int)strcspn(line, "\r"), line);
    ck_assert_int_eq(vouch_read(&v, &nobody, value, &at, &ahead), 0);
    snprintf(v.nonce, sizeof v.nonce, "%s", "a nonce");
    ck_assert_int_eq(vouch_answer(&v, value, &late), 0);
    snprintf(
        text, sizeof text, "HTTP/1.1 100 Continue\r\n" NAME_HEADER_PROOF ": %s\r\n\r\n", value);
    ck_assert_int_eq(send(from, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    hear(from, "\"prompt\":\"On\"", &heard);
    ck_assert_int_eq(send(from, r->says, strlen(r->says), MSG_NOSIGNAL), (ssize_t)strlen(r->says));
    if (r->hangs)
        hear(from, NULL, &heard); /* until it is let go */
    return NULL;
}

static void serve_here(void *user, struct web_exchange *x)
{
    (void)user;
    web_answer(x, 200, "text/plain", "served here", 11, NULL);
}

static uint64_t prefix_of(int which)
{
    static const char *const names[] = {"t-0", "t-1"};
    uint64_t prefix = 1;
    while (route_pick(prefix, names, 2) != which)
        prefix++;
    return prefix;
}

static void on_asked(void *user, struct web_exchange *x)
{
    const struct openai_request asked = {.place = OPENAI_TEXT,
        .stream = *(const bool *)user,
        .prefix = prefix_of(1),
        .model = "tiny"};
    ck_assert_int_eq(forward_take(sends, x, &asked, 0, 0), METER_FORWARDED);
}

/* What a client of replica 0 hears, when what is said to it by replica 1 comes from there. */
static void ask_through(bool stream, int64_t idle_ms, struct buf *out)
{
    static const char asks[] = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                               "Content-Length: 15\r\n\r\n{\"prompt\":\"On\"}";
    char at[32], text[4096];
    struct web *w = NULL;
    uint16_t port, there;
    pthread_t thread;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    replica.fd = io_listen("127.0.0.1", 0, &there, &e);
    ck_assert_int_eq(pthread_create(&thread, NULL, be_replica, &replica), 0);
    snprintf(at, sizeof at, "127.0.0.1:%u", there);
    struct desired_member members[] = {
        {0, "t-0", "uid-0", "node", "127.0.0.1:1"}, {1, "t-1", "uid-1", "node", at}};
    const struct desired d = {.members = members, .member_count = 2};
    const struct forward_conf conf = {.web = w,
        .serve = &alone,
        .pod = "t-0",
        .uid = "uid-0",
        .of = {"secret", "u"},
        .keys = &nobody,
        .idle_ms = idle_ms};
    ck_assert_int_eq(forward_create(&conf, &sends, &e), 0);
    ck_assert_int_eq(forward_told(sends, &d, &e), 0);
    forward_bind(sends, serve_here, NULL);
    const struct web_door door = {.host = "127.0.0.1", .request_fn = on_asked, .user = &stream};
    ck_assert_int_eq(web_open(w, &door, &port, &e), 0);
    io_auto_fd int fd = io_connect("127.0.0.1", port, clock_ms() + AGENTS_WAIT_MS, &e);
    ck_assert_int_eq(write(fd, asks, sizeof asks - 1), sizeof asks - 1);
    int64_t until_ms = clock_ms() + AGENTS_WAIT_MS;
    for (ssize_t n = -1; n;) {
        ck_assert_msg(clock_ms() < until_ms, "no end: %s", buf_cstr(out));
        ck_assert_int_eq(web_turn(w, 10, &e), 0);
        forward_tick(sends);
        n = recv(fd, text, sizeof text, MSG_DONTWAIT);
        if (n > 0)
            ck_assert_int_eq(buf_add(out, text, (size_t)n), 0);
    }
    ck_assert_int_eq(forward_in_flight(sends), 0);
    pthread_join(thread, NULL);
    forward_destroy(sends);
    web_destroy(w);
    io_close(replica.fd);
}

#define STREAM \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define ONE  "9\r\ndata: 1\n\n\r\n"
#define HALF "9\r\ndata: cut\r\n"

/* It works on the request, and then it dies, or says nothing any more: as long as no event has
   come, the request is served here; then the client has what came whole, and one event that says
   it. */
START_TEST(what_ends_midway)
{
    static const struct {
        const char *says;
        bool stream, hangs, begun;
    } table[] = {
        {"", false, true, false},
        {"", true, true, false},
        {"", false, false, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", false, true, false},
        {STREAM, true, false, false},
        {STREAM HALF, true, true, false},
        {STREAM HALF, true, false, false},
        {STREAM ONE, true, true, true},
        {STREAM ONE HALF, true, false, true},
        {STREAM ONE HALF, true, true, true},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 16);
        replica.says = table[i].says;
        replica.hangs = table[i].hangs;
        int64_t began_ms = clock_ms();
        ask_through(table[i].stream, table[i].hangs ? 200 : AGENTS_WAIT_MS, &out);
        if (table[i].hangs)
            ck_assert_int_ge(clock_ms() - began_ms, 200);
        const char *one = strstr(out.data, "data: 1\n\n"), *why = strstr(out.data, "data: {");
        ck_assert_msg(!strstr(out.data, "cut"), "%zu: %s", i, out.data);
        if (table[i].begun)
            ck_assert_msg(one && why && why > one && strstr(why, "the model was stopped") &&
                    !strstr(why + 1, "data: "),
                "%zu: %s", i, out.data);
        else
            ck_assert_msg(strstr(out.data, "served here") && !one && !why, "%zu: %s", i, out.data);
    }
}
END_TEST

/* Twice, so that the second takes the place of the first. */
static int create_and_tell(void *user)
{
    struct desired_member members[] = {
        {0, "t-0", "uid-0", "node", "127.0.0.1:1"}, {1, "t-1", "uid-1", "node", "127.0.0.1:2"}};
    const struct desired d = {.members = members, .member_count = 2};
    struct forward *f = NULL;
    int rc =
        forward_create(&(struct forward_conf){.web = user, .serve = &alone, .pod = "t-0"}, &f, &e);
    for (int i = 0; i < 2 && !rc; i++)
        rc = forward_told(f, &d, &e);
    ck_assert_int_eq(forward_in_flight(f), 0);
    forward_destroy(f);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    struct web *w = NULL;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    fault_each(FAULT_MEM, create_and_tell, w);
    fault_each(FAULT_IO, create_and_tell, w);
    web_destroy(w);
}
END_TEST

int main(void)
{
    if (getenv("TESTRANK")) /* started by an agent: be the rank */
        return testrank_main();
    Suite *suite = suite_create("forward");
    TCase *tc = tcase_create("agents");
    tcase_add_checked_fixture(tc, NULL, agents_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_beginning_has_one_replica);
    tcase_add_test(tc, a_stream_passes_as_it_is);
    tcase_add_test(tc, strangers_are_not_sent_on_and_nothing_twice);
    tcase_add_test(tc, who_cannot_prove_hears_nothing);
    tcase_add_test(tc, what_a_replica_said_says_nothing_again);
    tcase_add_test(tc, a_refused_request_is_neither_kept_nor_fallen_back);
    tcase_add_test(tc, a_longer_queue_sends_back);
    tcase_add_test(tc, who_goes_away_takes_its_request_along);
    tcase_add_test(tc, a_dead_replica_costs_no_request);
    tcase_add_test(tc, what_hangs_is_called_back);
    tcase_add_test(tc, who_is_asked_to_go_brings_the_answer_first);
    suite_add_tcase(suite, tc);
    TCase *one = tcase_create("alone");
    tcase_set_timeout(one, 60);
    tcase_add_test(one, what_ends_midway);
    tcase_add_test(one, failed_calls_are_reported);
    suite_add_tcase(suite, one);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
