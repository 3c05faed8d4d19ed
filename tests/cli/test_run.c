/*
 * Goal: llmjob run does a controller's work on one machine: writes the job, keeps agents, tells the
 * coordinator what is desired, follows its report to the end, scales when the file changes, and
 * suspends on the first interrupt. A second run of the same training is refused, and a run that is
 * killed leaves nothing running. Method: this program is also the agent: started with --job-dir
 * it serves /v1/desired and /v1/job as a coordinator would, and plays the scenario that the
 * environment names. The command runs as main calls it.
 */
#include "api/exitcode.h"
#include "api/jobspec.h"
#include "api/report.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/secret.h"
#include "base/web.h"
#include "cli/command.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- the agent -- */

struct agent {
    const char *scenario;
    char token[80];
    struct arena *arena;
    struct desired desired;
    int asked, late; /* asked for reports, and of these since it is to suspend */
    bool released;
};

static struct report play(struct agent *a)
{
    struct report r;
    report_init(&r);
    r.generation = a->desired.generation;
    r.state = JOB_RUNNING;
    r.connected = a->desired.member_count;
    r.world_replicas = a->desired.replicas;
    r.ranks = r.data_parallel = a->desired.replicas;
    r.tensor = r.pipeline = r.context = 1;
    r.step = ++a->asked;
    r.steps = 9;
    bool ready = !strcmp(a->scenario, "scale") ? a->desired.member_count == 3 &&
            a->desired.replicas == 3 && a->desired.health.hang_seconds == 99
                                               : a->asked >= 3;
    bool twice = !strcmp(a->scenario, "twice");
    if (a->desired.suspend && (!twice || ++a->late == 3))
        r.state = JOB_SUSPENDED;
    else if (!strcmp(a->scenario, "failed")) {
        r.state = JOB_FAILED;
        r.failure = ERR_DATA;
        r.failure_reason = "BadData";
        r.failure_message = "/data/t: line 3: not JSON";
    } else if (ready && !twice && strcmp(a->scenario, "suspend") != 0 &&
        strcmp(a->scenario, "hold") != 0)
        r.state = JOB_COMPLETE;
    /* The scenario's own disturbance, from the inside: the command's parent is this test. */
    if (!strcmp(a->scenario, "suspend") && a->asked == 2)
        kill(getppid(), SIGINT);
    if (twice && (a->asked == 2 || a->late == 1)) /* the second when the first was heard */
        kill(getppid(), SIGTERM);
    if (!strcmp(a->scenario, "scale") && a->asked == 2) {
        const char *file = getenv("TEST_RUN_FILE");
        struct err e;
        struct buf b;
        buf_init(&b, 4096);
        io_read_file(file, 4096, &b, &e);
        *strstr(b.data, "replicas: 2") = '#';
        memcpy(strchr(b.data, '#'), "replicas: 3", 11);
        memcpy(strstr(b.data, "Seconds: 20"), "Seconds: 99", 11);
        io_write_file(file, b.data, b.len, 0600, &e);
        buf_done(&b);
    }
    return r;
}

static void serve(void *user, struct web_exchange *x)
{
    struct agent *a = user;
    struct err e = {.text = ""};
    buf_auto struct buf out;
    char bearer[96];
    const char *given = web_header(x, "authorization");
    snprintf(bearer, sizeof bearer, "Bearer %s", a->token);
    buf_init(&out, LIMIT_REPORT_BYTES);
    if (!given || strcmp(given, bearer) != 0) {
        web_answer(x, 401, "text/plain", "who?", 4, NULL);
    } else if (!strcmp(web_path(x), "/v1/desired")) {
        json_auto struct json *tree = NULL;
        size_t len;
        const char *body = web_body(x, &len);
        arena_reset(a->arena);
        int r = json_parse(body, len, &tree, &e);
        if (!r)
            r = desired_decode(tree, a->arena, &a->desired, &e);
        a->released = !r && a->desired.release;
        web_answer(x, r ? 400 : 204, "text/plain", e.text, strlen(e.text), NULL);
    } else {
        struct report r = play(a);
        report_encode(&r, &out, &e);
        web_answer(x, 200, "application/json", out.data, out.len, NULL);
    }
}

static const char *flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name))
            return argv[i + 1];
    return "";
}

static int agent_main(int argc, char **argv)
{
    struct agent a = {.scenario = getenv("TEST_RUN")};
    struct web *w = NULL;
    struct err e = {.text = ""};
    buf_auto struct buf b;
    char path[256];
    int listener = (int)strtol(flag(argc, argv, "--listen-fd"), NULL, 10);
    buf_init(&b, 4096);
    alarm(60); /* should the test go without a word */
    snprintf(path, sizeof path, "%s.%s", getenv("TEST_RUN_FILE"), flag(argc, argv, "--replica"));
    int n = snprintf(a.token, sizeof a.token, "%d", (int)getpid());
    if (io_write_file(path, a.token, (size_t)n, 0600, &e))
        return EXIT_CLASS_BUG;
    if (!strcmp(a.scenario, "crash"))
        return EXIT_CLASS_DEVICE;
    if (strcmp(flag(argc, argv, "--replica"), "0") != 0)
        return pause();
    snprintf(path, sizeof path, "%s/token", flag(argc, argv, "--job-dir"));
    if (io_read_file(path, 70, &b, &e))
        return EXIT_CLASS_BUG;
    if (secret_of_pod(buf_cstr(&b), flag(argc, argv, "--pod-uid"), a.token, &e))
        return EXIT_CLASS_BUG;
    /* job.json must be one that the real agent takes. */
    json_auto struct json *job = NULL;
    struct jobspec spec;
    a.arena = arena_create(1 << 20);
    snprintf(path, sizeof path, "%s/job.json", flag(argc, argv, "--job-dir"));
    if (json_read_file(path, LIMIT_JOB_FILE_BYTES, &job, &e) ||
        jobspec_decode(job, a.arena, &spec, &e) || web_create(&(struct web_conf){0}, &w, &e) ||
        web_open(w, &(struct web_door){.listener = listener, .request_fn = serve, .user = &a}, NULL,
            &e)) {
        fprintf(stderr, "agent: %s\n", e.text);
        return EXIT_CLASS_BUG;
    }
    while (!a.released && !web_turn(w, 1000, &e))
        ;
    for (int i = 0; i < 20; i++) /* the answer goes out */
        web_turn(w, 10, &e);
    web_destroy(w);
    arena_destroy(a.arena);
    return 0;
}

/* -- the tests -- */

static char folder[] = "/tmp/test_run.XXXXXX";
static char job[64], out_path[64], self[256];

static void setup(void)
{
    struct err e;
    static const char text[] = "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\nmetadata: "
                               "{name: j}\nspec:\n  replicas: 2\n"
                               "  health: {hangSeconds: 20}\n"
                               "  storage: [{name: data, claimName: c, mountPath: /no-such}]\n "
                               " model: {source: /no-such/m}\n"
                               "  checkpoint: {path: /no-such/c}\n  train: {data: {train: "
                               "/no-such/t}, steps: 9, output: /no-such/o}\n";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(job, sizeof job, "%s/job.yaml", folder);
    snprintf(out_path, sizeof out_path, "%s/out", folder);
    ck_assert_int_eq(io_write_file(job, text, sizeof text - 1, 0600, &e), 0);
    setenv("TEST_RUN_FILE", job, 1);
    setenv("TMPDIR", folder, 1);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    ck_assert_int_gt((int)n, 0);
}

static void teardown(void)
{
    struct err e;
    io_remove_tree(folder, &e);
}

static char *more[2]; /* a further flag and its value */

static int run(const char *scenario, int *status, struct buf *out, struct err *e)
{
    char mapping[64];
    struct err ignored;
    snprintf(mapping, sizeof mapping, "data=%s/data", folder);
    char *argv[] = {(char *)"run", job, (char *)"--agent", self, (char *)"--storage", mapping,
        (char *)"--plain", more[0], more[1], NULL};
    setenv("TEST_RUN", scenario, 1);
    fflush(stdout);
    int saved = dup(1), fd = open(out_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 1);
    int r = command_run(more[0] ? 9 : 7, argv, status, e);
    fflush(stdout);
    dup2(saved, 1);
    close(fd);
    close(saved);
    buf_init(out, 1 << 20);
    ck_assert_int_eq(io_read_file(out_path, 1 << 20, out, &ignored), 0);
    return r;
}

static void assert_has(const struct buf *out, const char *text)
{
    ck_assert_msg(strstr(buf_cstr(out), text), "no '%s' in:\n%s", text, buf_cstr(out));
}

START_TEST(test_complete)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(!run("complete", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    assert_has(&out, "Train j: Running, 2/2 ready, layout dp2");
    assert_has(&out, "Train j: Complete");
    char made[128];
    snprintf(made, sizeof made, "j is complete: %s/data/o", folder);
    assert_has(&out, made);
}
END_TEST

START_TEST(test_failed)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(!run("failed", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DATA);
    assert_has(&out, "/data/t: line 3: not JSON");
}
END_TEST

START_TEST(test_interrupt_suspends)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(!run("suspend", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DRAINED);
    assert_has(&out, "Interrupted: saving a checkpoint");
    assert_has(&out, "j is suspended at step");
}
END_TEST

/* What timeout(1) does. */
START_TEST(test_a_doubled_signal_is_one)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(!run("twice", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DRAINED);
    assert_has(&out, "j is suspended at step");
}
END_TEST

START_TEST(test_editing_the_file_scales)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(!run("scale", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    assert_has(&out, "Edited: elastic, restart and health");
    assert_has(&out, "Scaling: replicas 3, was 2");
    assert_has(&out, "Train j: Complete, 3/3 ready, layout dp3");
}
END_TEST

START_TEST(test_agent_that_never_comes_up)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_msg(run("crash", &status, &out, &e) == -ERR_DEVICE, "%s", e.text);
    ck_assert_ptr_nonnull(strstr(e.text, "ended 5 times with status 67"));
    ck_assert_ptr_nonnull(strstr(e.text, "/agent-"));
}
END_TEST

/* Of an agent of the run that goes on now: it wrote its number beside the job. */
static int agent_pidfd(int replica)
{
    char path[96];
    struct err e;
    buf_auto struct buf b;
    int64_t until = clock_ms() + 20000;
    snprintf(path, sizeof path, "%s.%d", job, replica);
    while (!io_exists(path) && clock_ms() < until)
        poll(NULL, 0, 5);
    buf_init(&b, 32);
    ck_assert_msg(!io_read_file(path, 31, &b, &e), "%s", e.text);
    int fd = pidfd_open((pid_t)strtol(buf_cstr(&b), NULL, 10), 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static pid_t run_aside(const char *scenario)
{
    struct err e = {.text = ""};
    struct buf out;
    int status;
    pid_t pid = fork();
    if (pid)
        return pid;
    run(scenario, &status, &out, &e);
    _exit(1);
}

static void edit_job(const char *from, const char *to)
{
    struct err e;
    buf_auto struct buf b;
    buf_init(&b, 4096);
    ck_assert_int_eq(io_read_file(job, 4096, &b, &e), 0);
    ck_assert_uint_eq(strlen(from), strlen(to));
    memcpy(strstr(b.data, from), to, strlen(to));
    ck_assert_int_eq(io_write_file(job, b.data, b.len, 0600, &e), 0);
}

static void refused_for(const char *field, pid_t holder)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    char who[64];
    int status = -1;
    ck_assert_int_eq(run("complete", &status, &out, &e), -ERR_USER);
    snprintf(who, sizeof who, "%s: in use by process %d on ", field, (int)holder);
    ck_assert_msg(strstr(e.text, who) && strstr(e.text, job), "%s", e.text);
}

/* Kinds: two runs that write one folder, and processes that outlive those for whom they run. */
START_TEST(test_second_run_is_refused_until_the_first_is_gone)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    pid_t first = run_aside("hold");
    int agents[2] = {agent_pidfd(0), agent_pidfd(1)};
    refused_for("spec.checkpoint.path", first);
    edit_job("path: /no-such/c", "path: /no-such/d");
    refused_for("spec.train.output", first); /* and another training of the same output */
    edit_job("path: /no-such/d", "path: /no-such/c");
    edit_job("output: /no-such/o", "output: /no-such/p");
    refused_for("spec.checkpoint.path", first);
    kill(first, SIGKILL);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(!io_wait_readable(agents[i], clock_ms() + 10000, &e), "agent %d lives", i);
        io_close(agents[i]);
    }
    ck_assert_int_eq(waitpid(first, NULL, 0), first);
    edit_job("output: /no-such/p", "output: /no-such/o");
    ck_assert_msg(!run("complete", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    char path[96];
    snprintf(path, sizeof path, "%s/data/o.llmjob-lease", folder);
    ck_assert(!io_exists(path)); /* a run that ends well leaves no lease behind */
    snprintf(path, sizeof path, "%s/data/c/.llmjob-lease", folder);
    ck_assert(!io_exists(path));
}
END_TEST

/* Where nothing can be locked, the training goes on and says so. */
START_TEST(test_without_locks)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    char path[96], there[96];
    int status = -1;
    snprintf(path, sizeof path, "%s/data", folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(there, sizeof there, "%s/data/o.llmjob-lease", folder);
    ck_assert_int_eq(symlink("/no/such", there), 0);
    ck_assert_msg(!run("complete", &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    assert_has(&out, "NotLocked: spec.train.output: a second run would not be noticed");
}
END_TEST

/* Two entries on one folder: said at once, not by agents that end five times. */
START_TEST(test_storage_that_does_not_fit)
{
    static const char text[] =
        "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\nmetadata: {name: j}\nspec:\n"
        "  storage: [{name: data, claimName: c, mountPath: /a}, {name: scratch, scratch: "
        "1, "
        "mountPath: /b}]\n  run: {command: [a]}\n";
    struct err e = {.text = ""};
    char mapping[160];
    int status = -1;
    ck_assert_int_eq(io_write_file(job, text, sizeof text - 1, 0600, &e), 0);
    snprintf(mapping, sizeof mapping, "data=%s/x,scratch=%s/x", folder, folder);
    char *argv[] = {(char *)"run", job, (char *)"--agent", self, (char *)"--storage", mapping,
        (char *)"--plain", NULL};
    setenv("TEST_RUN", "crash", 1);
    ck_assert_int_eq(command_run(7, argv, &status, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.storage: mountPaths must differ"), "%s", e.text);
}
END_TEST

START_TEST(test_keys_of_a_training)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    more[0] = (char *)"--api-key-file";
    more[1] = job;
    ck_assert_int_eq(run("complete", &status, &out, &e), -ERR_USER);
    ck_assert_msg(
        strstr(e.text, "--api-key-file: ") && strstr(e.text, "serves nothing"), "%s", e.text);
    more[0] = (char *)"--webhook-secret";
    buf_done(&out);
    ck_assert_int_eq(run("complete", &status, &out, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "names no webhookSecret"), "%s", e.text);
}
END_TEST

START_TEST(test_bad_file)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    ck_assert_int_eq(io_write_file(job, "kind: Pod\n", 10, 0600, &e), 0);
    ck_assert_int_eq(run("complete", &status, &out, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "no LLMJob in it"));
}
END_TEST

int main(int argc, char **argv)
{
    if (*flag(argc, argv, "--job-dir"))
        return agent_main(argc, argv);
    Suite *suite = suite_create("run");
    TCase *t = tcase_create("run");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_complete);
    tcase_add_test(t, test_failed);
    tcase_add_test(t, test_interrupt_suspends);
    tcase_add_test(t, test_a_doubled_signal_is_one);
    tcase_add_test(t, test_editing_the_file_scales);
    tcase_add_test(t, test_agent_that_never_comes_up);
    tcase_add_test(t, test_second_run_is_refused_until_the_first_is_gone);
    tcase_add_test(t, test_without_locks);
    tcase_add_test(t, test_storage_that_does_not_fit);
    tcase_add_test(t, test_keys_of_a_training);
    tcase_add_test(t, test_bad_file);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
