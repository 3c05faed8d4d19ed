/*
 * split: cuts what the API server streams into single objects, as the bytes arrive, so that no list
 * is ever held or parsed whole. It follows brackets and strings only; each piece goes to a real
 * parser afterwards.
 *
 *   SPLIT_WATCH  a sequence of objects            -> SPLIT_ITEM each
 *   SPLIT_LIST   {"metadata":{..},"items":[..]}   -> SPLIT_METADATA once, SPLIT_ITEM each
 *
 * Of a piece longer than the limit only the head is handed on, as SPLIT_HEAD: one object too many
 * must not end the stream for all others.
 */
#ifndef CONTROLLER_KUBE_SPLIT_H
#define CONTROLLER_KUBE_SPLIT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum split_mode { SPLIT_WATCH, SPLIT_LIST };
enum split_piece { SPLIT_ITEM, SPLIT_METADATA, SPLIT_HEAD };

/* text is valid, and the receiver's to change, during the call. Non-zero ends split_feed, which
 * returns it. */
typedef int split_fn(void *user, enum split_piece kind, char *text, size_t len);

struct split {
    enum split_mode mode;
    split_fn *fn;
    void *user;
    struct buf piece;
    int depth; /* open brackets */
    int start; /* depth at which the present piece began; -1: none */
    bool in_string, escaped, in_items, key_next;
    enum split_piece kind;
    char key[16]; /* of the root's member at hand, cut */
    size_t key_len;
};

void split_init(
    struct split *s, enum split_mode mode, size_t piece_limit, split_fn *fn, void *user);
void split_done(struct split *s);
/* 0, -ERR_DATA: no such JSON; -ERR_MEMORY; or what fn returned. */
int split_feed(struct split *s, const char *data, size_t len, struct err *e);
bool split_at_end(const struct split *s); /* nothing half-read */

#endif
