/*
 * team: the ranks that serve one model together, each a share of it (runtime/model/group.h). Rank 0
 * has the requests and decides; before each pass it tells the others in one bounded message what
 * the pass is: whose tokens, in which pages, and how the next ones are drawn. All then run it over
 * their shares. Nothing else is agreed on: who follows has no requests, no pages to keep and no
 * sequences, so nothing of that can differ. While nothing is to be run rank 0 says so, once a
 * second at least, so that the wait for it has the deadline of any collective.
 *
 * Ranks that have whole models each, members of an ensemble (ensemble.h), are such a team, too.
 *
 * A team of one rank is NULL, for which all of this does nothing.
 */
#ifndef RUNTIME_SERVE_TEAM_H
#define RUNTIME_SERVE_TEAM_H

#include "base/err.h"
#include "runtime/door/orders.h"
#include "runtime/model/engine.h"
#include "runtime/model/group.h"

struct ensemble;
struct team;

/* All ranks of the world call; world: borrowed, NULL: a rank alone, and *out is NULL. ERR_USER: the
   layout, or spec.serve.ensemble, has not as many ranks as there are. */
int team_open(struct coll *world, const struct orders *o, struct team **out, struct err *e);
void team_close(struct team *t);
/* Has this rank the requests? */
bool team_leads(const struct team *t);
/* c's configuration, of a whole model, becomes this rank's share. ERR_USER as of group_share. */
int team_share(struct team *t, struct model_conf *c, struct err *e);
/* memplan_require; its refusal says, too, with which parallelism c, the whole model of w, would
   fit. */
int team_require(const struct memplan *p, int64_t budget_bytes, const struct model_conf *c,
    const struct weights *w, struct err *e);
/* All read the same model and have loaded it; *pages, of a cache, becomes the least of all ranks'.
   parts: of a pass, at most ENGINE_ROWS; tokens: of a sequence. Behind team_share. */
int team_agree(
    struct team *t, uint64_t digest, int64_t parts, int64_t tokens, int64_t *pages, struct err *e);

/* All have read the same of what the digest is of. */
int team_compare(struct team *t, uint64_t digest, struct err *e);

/* Rank 0's. The others run the same parts now, as it does: engine_run is the next of both. */
int team_tell(struct team *t, const struct engine_part *parts, int n, struct err *e);
int team_rest(struct team *t, struct err *e); /* nothing is to be run now */
int team_end(struct team *t, struct err *e);  /* nor will be */
/* The others': runs what it is told over s, or over g where that is NULL, until the end:
   -ERR_DRAINED. page: told of the phase; or NULL. */
int team_follow(
    struct team *t, struct engine *g, struct ensemble *s, struct wire_page *page, struct err *e);

#endif
