/*
 * apply: carries out a plan: actions become requests, a stage at a time, many in flight.
 *
 * A failure ends the stage and skips the rest but for the status, which is true in any case. What
 * an answer teaches (the token, versions to wait for, what the coordinator accepted) goes into the
 * job's memory. The next pass looks again, so nothing is undone or repeated here. Thread: one.
 */
#ifndef CONTROLLER_APPLY_H
#define CONTROLLER_APPLY_H

#include "base/err.h"
#include "base/mem.h"
#include "controller/coordinator.h"
#include "controller/events.h"
#include "controller/kube/kube.h"
#include "controller/observe.h"
#include "controller/plan/plan.h"

struct apply;

struct apply_conf {
    struct kube *kube;
    struct coordinators *coordinators;
    struct cluster *cluster;
    struct events *events;
    /* A run has ended: rc 0, or the first failure. */
    void (*done_fn)(void *user, const char *key, int rc, const struct err *e, int64_t again_ms);
    void *user;
};

int apply_create(const struct apply_conf *conf, struct apply **out, struct err *e);
void apply_destroy(struct apply *a); /* after kube_destroy, which ends all runs */

/* Takes p and its arena, also on failure; done_fn is called later, or at once when nothing is to do
 * or nothing can be done. */
void apply_start(struct apply *a, const char *key, const struct job *job, struct plan *p);
int apply_running(const struct apply *a);

#endif
