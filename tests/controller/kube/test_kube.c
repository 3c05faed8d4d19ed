/*
 * Goal: the configuration is found and read as kubectl does, calls carry its credentials, a rotated
 * token is picked up, and answers mean what they say. Method: kubeconfig files of each form, right
 * and wrong; a server that shows what it received; a fake clock for the token's age.
 * needs: threads
 */
#include "controller/kube/kube.h"

#include "base/clock.h"
#include "tests/controller/fakekube.h"

static char config_path[64];

static int open_config(const char *text, struct kube **out, struct err *e)
{
    snprintf(config_path, sizeof config_path, "/tmp/test_kube.%d", (int)getpid());
    ck_assert_int_eq(io_write_file(config_path, text, strlen(text), 0600, e), 0);
    const struct kube_conf conf = {.kubeconfig = config_path};
    int rc = kube_create(&conf, out, e);
    unlink(config_path);
    return rc;
}

START_TEST(kubeconfigs_that_are_wrong_say_what)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"current-context: a\n", "no context"},
        {"contexts: [{name: a, context: {cluster: b}}]\ncurrent-context: a\n", "server"},
        {"contexts: [{name: a, context: {cluster: b, user: u}}]\ncurrent-context: a\n"
         "clusters: [{name: b, cluster: {server: \"https://x\"}}]\n"
         "users: [{name: u, user: {exec: {command: aws}}}]\n",
            "exec"},
        {"contexts: [{name: a, context: {cluster: b, user: u}}]\ncurrent-context: a\n"
         "clusters: [{name: b, cluster: {server: \"https://x\", "
         "certificate-authority-data: \"&&\"}}]\nusers: [{name: u, user: {}}]\n",
            "base64"},
        {"contexts: [{name: a, context: {cluster: b, user: u}}]\ncurrent-context: a\n"
         "clusters: [{name: b, cluster: {server: \"https://x\"}}]\n"
         "users: [{name: u, user: {tokenFile: no-such-file}}]\n",
            "/tmp/no-such-file"},
        {"a: [", "line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kube *k = NULL;
        struct err e = {0};
        ck_assert_int_lt(open_config(cases[i].text, &k, &e), 0);
        ck_assert_ptr_null(k);
        ck_assert_msg(strstr(e.text, cases[i].want), "case %zu: %s", i, e.text);
    }
}
END_TEST

struct seen {
    int done, status;
    char text[4096];
    struct err error;
};

static void done(void *user, const struct http_response *r)
{
    struct seen *s = user;
    s->done++;
    s->status = r->status;
    snprintf(s->text, sizeof s->text, "%s", r->body);
    s->error = (struct err){0};
    kube_check(r, &s->error);
}

static void call(
    struct kube *k, const char *method, const char *path, const char *body, struct seen *s)
{
    struct err e = {0};
    int want = s->done + 1;
    const struct kube_call c = {.method = method,
        .path = path,
        .body = body,
        .len = body ? strlen(body) : 0,
        .done_fn = done,
        .user = s};
    ck_assert_msg(!kube_start(k, &c, &e), "%s", e.text);
    while (s->done < want)
        ck_assert_int_eq(http_turn(kube_http(k), NULL, 0, 100, &e), 0);
}

static bool show(void *user, const struct fakehttp_request *r)
{
    char token[256], body[512];
    (void)user;
    snprintf(body, sizeof body, "%s %.100s %s", r->method, r->path,
        fakehttp_header(r, "Authorization", token, sizeof token));
    return fakehttp_answer(r, strstr(token, "old") ? 401 : 200, "", body);
}

START_TEST(a_rotated_token_is_read_again)
{
    struct fakehttp s;
    struct kube *k = NULL;
    struct err e = {0};
    struct seen seen = {0};
    char text[512], token[64];
    snprintf(token, sizeof token, "/tmp/test_kube_token.%d", (int)getpid());
    ck_assert_int_eq(io_write_file(token, "first\n", 6, 0600, &e), 0);
    fakehttp_start(&s, show, NULL);
    snprintf(text, sizeof text,
        "clusters: [{name: c, cluster: {server: \"http://127.0.0.1:%d/\"}}]\n"
        "users: [{name: u, user: {tokenFile: %s}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\n",
        s.port, strrchr(token, '/') + 1); /* relative to the kubeconfig */
    ck_assert_msg(!open_config(text, &k, &e), "%s", e.text);
    ck_assert_str_eq(kube_namespace(k), "default");
    call(k, "GET", "/x", NULL, &seen);
    ck_assert_str_eq(seen.text, "GET /x Bearer first");
    ck_assert_int_eq(io_write_file(token, "old", 3, 0600, &e), 0);
    call(k, "GET", "/x", NULL, &seen);
    ck_assert_str_eq(seen.text, "GET /x Bearer first"); /* still fresh enough */
    clock_set_fake(clock_ms() + 61000, clock_wall_ms());
    call(k, "GET", "/x", NULL, &seen);
    ck_assert_int_eq(seen.status, 401);
    ck_assert_int_eq(io_write_file(token, "new", 3, 0600, &e), 0);
    call(k, "GET", "/x", NULL, &seen); /* at once after a 401 */
    ck_assert_str_eq(seen.text, "GET /x Bearer new");
    clock_set_real();
    kube_destroy(k);
    fakehttp_stop(&s);
    unlink(token);
}
END_TEST

START_TEST(answers_mean_what_they_say)
{
    struct fakekube *f = fakekube_start();
    struct kube *k = fakekube_client(f);
    struct seen s = {0};
    const char *pods = "/api/v1/namespaces/n/pods", *a = "/api/v1/namespaces/n/pods/a";
    ck_assert_str_eq(kube_namespace(k), "here");
    call(k, "POST", pods, "{\"metadata\":{\"name\":\"a\"}}", &s);
    ck_assert_int_eq(s.status, 201);
    ck_assert_int_eq(s.error.code, ERR_NONE);
    call(k, "POST", pods, "{\"metadata\":{\"name\":\"a\"}}", &s);
    ck_assert_int_eq(s.error.code, ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(s.error.text, "exists"));
    fakekube_fault(f, "GET /api", FAULT_STATUS, 403, 1);
    call(k, "GET", a, NULL, &s);
    ck_assert_int_eq(s.error.code, ERR_USER);
    fakekube_fault(f, "GET /api", FAULT_STATUS, 500, 1);
    call(k, "GET", a, NULL, &s);
    ck_assert_int_eq(s.error.code, ERR_RETRY);
    fakekube_fault(f, "GET /api", FAULT_RESET, 0, 2);
    call(k, "GET", a, NULL, &s);
    ck_assert_int_eq(s.status, 0);
    ck_assert_int_eq(s.error.code, ERR_RETRY);
    call(k, "DELETE", a, NULL, &s);
    call(k, "GET", a, NULL, &s);
    ck_assert_int_eq(s.status, 404);
    kube_destroy(k);
    fakekube_stop(f);
}
END_TEST

START_TEST(base64_decodes)
{
    static const char *const pairs[][2] = {
        {"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9v\nYmFy", "foobar"}};
    struct err e;
    buf_auto struct buf b;
    buf_init(&b, 100);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        buf_reset(&b);
        ck_assert_int_eq(kube_base64(pairs[i][0], &b, &e), 0);
        ck_assert_str_eq(buf_cstr(&b), pairs[i][1]);
    }
    ck_assert_int_eq(kube_base64("a-b", &b, &e), -ERR_DATA);
}
END_TEST

UNIT_MAIN("kube", kubeconfigs_that_are_wrong_say_what, a_rotated_token_is_read_again,
    answers_mean_what_they_say, base64_decodes)
