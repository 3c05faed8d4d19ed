/*
 * vouch: how a replica has another answer a request: within that request, before its body is sent,
 * both prove that they know the job's token, and neither the client's key nor the token goes along.
 *
 *   asking -> asked    AHEAD ADDRESS NONCE MAC   NAME_HEADER_FORWARDED, with Expect: 100-continue
 *   asked  -> asking   NONCE MAC                 NAME_HEADER_PROOF, with 100 Continue
 *   asking -> asked    MAC, and the body
 *
 * A mac is an HMAC-SHA-256 with the token (base/secret) over the side that speaks, the job's UID,
 * the asked pod's, the client's key, the first line and the asked pod's nonce. So what was heard
 * once opens nothing again, and who asked vouches for a key that the asked pod has, too, without
 * telling it. ADDRESS is where the asking pod means to be: the asked pod answers only for one that
 * it was reached at, so a stranger there that asks the pod itself on learns nothing either. Between
 * them no address may be translated. Pure but for the random bytes: texts in, texts out.
 */
#ifndef AGENT_VOUCH_H
#define AGENT_VOUCH_H

#include "agent/keys.h"
#include "agent/proof.h"
#include "api/limits.h"
#include "base/err.h"
#include "base/net.h"
#include "base/secret.h"

#include <stdbool.h>

#define VOUCH_NONCE_BYTES (2 * SECRET_NONCE_BYTES + 1)
#define VOUCH_MAC_BYTES   (2 * SECRET_MAC_BYTES) /* before the body */
#define VOUCH_HEAD_BYTES  (LIMIT_ADDRESS_BYTES + VOUCH_NONCE_BYTES + 16)
#define VOUCH_LINE_BYTES  (VOUCH_HEAD_BYTES + VOUCH_MAC_BYTES + 1)

struct vouch {
    struct proof_identity of;
    const char *uid;               /* of the pod that is asked, borrowed */
    const char *key;               /* the client's, borrowed; "": nobody needs one */
    char head[VOUCH_HEAD_BYTES];   /* the first line but for its mac */
    char nonce[VOUCH_NONCE_BYTES]; /* the asked pod's */
};

/* Who asks; of, uid and key are set. ahead: answers that wait here. The value of the first line. */
int vouch_ask(
    struct vouch *v, const char *address, int ahead, char line[VOUCH_LINE_BYTES], struct err *e);
/* Whether value is the asked pod's; and what goes before the body then. */
bool vouch_heard(struct vouch *v, const char *value);
int vouch_seal(const struct vouch *v, char mac[VOUCH_MAC_BYTES + 1], struct err *e);

/* Who is asked; of and uid are set. The key that value vouches for, -1: none of keys; without any
 * 0. at: where the asking pod means to be. */
int vouch_read(struct vouch *v, const struct api_keys *keys, const char *value,
    struct net_address *at, int *ahead);
/* Of a value that was read before, and of the key that it vouched for: v as it was then. */
bool vouch_again(struct vouch *v, const struct api_keys *keys, const char *value, int key);
/* nonce is set. The value of the answer; and whether this is before the body. */
int vouch_answer(const struct vouch *v, char line[VOUCH_LINE_BYTES], struct err *e);
bool vouch_sealed(const struct vouch *v, const char *body, size_t len);

#endif
