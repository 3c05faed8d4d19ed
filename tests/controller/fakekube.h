/*
 * fakekube: as much of an API server as faults need: objects in memory with versions, lists in
 * pages, watches that follow, POST, PUT, PATCH, DELETE; and orders to misbehave: cut a watch in the
 * middle of a line, answer with a status, stay silent, reset the connection, forget old versions
 * (410). Everything else is tested against a real one.
 */
#ifndef TESTS_CONTROLLER_FAKEKUBE_H
#define TESTS_CONTROLLER_FAKEKUBE_H

#include "base/json.h"
#include "controller/kube/kube.h"
#include "tests/fakehttp.h"
#include "tests/unit.h"

#define FAKEKUBE_OBJECTS 2000
#define FAKEKUBE_FAULTS  16

enum fakekube_fault { FAULT_STATUS, FAULT_SILENT, FAULT_RESET };

struct fakekube_object {
    char path[512]; /* "/api/v1/namespaces/n/pods/a" */
    char *text;
    int version; /* of the last change */
    bool deleted;
};

struct fakekube {
    struct fakehttp http;
    pthread_mutex_t lock;
    struct fakekube_object objects[FAKEKUBE_OBJECTS];
    int count, version, oldest; /* oldest: a watch from before gets 410 */
    struct {
        enum fakekube_fault kind;
        char part[64]; /* of "METHOD path" */
        int status, times;
    } faults[FAKEKUBE_FAULTS];
    int fault_count;
    _Atomic int lists, watches, mutations;
    _Atomic bool cut; /* ends running watches in the middle of a line, once each */
    char config[256];
};

/* The next `times` requests whose "METHOD path" contains part misbehave. */
static inline void fakekube_fault(
    struct fakekube *k, const char *part, enum fakekube_fault kind, int status, int times)
{
    pthread_mutex_lock(&k->lock);
    ck_assert_int_lt(k->fault_count, FAKEKUBE_FAULTS);
    snprintf(k->faults[k->fault_count].part, 64, "%s", part);
    k->faults[k->fault_count].kind = kind;
    k->faults[k->fault_count].status = status;
    k->faults[k->fault_count++].times = times;
    pthread_mutex_unlock(&k->lock);
}

static inline struct fakekube_object *fakekube_find(struct fakekube *k, const char *path)
{
    for (int i = 0; i < k->count; i++)
        if (!strcmp(k->objects[i].path, path))
            return &k->objects[i];
    return NULL;
}

/* Puts `"resourceVersion":"n"` (and what else is given) at the front of metadata. */
static inline char *fakekube_stamp(const char *text, int version, const char *more)
{
    buf_auto struct buf out;
    const char *at = strstr(text, "\"metadata\":{");
    buf_init(&out, 16 << 20);
    ck_assert_msg(at, "no metadata in %s", text);
    at += 12;
    buf_add(&out, text, (size_t)(at - text));
    buf_printf(&out, "\"resourceVersion\":\"%d\"%s%s", version, more, *at == '}' ? "" : ",");
    /* what the client sent, or we stamped before, comes second and loses to the first */
    buf_str(&out, at);
    return buf_take(&out);
}

static inline void fakekube_store(struct fakekube *k, const char *path, const char *text, bool gone)
{
    struct fakekube_object *o = fakekube_find(k, path);
    if (!o) {
        ck_assert_int_lt(k->count, FAKEKUBE_OBJECTS);
        o = &k->objects[k->count++];
        snprintf(o->path, sizeof o->path, "%s", path);
    }
    char more[64] = "";
    if (!strstr(text, "\"uid\":\"uid-"))
        snprintf(more, sizeof more, ",\"uid\":\"uid-%d\"", k->version + 1);
    char *stamped = fakekube_stamp(text, ++k->version, more);
    mem_free(o->text);
    o->text = stamped;
    o->version = k->version;
    o->deleted = gone;
}

static inline void fakekube_put(struct fakekube *k, const char *path, const char *text)
{
    pthread_mutex_lock(&k->lock);
    fakekube_store(k, path, text, false);
    pthread_mutex_unlock(&k->lock);
}

static inline void fakekube_remove(struct fakekube *k, const char *path)
{
    pthread_mutex_lock(&k->lock);
    struct fakekube_object *o = fakekube_find(k, path);
    ck_assert_ptr_nonnull(o);
    char *text = mem_strdup(o->text);
    fakekube_store(k, path, text, true);
    mem_free(text);
    pthread_mutex_unlock(&k->lock);
}

/* A copy of what is stored, "" when absent; the caller frees it. */
static inline char *fakekube_get(struct fakekube *k, const char *path)
{
    pthread_mutex_lock(&k->lock);
    struct fakekube_object *o = fakekube_find(k, path);
    char *text = mem_strdup(o && !o->deleted ? o->text : "");
    pthread_mutex_unlock(&k->lock);
    return text;
}

/* Does an object's path belong to the collection? "/api/v1/pods" holds
 * "/api/v1/namespaces/n/pods/a". */
static inline bool fakekube_in(const char *object, const char *collection)
{
    const char *group_end = strrchr(collection, '/');
    const char *slash = strrchr(object, '/');
    size_t n = (size_t)(slash - object), c = strlen(collection);
    if (n == c && !strncmp(object, collection, c))
        return true;
    size_t plural = strlen(group_end);
    return n > plural && !strncmp(object, collection, (size_t)(group_end - collection)) &&
        !strncmp(object + n - plural, group_end, plural) &&
        !strncmp(object + (group_end - collection), "/namespaces/", 12);
}

static inline long fakekube_query(const char *path, const char *key, long def)
{
    const char *at = strstr(path, key);
    return at ? strtol(at + strlen(key), NULL, 10) : def;
}

static inline bool fakekube_status(
    const struct fakehttp_request *r, int status, const char *message)
{
    char body[512];
    snprintf(body, sizeof body,
        "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"%s\",\"code\":%d}", message,
        status);
    return fakehttp_answer(r, status, "", body);
}

static inline bool fakekube_list(
    struct fakekube *k, const struct fakehttp_request *r, const char *collection)
{
    buf_auto struct buf out;
    long from = fakekube_query(r->path, "continue=", 0);
    long limit = fakekube_query(r->path, "limit=", 500);
    buf_init(&out, 16 << 20);
    atomic_fetch_add(&k->lists, 1);
    pthread_mutex_lock(&k->lock);
    buf_str(&out, "{\"items\":[");
    long i = from, n = 0;
    for (; i < k->count && n < limit; i++)
        if (!k->objects[i].deleted && fakekube_in(k->objects[i].path, collection))
            buf_printf(&out, "%s%s", n++ ? "," : "", k->objects[i].text);
    buf_printf(&out, "],\"metadata\":{\"resourceVersion\":\"%d\"", k->version);
    if (i < k->count)
        buf_printf(&out, ",\"continue\":\"%ld\"", i);
    buf_str(&out, "}}");
    pthread_mutex_unlock(&k->lock);
    return fakehttp_answer(r, 200, "", buf_cstr(&out));
}

/* The oldest change after *from, as a line; false when there is none. */
static inline bool fakekube_next(
    struct fakekube *k, const char *collection, int *from, struct buf *line)
{
    struct fakekube_object *next = NULL;
    pthread_mutex_lock(&k->lock);
    for (int i = 0; i < k->count; i++) {
        struct fakekube_object *o = &k->objects[i];
        if (o->version > *from && fakekube_in(o->path, collection) &&
            (!next || o->version < next->version))
            next = o;
    }
    if (next) {
        buf_printf(line, "{\"type\":\"%s\",\"object\":%s}\n",
            next->deleted ? "DELETED" : "MODIFIED", next->text);
        *from = next->version;
    }
    pthread_mutex_unlock(&k->lock);
    return next != NULL;
}

static inline bool fakekube_watch(
    struct fakekube *k, const struct fakehttp_request *r, const char *collection)
{
    int from = (int)fakekube_query(r->path, "resourceVersion=", 0);
    atomic_fetch_add(&k->watches, 1);
    fakehttp_begin(r);
    if (from < k->oldest) {
        const char *gone = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
                           "\"message\":\"too old\"}}\n";
        return fakehttp_chunk(r, gone, strlen(gone)) && fakehttp_chunk(r, "", 0);
    }
    while (!atomic_load(&k->http.stop)) {
        buf_auto struct buf line;
        buf_init(&line, 16 << 20);
        if (!fakekube_next(k, collection, &from, &line)) {
            usleep(2000);
            continue;
        }
        bool cut = atomic_exchange(&k->cut, false);
        if (!fakehttp_chunk(r, line.data, cut ? line.len / 2 : line.len) || cut)
            return false;
    }
    return false;
}

static inline bool fakekube_write(
    struct fakekube *k, const struct fakehttp_request *r, const char *path)
{
    struct json *v = NULL;
    struct err e;
    char full[512];
    atomic_fetch_add(&k->mutations, 1);
    bool post = !strcmp(r->method, "POST");
    snprintf(full, sizeof full, "%s", path);
    if (post && !json_parse(r->body, r->len, &v, &e)) {
        snprintf(full, sizeof full, "%s/%s", path, json_str(json_get(v, "metadata"), "name", "?"));
        json_destroy(v);
    }
    char *slash = strstr(full, "/status");
    bool status = slash && !slash[7];
    if (status)
        *slash = 0;
    pthread_mutex_lock(&k->lock);
    struct fakekube_object *o = fakekube_find(k, full);
    bool exists = o && !o->deleted;
    int answer = post ? (exists ? 409 : 201) : exists ? 200 : 404;
    buf_auto struct buf body;
    buf_init(&body, 4 << 20);
    if (answer < 300 && !strcmp(r->method, "DELETE")) {
        char *copy = mem_strdup(o->text);
        fakekube_store(k, full, copy, true);
        mem_free(copy);
    } else if (answer < 300 && !strcmp(r->method, "PATCH")) {
        /* Only the version moves, and a status, always last in the text, is replaced. */
        char *copy = mem_strdup(o->text), *old = strstr(copy, ",\"status\":{");
        const char *value = strstr(r->body, "\"value\":");
        buf_auto struct buf next;
        buf_init(&next, 4 << 20);
        *(status && old ? old : copy + strlen(copy) - 1) = 0;
        if (status && value)
            buf_printf(&next, "%s,\"status\":%.*s}", copy,
                (int)(r->len - (size_t)(value - r->body) - 10), value + 8);
        else
            buf_printf(&next, "%s}", copy);
        fakekube_store(k, full, next.data, false);
        mem_free(copy);
    } else if (answer < 300) {
        char *copy = mem_strndup(r->body, r->len);
        fakekube_store(k, full, copy, false);
        mem_free(copy);
    }
    if (answer < 300)
        buf_str(&body, fakekube_find(k, full)->text);
    pthread_mutex_unlock(&k->lock);
    return answer < 300 ? fakehttp_answer(r, answer, "", buf_cstr(&body))
                        : fakekube_status(r, answer, answer == 409 ? "exists" : "not found");
}

static inline bool fakekube_misbehave(
    struct fakekube *k, const struct fakehttp_request *r, bool *close_it)
{
    char line[2100];
    int found = -1;
    snprintf(line, sizeof line, "%s %s", r->method, r->path);
    pthread_mutex_lock(&k->lock);
    for (int i = 0; i < k->fault_count && found < 0; i++)
        if (k->faults[i].times > 0 && strstr(line, k->faults[i].part)) {
            k->faults[i].times--;
            found = i;
        }
    pthread_mutex_unlock(&k->lock);
    if (found < 0)
        return false;
    *close_it = true;
    if (k->faults[found].kind == FAULT_STATUS)
        *close_it = !fakekube_status(r, k->faults[found].status, "as ordered");
    while (k->faults[found].kind == FAULT_SILENT && !atomic_load(&k->http.stop))
        usleep(2000);
    if (k->faults[found].kind == FAULT_RESET)
        setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    return true;
}

static inline bool fakekube_handle(void *user, const struct fakehttp_request *r)
{
    struct fakekube *k = user;
    bool close_it = false;
    char path[512];
    if (fakekube_misbehave(k, r, &close_it))
        return !close_it;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(r->path, "?"), r->path);
    if (strcmp(r->method, "GET") != 0)
        return fakekube_write(k, r, path);
    if (strstr(r->path, "watch=true"))
        return fakekube_watch(k, r, path);
    if (strstr(r->path, "limit="))
        return fakekube_list(k, r, path);
    char *text = fakekube_get(k, path);
    bool ok = *text ? fakehttp_answer(r, 200, "", text) : fakekube_status(r, 404, "not found");
    mem_free(text);
    return ok;
}

static inline struct fakekube *fakekube_start(void)
{
    struct fakekube *k = mem_zalloc(sizeof *k);
    struct err e = {0};
    pthread_mutex_init(&k->lock, NULL);
    k->version = 10;
    fakehttp_start(&k->http, fakekube_handle, k);
    snprintf(k->config, sizeof k->config, "/tmp/fakekube.%d.%d", (int)getpid(), k->http.port);
    char text[512];
    int n = snprintf(text, sizeof text,
        "clusters: [{name: c, cluster: {server: \"http://127.0.0.1:%d/\"}}]\n"
        "users: [{name: u, user: {token: sesame}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u, namespace: here}}]\n"
        "current-context: c\n",
        k->http.port);
    ck_assert_msg(!io_write_file(k->config, text, (size_t)n, 0600, &e), "%s", e.text);
    return k;
}

static inline struct kube *fakekube_client(struct fakekube *k)
{
    struct kube *client = NULL;
    struct err e = {0};
    const struct kube_conf conf = {.kubeconfig = k->config, .user_agent = "test"};
    ck_assert_msg(!kube_create(&conf, &client, &e), "%s", e.text);
    return client;
}

static inline void fakekube_stop(struct fakekube *k)
{
    fakehttp_stop(&k->http);
    for (int i = 0; i < k->count; i++)
        mem_free(k->objects[i].text);
    unlink(k->config);
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
}

#endif
