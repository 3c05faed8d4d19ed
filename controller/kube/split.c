/*
 * split: one pass over the bytes with a depth, a string flag and the root's present key. Bytes of a
 * piece are copied in runs. Malformed text either unbalances the depth, which is refused here, or
 * reaches the parser of the pieces, which refuses it there. Never looks inside a piece.
 */
#include "controller/kube/split.h"

void split_init(struct split *s, enum split_mode mode, size_t piece_limit, split_fn *fn, void *user)
{
    *s = (struct split){.mode = mode, .fn = fn, .user = user, .start = -1};
    buf_init(&s->piece, piece_limit);
}

void split_done(struct split *s)
{
    buf_done(&s->piece);
}

bool split_at_end(const struct split *s)
{
    return s->depth == 0 && !s->in_string;
}

/* Whether a bracket that opens at this depth begins a piece. */
static bool begins_piece(struct split *s, char c)
{
    if (s->start >= 0)
        return false;
    if (s->mode == SPLIT_WATCH) {
        s->kind = SPLIT_ITEM;
        return s->depth == 0 && c == '{';
    }
    if (s->depth == 1 && c == '{' && !strcmp(s->key, "metadata")) {
        s->kind = SPLIT_METADATA;
        return true;
    }
    if (s->depth == 1 && c == '[' && !strcmp(s->key, "items"))
        s->in_items = true;
    s->kind = SPLIT_ITEM;
    return s->depth == 2 && s->in_items && c == '{';
}

static int close_bracket(struct split *s, bool *whole, struct err *e)
{
    if (--s->depth < 0)
        return err_set(e, ERR_DATA, "the API server sent unbalanced JSON");
    *whole = s->start == s->depth;
    if (s->depth == 1)
        s->in_items = false;
    return 0;
}

/* Inside a string: remembers it when it may be a key of the root. */
static void string_byte(struct split *s, char c)
{
    if (s->escaped) {
        s->escaped = false;
    } else if (c == '\\') {
        s->escaped = true;
    } else if (c == '"') {
        s->in_string = false;
        s->key_next = false;
        return;
    }
    if (s->depth == 1 && s->key_next && s->key_len + 1 < sizeof s->key) {
        s->key[s->key_len++] = c;
        s->key[s->key_len] = 0;
    }
}

static void open_string(struct split *s)
{
    s->in_string = true;
    if (s->depth == 1 && s->key_next) {
        s->key_len = 0;
        s->key[0] = 0;
    }
}

static int flush(struct split *s, const char *from, const char *to, struct err *e)
{
    if (s->start < 0)
        return 0;
    size_t n = (size_t)(to - from), room = s->piece.limit - s->piece.len;
    if (n > room) {
        n = room;
        s->kind = SPLIT_HEAD;
    }
    return buf_add(&s->piece, from, n) ? err_set(e, ERR_MEMORY, "no memory for an object") : 0;
}

int split_feed(struct split *s, const char *data, size_t len, struct err *e)
{
    const char *from = data, *end = data + len;
    int rc;
    for (const char *p = data; p < end; p++) {
        bool whole = false;
        if (s->in_string) {
            /* Most of what comes; but for the root's keys only its end counts. */
            if (!s->escaped && s->depth != 1)
                while (*p != '"' && *p != '\\' && p + 1 < end)
                    p++;
            string_byte(s, *p);
            continue;
        }
        switch (*p) {
        case '"':
            open_string(s);
            break;
        case ',':
            s->key_next |= s->depth == 1;
            break;
        case '{':
        case '[':
            if (begins_piece(s, *p)) {
                s->start = s->depth;
                from = p;
            }
            s->depth++;
            s->key_next = s->depth == 1;
            break;
        case '}':
        case ']':
            if ((rc = close_bracket(s, &whole, e)))
                return rc;
            break;
        default:
            break;
        }
        if (!whole)
            continue;
        if ((rc = flush(s, from, p + 1, e)))
            return rc;
        s->start = -1;
        rc = s->fn(s->user, s->kind, s->piece.data, s->piece.len);
        buf_reset(&s->piece);
        if (rc)
            return rc;
    }
    return flush(s, from, end, e);
}
