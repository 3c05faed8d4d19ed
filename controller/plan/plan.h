/*
 * plan: the one decision of the controller, as a pure function.
 *
 * plan_llmjob sees one snapshot and returns the actions that bring the cluster nearer to the
 * LLMJob, the next status among them. The same snapshot gives the same plan, byte for byte; a
 * converged snapshot gives an empty one. The actions stand in the order in which apply carries them
 * out, stage by stage. No handle, clock, randomness or environment reaches any plan_*.c.
 */
#ifndef CONTROLLER_PLAN_PLAN_H
#define CONTROLLER_PLAN_PLAN_H

#include "api/search.h"
#include "base/err.h"
#include "base/mem.h"
#include "controller/plan/observed.h"
#include "controller/plan/status.h"

#include <stdbool.h>
#include <stdint.h>

enum action_kind {       /* in the order of the stages */
    ACTION_SECRET,       /* make sure of the Secret with the present job file; learn its token */
    ACTION_SERVICE,      /* create; body */
    ACTION_GANG,         /* create the PodGroup; body */
    ACTION_GANG_RESIZE,  /* merge-patch it; body */
    ACTION_DELETE_POD,   /* name, uid; force: at once */
    ACTION_CREATE_POD,   /* name, body */
    ACTION_DELETE_TRIAL, /* name, uid: a job that this one owns */
    ACTION_CREATE_TRIAL, /* name, body */
    ACTION_DESIRED,      /* PUT to the agent that coordinates; name, replica, body, hash */
    ACTION_STATUS,       /* JSON patch of the status; body */
    ACTION_DELETE_JOB,   /* uid: its time to live is over */
    ACTION_EVENT,        /* reason, message, warning */
    ACTION_KINDS
};

struct action {
    enum action_kind kind;
    const char *name, *uid, *body;
    int replica; /* 0: that of the job; else of a pod that coordinates itself */
    uint64_t hash;
    bool force, warning;
    const char *reason, *message;
};

#define PLAN_ACTIONS 512 /* a pass; the rest comes in the next */
#define PLAN_PODS    100 /* pods created or deleted in a pass */

#define PLAN_UNREACHABLE_MS 10000 /* silence of a coordinator that is worth telling */
#define PLAN_GIVE_UP_MS     60000 /* silence after which nothing waits for it any more */

struct plan {
    struct arena *arena; /* the caller's; holds all that the actions point at */
    struct action actions[PLAN_ACTIONS];
    int count;
    int64_t again_ms; /* look again after so long, though nothing should change; -1: no need */
};

struct serving { /* how it stands with the pods of a replicated job (plan_serving.c) */
    uint64_t revision;
    int live, ready;
    int updated;                       /* ready, of this revision, and one of 0..replicas-1 */
    bool stale;                        /* some of these is of another revision */
    const struct observed_pod *failed; /* the first of this revision whose agent gave up, or NULL */
    int failed_count;
};

/* What becomes of the job, decided before any action. */
enum outcome { OUTCOME_NONE, OUTCOME_COMPLETE, OUTCOME_FAILED };
struct outlook {
    bool finished;        /* status says so already: nothing is started any more */
    enum outcome outcome; /* to be recorded now */
    const char *reason, *message;
    bool suspend;                  /* the spec wants no pods */
    bool suspended;                /* and their release is due or done */
    const struct search *search;   /* what its trials have come to, of a search; else NULL */
    const struct serving *serving; /* of a replicated job, else NULL */
};

/* p->arena must be set, the rest zero. */
int plan_llmjob(const struct observed *o, struct plan *p, struct err *e);

/* -- policies: each looks at one thing and adds its actions -- */

int plan_outlook(const struct observed *o, struct plan *p, struct outlook *look, struct err *e);
/* Looks at the trials, and says in *look what they have come to. */
int plan_search_outlook(
    const struct observed *o, struct plan *p, struct outlook *look, struct err *e);
int plan_search(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
int plan_search_status(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *next, struct err *e);
int plan_replicas(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
int plan_serving_look(const struct observed *o, struct serving *out, struct err *e);
int plan_serving(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
int plan_gang(const struct observed *o, struct plan *p, struct err *e);
int plan_suspend(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
int plan_release(const struct observed *o, struct plan *p, struct err *e);
int plan_desired(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
/* The term of the agent that replica 0 has now, once status holds it; 0: none yet. */
int64_t plan_term(const struct observed *o);
void plan_term_next(const struct observed *o, struct status *next);
/* Fills state and conditions of the next status, whose counts and verdict are there. */
int plan_conditions(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *next, struct err *e);
/* What status should say now; strings live in the arena or in what is observed. */
int plan_status_next(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *out, struct err *e);
int plan_status(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e);
int plan_events(const struct observed *o, const struct status *next, struct plan *p, struct err *e);

/* -- what they share -- */

struct action *plan_add(struct plan *p, enum action_kind kind, struct err *e); /* NULL: no room */
int plan_event(struct plan *p, bool warning, const char *reason, struct err *e, const char *fmt,
    ...) __attribute__((format(printf, 5, 6)));
int plan_delete_pod(struct plan *p, const struct observed_pod *pod, struct err *e);
/* Deletes a pod that is to be made anew; */
typedef int plan_replace_fn(
    const struct outlook *look, const struct observed_pod *pod, struct plan *p, struct err *e);
/* of these, one that has ended, or is ending on a lost node. */
plan_replace_fn plan_replace_ended;
/* Creates the pods of replicas from 0 on that are missing, as far as the pass has room, and after a
   wait when others have failed; replace_fn looks at those that are there. */
int plan_fill_places(const struct observed *o, const struct outlook *look, int places,
    plan_replace_fn *replace_fn, struct plan *p, struct err *e);
void plan_again(struct plan *p, int64_t delay_ms);
int plan_count(const struct plan *p, enum action_kind kind);
bool plan_pod_ended(const struct pod *p); /* Succeeded or Failed: it does not run again */
bool plan_pod_answers(const struct observed_pod *p); /* it is ready, and was not asked to go */

#endif
