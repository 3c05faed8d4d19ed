/*
 * kube: finds its configuration once, at create; afterwards only the token is read again (each
 * minute, and after a 401) and the CA file (by base/http). Credentials stay inside: they are never
 * logged, and errors name files, not contents. Knows no kind of object.
 */
#include "controller/kube/kube.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/net.h"
#include "base/yaml.h"

#include <ctype.h>
#include <signal.h>
#include <unistd.h>

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define TOKEN_EVERY_MS  60000
#define TOKEN_LIMIT     (64 << 10)
#define CONFIG_LIMIT    (1 << 20)
#define TIMEOUT_MS      30000
#define ANSWER_LIMIT    ((size_t)8 << 20)

struct kube {
    struct http *http;
    struct arena *arena;
    char *server, *namespace_;
    char *token_file; /* or NULL: the token, if any, is fixed */
    struct buf token;
    int64_t token_read_ms;
    int64_t mutations;
    int64_t die_before, die_after; /* 0: never */
};

struct settings { /* what a configuration says, in the kube's arena */
    const char *server, *namespace_, *token, *token_file;
    struct http_conf http;
};

static struct metric requests_ok = {.name = NAME_METRIC_KUBE_REQUESTS,
    .help = "Requests to the API server by result.",
    .kind = METRIC_COUNTER,
    .labels = "result=\"ok\""};
static struct metric requests_refused = {.name = NAME_METRIC_KUBE_REQUESTS,
    .help = "Requests to the API server by result.",
    .kind = METRIC_COUNTER,
    .labels = "result=\"refused\""};
static struct metric requests_failed = {.name = NAME_METRIC_KUBE_REQUESTS,
    .help = "Requests to the API server by result.",
    .kind = METRIC_COUNTER,
    .labels = "result=\"failed\""};

int kube_base64(const char *text, struct buf *out, struct err *e)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int have = 0;
    for (const char *p = text; *p && *p != '='; p++) {
        if (isspace((unsigned char)*p))
            continue;
        const char *at = strchr(alphabet, *p);
        if (!at)
            return err_set(e, ERR_DATA, "malformed base64");
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (buf_char(out, (char)(bits >> have & 0xff)))
            return err_set(e, ERR_MEMORY, "base64 text too long");
    }
    return 0;
}

/* -- configuration -- */

static const struct json *find_named(
    const struct json *config, const char *list, const char *name, const char *what)
{
    json_each (item, json_get(config, list)) {
        if (!strcmp(json_str(item, "name", ""), name))
            return json_get(item, what);
    }
    return NULL;
}

/* A path relative to the kubeconfig's folder. */
static int copy_path(
    struct arena *a, const char *config_path, const char *path, const char **out, struct err *e)
{
    const char *slash = strrchr(config_path, '/');
    if (!path || !*path)
        return 0;
    *out = path[0] == '/' || !slash
        ? arena_strdup(a, path)
        : arena_printf(a, "%.*s/%s", (int)(slash - config_path), config_path, path);
    return *out ? 0 : err_set(e, ERR_MEMORY, "no memory for a path");
}

static int copy_pem(struct arena *a, const char *base64, const char **out, struct err *e)
{
    if (!base64 || !*base64)
        return 0;
    buf_auto struct buf text;
    buf_init(&text, CONFIG_LIMIT);
    int rc = kube_base64(base64, &text, e);
    if (rc)
        return rc;
    *out = arena_strdup(a, buf_cstr(&text));
    return *out ? 0 : err_set(e, ERR_MEMORY, "no memory for a certificate");
}

static int copy_str(
    struct arena *a, const struct json *object, const char *key, const char **out, struct err *e)
{
    const char *s = json_str(object, key, NULL);
    if (!s || !*s)
        return 0;
    *out = arena_strdup(a, s);
    return *out ? 0 : err_set(e, ERR_MEMORY, "no memory for %s", key);
}

static int read_user(
    struct arena *a, const char *path, const struct json *user, struct settings *s, struct err *e)
{
    if (json_get(user, "exec") || json_get(user, "auth-provider"))
        return err_set(e, ERR_USER, "%s: users by exec or auth-provider are not supported", path);
    int rc;
    if ((rc = copy_str(a, user, "token", &s->token, e)) ||
        (rc = copy_path(a, path, json_str(user, "tokenFile", NULL), &s->token_file, e)) ||
        (rc = copy_path(
             a, path, json_str(user, "client-certificate", NULL), &s->http.cert_file, e)) ||
        (rc = copy_path(a, path, json_str(user, "client-key", NULL), &s->http.key_file, e)) ||
        (rc = copy_pem(a, json_str(user, "client-certificate-data", NULL), &s->http.cert_pem, e)) ||
        (rc = copy_pem(a, json_str(user, "client-key-data", NULL), &s->http.key_pem, e)))
        return rc;
    return 0;
}

static int read_kubeconfig(struct arena *a, const char *path, struct settings *s, struct err *e)
{
    json_auto struct json *documents = NULL;
    int rc = yaml_read_file(path, CONFIG_LIMIT, &documents, e);
    if (rc)
        return rc;
    const struct json *config = json_first(documents);
    const char *current = json_str(config, "current-context", "");
    const struct json *context = find_named(config, "contexts", current, "context");
    if (!context)
        return err_set(e, ERR_USER, "%s: no context \"%s\"", path, current);
    const struct json *cluster =
        find_named(config, "clusters", json_str(context, "cluster", ""), "cluster");
    const struct json *user = find_named(config, "users", json_str(context, "user", ""), "user");
    if (!json_str(cluster, "server", NULL))
        return err_set(
            e, ERR_USER, "%s: context \"%s\" names no cluster with a server", path, current);
    s->http.insecure = json_bool(cluster, "insecure-skip-tls-verify", false);
    if ((rc = copy_str(a, cluster, "server", &s->server, e)) ||
        (rc = copy_str(a, context, "namespace", &s->namespace_, e)) ||
        (rc = copy_path(
             a, path, json_str(cluster, "certificate-authority", NULL), &s->http.ca_file, e)) ||
        (rc = copy_pem(
             a, json_str(cluster, "certificate-authority-data", NULL), &s->http.ca_pem, e)))
        return rc;
    return read_user(a, path, user, s, e);
}

static int read_in_cluster(struct arena *a, struct settings *s, struct err *e)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT");
    char address[NET_TEXT_BYTES];
    net_write(host, port ? (unsigned)strtoul(port, NULL, 10) : 443, address);
    s->server = arena_printf(a, "https://%s", address);
    s->token_file = SERVICE_ACCOUNT "/token";
    s->http.ca_file = SERVICE_ACCOUNT "/ca.crt";
    buf_auto struct buf text;
    buf_init(&text, 4096);
    int rc = io_read_file(SERVICE_ACCOUNT "/namespace", 4096, &text, e);
    if (rc)
        return rc;
    s->namespace_ = arena_strdup(a, buf_cstr(&text));
    return s->server && s->namespace_ ? 0 : err_set(e, ERR_MEMORY, "no memory");
}

static int find_settings(struct arena *a, const char *kubeconfig, struct settings *s, struct err *e)
{
    if (kubeconfig && !*kubeconfig)
        kubeconfig = NULL;
    if (!kubeconfig)
        kubeconfig = getenv("KUBECONFIG");
    if (kubeconfig && *kubeconfig)
        return read_kubeconfig(a, kubeconfig, s, e);
    if (getenv("KUBERNETES_SERVICE_HOST") && io_exists(SERVICE_ACCOUNT "/token"))
        return read_in_cluster(a, s, e);
    const char *home = getenv("HOME");
    const char *path = home ? arena_printf(a, "%s/.kube/config", home) : NULL;
    if (!path || !io_exists(path))
        return err_set(
            e, ERR_USER, "no Kubernetes configuration: give --kubeconfig or run in a cluster");
    return read_kubeconfig(a, path, s, e);
}

static int read_token(struct kube *k, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, TOKEN_LIMIT);
    k->token_read_ms = clock_ms();
    int rc = io_read_file(k->token_file, TOKEN_LIMIT, &text, e);
    if (rc)
        return rc;
    while (text.len && isspace((unsigned char)text.data[text.len - 1]))
        text.data[--text.len] = 0;
    buf_reset(&k->token);
    return buf_add(&k->token, buf_cstr(&text), text.len)
        ? err_set(e, ERR_MEMORY, "no memory for the token")
        : 0;
}

static void read_fault(struct kube *k)
{
#ifdef LLMJOB_FAULT
    const char *at = getenv("LLMJOB_FAULT_MUTATION");
    if (at && !strncmp(at, "before:", 7))
        k->die_before = strtoll(at + 7, NULL, 10);
    if (at && !strncmp(at, "after:", 6))
        k->die_after = strtoll(at + 6, NULL, 10);
#else
    (void)k;
#endif
}

static void register_metrics(void)
{
    static bool registered;
    if (registered)
        return;
    metric_register(&requests_ok);
    metric_register(&requests_refused);
    metric_register(&requests_failed);
    registered = true;
}

static int set_token(struct kube *k, const struct settings *s, struct err *e)
{
    if (!s->token_file)
        return s->token && buf_str(&k->token, s->token)
            ? err_set(e, ERR_MEMORY, "no memory for the token")
            : 0;
    k->token_file = arena_strdup(k->arena, s->token_file);
    return k->token_file ? read_token(k, e) : err_set(e, ERR_MEMORY, "no memory");
}

static int configure_client(struct kube *k, const struct kube_conf *conf, struct err *e)
{
    struct settings s = {.namespace_ = "default"};
    int rc = find_settings(k->arena, conf->kubeconfig, &s, e);
    if (rc)
        return rc;
    k->server = arena_strdup(k->arena, s.server);
    k->namespace_ = arena_strdup(k->arena, s.namespace_);
    if (!k->server || !k->namespace_)
        return err_set(e, ERR_MEMORY, "no memory for the API client");
    while (*k->server && k->server[strlen(k->server) - 1] == '/')
        k->server[strlen(k->server) - 1] = 0;
    rc = set_token(k, &s, e);
    if (rc)
        return rc;
    s.http.http2 = true;
    s.http.max_in_flight = conf->max_in_flight;
    s.http.gather_ms = conf->gather_ms;
    s.http.user_agent = conf->user_agent;
    return http_create(&s.http, &k->http, e);
}

int kube_create(const struct kube_conf *conf, struct kube **out, struct err *e)
{
    struct kube *k = mem_zalloc(sizeof *k);
    if (!k)
        return err_set(e, ERR_MEMORY, "no memory for the API client");
    buf_init(&k->token, TOKEN_LIMIT);
    k->arena = arena_create(CONFIG_LIMIT);
    int rc = k->arena ? configure_client(k, conf, e)
                      : err_set(e, ERR_MEMORY, "no memory for the API client");
    if (rc) {
        kube_destroy(k);
        return rc;
    }
    register_metrics();
    read_fault(k);
    *out = k;
    return 0;
}

void kube_destroy(struct kube *k)
{
    if (!k)
        return;
#ifdef LLMJOB_FAULT
    dprintf(STDERR_FILENO, "fault: mutations=%lld\n", (long long)k->mutations);
#endif
    http_destroy(k->http);
    buf_done(&k->token);
    arena_destroy(k->arena);
    mem_free(k);
}

struct http *kube_http(struct kube *k)
{
    return k->http;
}

const char *kube_namespace(const struct kube *k)
{
    return k->namespace_;
}

const char *kube_server(const struct kube *k)
{
    return k->server;
}

/* -- calls -- */

struct flight { /* stands between base/http and the caller */
    struct kube *k;
    int64_t mutation; /* its number; 0: none */
    int (*data_fn)(void *user, const char *data, size_t len);
    void (*done_fn)(void *user, const struct http_response *r);
    void *user;
};

static int call_data(void *user, const char *data, size_t len)
{
    struct flight *c = user;
    return c->data_fn(c->user, data, len);
}

static void call_done(void *user, const struct http_response *r)
{
    struct flight *c = user;
    struct kube *k = c->k;
    if (c->mutation && c->mutation == k->die_after && r->status)
        raise(SIGKILL);
    if (!r->status)
        metric_add(&requests_failed, 1);
    else
        metric_add(r->status < 300 ? &requests_ok : &requests_refused, 1);
    if (r->status == 401)
        k->token_read_ms = clock_ms() - TOKEN_EVERY_MS;
    c->done_fn(c->user, r);
    mem_free(c);
}

static bool is_mutation(const struct kube_call *call)
{
    return !call->background && strcmp(call->method, "GET") != 0;
}

int kube_start(struct kube *k, const struct kube_call *call, struct err *e)
{
    struct err ignored;
    if (k->token_file && clock_ms() - k->token_read_ms >= TOKEN_EVERY_MS)
        read_token(k, &ignored); /* an unreadable file: the old token may still be good */
    buf_auto struct buf url;
    buf_init(&url, 16 << 10);
    buf_printf(&url, "%s%s", k->server, call->path);
    struct flight *c = mem_zalloc(sizeof *c);
    if (!c || !buf_ok(&url)) {
        mem_free(c);
        return err_set(e, ERR_MEMORY, "no memory for a request");
    }
    *c = (struct flight){
        .k = k, .data_fn = call->data_fn, .done_fn = call->done_fn, .user = call->user};
    if (is_mutation(call)) {
        c->mutation = ++k->mutations;
        if (c->mutation == k->die_before)
            raise(SIGKILL);
    }
    const struct http_request r = {
        .method = call->method,
        .url = url.data,
        .bearer = k->token.len ? k->token.data : NULL,
        .content_type = !call->body ? NULL
            : call->content_type    ? call->content_type
                                    : "application/json",
        .headers = call->headers,
        .body = call->body,
        .body_len = call->len,
        .timeout_ms = call->timeout_ms || call->idle_timeout_ms ? call->timeout_ms : TIMEOUT_MS,
        .idle_timeout_ms = call->idle_timeout_ms,
        .limit = call->limit ? call->limit : ANSWER_LIMIT,
        .data_fn = call->data_fn ? call_data : NULL,
        .done_fn = call_done,
        .user = c,
    };
    int rc = http_start(k->http, &r, e);
    if (rc)
        mem_free(c);
    return rc;
}

int kube_check(const struct http_response *r, struct err *e)
{
    json_auto struct json *status = NULL;
    struct err ignored;
    if (r->error.code != ERR_NONE) {
        *e = r->error;
        return -(int)r->error.code;
    }
    if (r->status >= 200 && r->status < 300)
        return 0;
    bool wrong = r->status == 400 || r->status == 403 || r->status == 422;
    json_parse(r->body, r->len, &status, &ignored);
    return err_set(e, wrong ? ERR_USER : ERR_RETRY, "the API server answered %d: %s", r->status,
        json_str(status, "message", "no reason given"));
}
