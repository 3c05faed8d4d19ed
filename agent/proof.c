/*
 * proof: what a stranger may send is parsed within a handful of values, and every
 * string's length is checked before use.
 */
#include "agent/proof.h"

#include "base/io.h"
#include "base/json.h"

#include <string.h>

#define VALUES   8                /* of a message's JSON */
#define TERM_MAX 9007199254740991 /* the greatest integer that JSON carries exactly */
#define HEX      (2 * SECRET_NONCE_BYTES)

enum proof_side { COORDINATOR, MEMBER };

static int mac_of(
    const struct proof *p, enum proof_side side, char out[2 * SECRET_MAC_BYTES + 1], struct err *e)
{
    char term[24];
    uint8_t mac[SECRET_MAC_BYTES];
    snprintf(term, sizeof term, "%lld", (long long)p->term);
    const struct secret_part parts[] = {
        SECRET_TEXT("llmjob mesh"),
        SECRET_TEXT(side == COORDINATOR ? "coordinator" : "member"),
        SECRET_TEXT(p->of.job_uid),
        SECRET_TEXT(p->coordinator),
        SECRET_TEXT(p->member),
        SECRET_TEXT(term),
        SECRET_TEXT(p->nonces[COORDINATOR]),
        SECRET_TEXT(p->nonces[MEMBER]),
    };
    int rc = secret_mac(p->of.token, parts, sizeof parts / sizeof *parts, mac, e);
    if (rc)
        return rc;
    io_hex(mac, sizeof mac, out);
    return 0;
}

static int check_mac(const struct proof *p, enum proof_side side, const char *mac, struct err *e)
{
    char want[2 * SECRET_MAC_BYTES + 1];
    int rc = mac_of(p, side, want, e);
    if (rc)
        return rc;
    if (strlen(mac) != sizeof want - 1 || !secret_same(mac, want, sizeof want - 1))
        return err_set(e, ERR_PEER, "no proof of being %s %s of this job in term %lld",
            side == MEMBER ? "pod" : "the coordinator", side == MEMBER ? p->member : p->coordinator,
            (long long)p->term);
    return 0;
}

static int make_nonce(char out[HEX + 1], struct err *e)
{
    uint8_t raw[SECRET_NONCE_BYTES];
    int rc = io_random(raw, sizeof raw, e);
    if (rc)
        return rc;
    io_hex(raw, sizeof raw, out);
    return 0;
}

static int take_text(const struct json *v, const char *key, char *out, size_t size, struct err *e)
{
    const char *s = json_str(v, key, "");
    size_t n = strlen(s);
    if (!n || n >= size)
        return err_set(e, ERR_DATA, "mesh: %s is missing or too long", key);
    memcpy(out, s, n + 1);
    return 0;
}

static int parse(const char *text, size_t len, const char *type, struct json **out, struct err *e)
{
    struct json *v = NULL;
    int rc = json_parse_within(text, len, VALUES, &v, e);
    if (rc)
        return rc;
    if (strcmp(json_str(v, "t", ""), type) != 0) {
        json_destroy(v);
        return err_set(e, ERR_DATA, "mesh: a %s was expected", type);
    }
    *out = v;
    return 0;
}

static int finish(struct jsonw *w, struct err *e)
{
    jsonw_close(w);
    return jsonw_end(w) ? err_set(e, ERR_MEMORY, "out of memory for a message") : 0;
}

static void begin(struct jsonw *w, const char *type, struct buf *out)
{
    jsonw_init(w, out);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "t", type);
}

int proof_call(struct proof *p, const struct proof_identity *of, const char *coordinator,
    const char *member, int64_t term, struct buf *out, struct err *e)
{
    struct jsonw w;
    *p = (struct proof){.of = *of, .term = term};
    snprintf(p->coordinator, sizeof p->coordinator, "%s", coordinator);
    snprintf(p->member, sizeof p->member, "%s", member);
    int rc = make_nonce(p->nonces[COORDINATOR], e);
    if (rc)
        return rc;
    begin(&w, "call", out);
    jsonw_int(&w, "term", term);
    jsonw_str(&w, "uid", p->coordinator);
    jsonw_str(&w, "nonce", p->nonces[COORDINATOR]);
    return finish(&w, e);
}

int proof_challenge(struct proof *p, const struct proof_identity *of, const char *member,
    const char *call, size_t len, struct buf *out, struct err *e)
{
    json_auto struct json *v = NULL;
    char mac[2 * SECRET_MAC_BYTES + 1];
    struct jsonw w;
    *p = (struct proof){.of = *of};
    snprintf(p->member, sizeof p->member, "%s", member);
    int rc = parse(call, len, "call", &v, e);
    if (rc)
        return rc;
    p->term = json_int(v, "term", 0);
    if (p->term < 1 || p->term > TERM_MAX)
        return err_set(e, ERR_DATA, "mesh: term is out of range");
    if ((rc = take_text(v, "uid", p->coordinator, sizeof p->coordinator, e)) ||
        (rc = take_text(v, "nonce", p->nonces[COORDINATOR], sizeof *p->nonces, e)) ||
        (rc = make_nonce(p->nonces[MEMBER], e)) || (rc = mac_of(p, MEMBER, mac, e)))
        return rc;
    begin(&w, "challenge", out);
    jsonw_str(&w, "nonce", p->nonces[MEMBER]);
    jsonw_str(&w, "mac", mac);
    return finish(&w, e);
}

int proof_answer(struct proof *p, const char *challenge, size_t len, struct buf *out, struct err *e)
{
    json_auto struct json *v = NULL;
    char mac[2 * SECRET_MAC_BYTES + 1];
    struct jsonw w;
    int rc = parse(challenge, len, "challenge", &v, e);
    if (rc)
        return rc;
    if ((rc = take_text(v, "nonce", p->nonces[MEMBER], sizeof *p->nonces, e)) ||
        (rc = check_mac(p, MEMBER, json_str(v, "mac", ""), e)) ||
        (rc = mac_of(p, COORDINATOR, mac, e)))
        return rc;
    begin(&w, "proof", out);
    jsonw_str(&w, "mac", mac);
    return finish(&w, e);
}

int proof_check(const struct proof *p, const char *proof, size_t len, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = parse(proof, len, "proof", &v, e);
    return rc ? rc : check_mac(p, COORDINATOR, json_str(v, "mac", ""), e);
}
