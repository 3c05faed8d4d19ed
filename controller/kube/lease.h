/*
 * lease: leader election by a coordination.k8s.io Lease, as client-go does it: whoever holds it
 * renews it; a stranger's lease counts from when this process last saw it change, so no clocks are
 * compared; every write carries the resourceVersion it was decided on. A leader that cannot renew
 * in time has lost and must exit.
 */
#ifndef CONTROLLER_KUBE_LEASE_H
#define CONTROLLER_KUBE_LEASE_H

#include "base/err.h"
#include "controller/kube/kube.h"

#include <stdbool.h>
#include <stdint.h>

struct lease;

enum lease_state { LEASE_WAITING, LEASE_HELD, LEASE_LOST };

int lease_create(struct kube *k, const char *namespace_, const char *name, const char *identity,
    struct lease **out, struct err *e);
void lease_destroy(struct lease *l); /* after kube_destroy */
int64_t lease_turn(struct lease *l); /* starts what is due; clock_ms of the next thing, or -1 */
enum lease_state lease_state(const struct lease *l);
/* Gives the lease up, so that another need not wait; lease_idle then says when that is answered. */
void lease_release(struct lease *l);
bool lease_idle(const struct lease *l);

#endif
