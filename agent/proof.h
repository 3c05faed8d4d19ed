/*
 * proof: the handshake of a mesh link: both ends prove that they know the job's token, without
 * telling it, before anything else that they say is used. An address proves nothing: another pod
 * may have it by now.
 *
 *   coordinator -> member   call       {term, uid, nonce}      its term, its pod, 16 random bytes
 *   member -> coordinator   challenge  {nonce, mac}
 *   coordinator -> member   proof      {mac}
 *
 * A mac is an HMAC-SHA-256 with the token (base/secret) over the side that speaks, the job's UID,
 * the coordinator's pod, the member's pod, the term and both nonces; so none of it can be used for
 * another job, pod or term, at another time, or by the other side. The coordinator knows which pod
 * it wants, the member which it is. Pure but for the random bytes: texts in, texts out.
 */
#ifndef AGENT_PROOF_H
#define AGENT_PROOF_H

#include "base/buf.h"
#include "base/err.h"
#include "api/limits.h"
#include "base/secret.h"

#include <stdint.h>

#define PROOF_BYTES 1024 /* of a message; a socket takes no longer one before the proof */
#define PROOF_MS    5000 /* for all of it */

struct proof_identity { /* what both ends of a job know; borrowed */
    const char *token, *job_uid;
};

struct proof {
    struct proof_identity of;
    char coordinator[LIMIT_NAME_BYTES], member[LIMIT_NAME_BYTES]; /* pods */
    int64_t term;
    char nonces[2][2 * SECRET_NONCE_BYTES + 1]; /* the coordinator's, the member's */
};

/* The coordinator's side: the call to a pod, then the answer to its challenge. */
int proof_call(struct proof *p, const struct proof_identity *of, const char *coordinator,
    const char *member, int64_t term, struct buf *out, struct err *e);
int proof_answer(
    struct proof *p, const char *challenge, size_t len, struct buf *out, struct err *e);

/* The member's side: the challenge for a call, then whether the proof holds. */
int proof_challenge(struct proof *p, const struct proof_identity *of, const char *member,
    const char *call, size_t len, struct buf *out, struct err *e);
int proof_check(const struct proof *p, const char *proof, size_t len, struct err *e);

#endif
