/*
 * kube: one connection to a Kubernetes API server: who it is (kubeconfig or in-cluster),
 * authentication that follows rotated tokens, verbs as asynchronous calls, and what its answers
 * mean.
 *
 * A call is borrowed until kube_start returns; done_fn is called once, from http_turn or
 * kube_destroy. In FAULT=1 builds LLMJOB_FAULT_MUTATION="before:N" or "after:N" kills the process
 * around the N-th mutating request, and kube_destroy prints how many there were.
 */
#ifndef CONTROLLER_KUBE_KUBE_H
#define CONTROLLER_KUBE_KUBE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/http.h"

#include <stdbool.h>
#include <stdint.h>

struct kube;

struct kube_conf {
    const char *kubeconfig; /* path; NULL: $KUBECONFIG, else in-cluster, else ~/.kube/config */
    int max_in_flight, gather_ms; /* as http_conf */
    const char *user_agent;
};

struct kube_call {
    const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
    const char *path;   /* "/api/v1/..." with its query */
    const void *body;   /* or NULL */
    size_t len;
    const char *content_type;   /* NULL: application/json */
    const char *const *headers; /* as http_request */
    int64_t timeout_ms;         /* 0: 30 s, unless idle_timeout_ms is set */
    int64_t idle_timeout_ms;    /* of a stream */
    size_t limit;               /* bytes of the answer; 0: 8 MiB */
    bool background;            /* not part of a decision (lease): crash tests do not count it */
    int (*data_fn)(void *user, const char *data, size_t len);
    void (*done_fn)(void *user, const struct http_response *r);
    void *user;
};

/* Appended to the path of what is written: fields are ours, so the server need not decode it a
 * second time to warn of those that it does not know. */
#define KUBE_UNCHECKED   "?fieldValidation=Ignore"
#define KUBE_MERGE_PATCH "application/merge-patch+json"

int kube_create(const struct kube_conf *conf, struct kube **out, struct err *e);
void kube_destroy(struct kube *k);
/* The client that http_turn drives; also good for plain URLs. */
struct http *kube_http(struct kube *k);
/* Of the kubeconfig's context or the pod; else "default". */
const char *kube_namespace(const struct kube *k);
const char *kube_server(const struct kube *k);
int kube_start(struct kube *k, const struct kube_call *call, struct err *e);

/* 0 for a 2xx answer; else the server's own sentence. 400, 403 and 422 are ERR_USER, the rest
 * ERR_RETRY. */
int kube_check(const struct http_response *r, struct err *e);

/* Decodes base64 (as in Secrets and kubeconfigs) to the end of out; white space is skipped. */
int kube_base64(const char *text, struct buf *out, struct err *e);

#endif
