/*
 * vouch: which of its keys the other means the asked pod finds by trying them. What a line says is
 * read once its mac holds.
 */
#include "agent/vouch.h"

#include "base/io.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int mac_of(
    const struct vouch *v, const char *side, char out[VOUCH_MAC_BYTES + 1], struct err *e)
{
    uint8_t mac[SECRET_MAC_BYTES];
    const struct secret_part parts[] = {
        SECRET_TEXT("llmjob forward"),
        SECRET_TEXT(side),
        SECRET_TEXT(v->of.job_uid),
        SECRET_TEXT(v->uid),
        SECRET_TEXT(v->key),
        SECRET_TEXT(v->head),
        SECRET_TEXT(v->nonce),
    };
    int rc = secret_mac(v->of.token, parts, sizeof parts / sizeof *parts, mac, e);
    if (!rc)
        io_hex(mac, sizeof mac, out);
    return rc;
}

/* mac: VOUCH_MAC_BYTES */
static bool holds(const struct vouch *v, const char *side, const char *mac)
{
    char want[VOUCH_MAC_BYTES + 1];
    return !mac_of(v, side, want, NULL) && secret_same(mac, want, VOUCH_MAC_BYTES);
}

/* The texts before and behind the last space; false: not of those lengths. */
static bool split(const char *value, char *head, size_t size, const char **mac)
{
    const char *space = strrchr(value, ' ');
    size_t n = space ? (size_t)(space - value) : size;
    if (n >= size || strlen(space + 1) != VOUCH_MAC_BYTES)
        return false;
    memcpy(head, value, n);
    head[n] = 0;
    *mac = space + 1;
    return true;
}

static int join(const struct vouch *v, const char *head, const char *side,
    char line[VOUCH_LINE_BYTES], struct err *e)
{
    char mac[VOUCH_MAC_BYTES + 1];
    int rc = mac_of(v, side, mac, e);
    if (!rc)
        snprintf(line, VOUCH_LINE_BYTES, "%s %s", head, mac);
    return rc;
}

int vouch_ask(
    struct vouch *v, const char *address, int ahead, char line[VOUCH_LINE_BYTES], struct err *e)
{
    uint8_t raw[SECRET_NONCE_BYTES];
    char nonce[VOUCH_NONCE_BYTES];
    int rc = io_random(raw, sizeof raw, e);
    if (rc)
        return rc;
    io_hex(raw, sizeof raw, nonce);
    v->nonce[0] = 0;
    if (snprintf(v->head, sizeof v->head, "%d %s %s", ahead, address, nonce) >= (int)sizeof v->head)
        return err_set(e, ERR_USER, "an address of %zu bytes", strlen(address));
    return join(v, v->head, "asks", line, e);
}

bool vouch_heard(struct vouch *v, const char *value)
{
    const char *mac;
    return split(value, v->nonce, sizeof v->nonce, &mac) && holds(v, "answers", mac);
}

int vouch_seal(const struct vouch *v, char mac[VOUCH_MAC_BYTES + 1], struct err *e)
{
    return mac_of(v, "sends", mac, e);
}

/* A head's count and address. */
static bool take_told(const char *head, struct net_address *at, int *ahead)
{
    char address[LIMIT_ADDRESS_BYTES], *rest;
    long n = strtol(head, &rest, 10);
    size_t len = *rest == ' ' ? strcspn(++rest, " ") : sizeof address;
    if (n < 0 || n > INT_MAX || len >= sizeof address)
        return false;
    memcpy(address, rest, len);
    address[len] = 0;
    *ahead = (int)n;
    return net_parse(address, at);
}

static const char *text_of(const struct api_keys *keys, int key)
{
    return keys->count ? keys->key[key].text : "";
}

int vouch_read(struct vouch *v, const struct api_keys *keys, const char *value,
    struct net_address *at, int *ahead)
{
    const char *mac;
    int count = keys->count ? keys->count : 1, found = -1;
    v->nonce[0] = 0;
    if (!split(value, v->head, sizeof v->head, &mac))
        return -1;
    for (int i = 0; i < count && found < 0; i++) {
        v->key = text_of(keys, i);
        found = holds(v, "asks", mac) ? i : -1;
    }
    return found >= 0 && take_told(v->head, at, ahead) ? found : -1;
}

bool vouch_again(struct vouch *v, const struct api_keys *keys, const char *value, int key)
{
    const char *mac;
    v->nonce[0] = 0;
    v->key = text_of(keys, key);
    return split(value, v->head, sizeof v->head, &mac);
}

int vouch_answer(const struct vouch *v, char line[VOUCH_LINE_BYTES], struct err *e)
{
    return join(v, v->nonce, "answers", line, e);
}

bool vouch_sealed(const struct vouch *v, const char *body, size_t len)
{
    return len >= VOUCH_MAC_BYTES && holds(v, "sends", body);
}
