/*
 * tok_steps: the text goes from step to step; each gives back a part of what it was given, or a
 * text of its own. What characters become does not depend on their neighbours, but in the normal
 * forms. A text grows to a bounded multiple only, whatever a file's replacements say.
 */
#include "runtime/text/tok_steps.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_charsmap.h"
#include "runtime/text/tok_normal.h"
#include "runtime/text/tok_split.h"

/* Bytes of a text of len bytes at most. Normal forms make eleven of one; a word or two may be put
   before each. */
#define GROWN_LIMIT(len) ((len) < (1 << 24) ? 64 * (len) + (1 << 16) : (size_t)INT32_MAX)

struct text {
    const char *s;
    size_t len;
    void *owned; /* what s points into, if it is not the caller's */
};

/* The blocks of ideographs that BERT sets apart (tokenization.py of 2018 and all that followed). */
static bool is_han(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
        (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
        (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
        (c >= 0x2f800 && c <= 0x2fa1f);
}

static void clean(uint32_t c, const char *s, size_t n, struct buf *out)
{
    bool kept = c == '\t' || c == '\n' || c == '\r';
    if (!kept && (c == 0xfffd || tok_normal_is_control(c)))
        return;
    if (tok_normal_is_space(c))
        buf_char(out, ' ');
    else
        buf_add(out, s, n);
}

/* As the tokenizers package's Nmt. */
static void clean_nmt(uint32_t c, const char *s, size_t n, struct buf *out)
{
    if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f ||
        c == 0x9f)
        return;
    if (c == '\t' || c == '\n' || c == '\f' || c == '\r' || c == 0x1680 ||
        (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
        c == 0xfffd)
        buf_char(out, ' ');
    else
        buf_add(out, s, n);
}

static void lower(uint32_t c, struct buf *out)
{
    char s[4];
    buf_add(out, s, utf8_encode(tok_normal_lower(c), s));
    if (c == 0x130) /* the one that becomes two: i and the dot */
        buf_str(out, "\u0307");
}

/* What the n bytes at s, one character, become. */
static void map_char(enum tok_step_kind kind, const char *s, size_t n, struct buf *out)
{
    uint32_t c = utf8_decode(s, n);
    switch (kind) {
    case TOK_STEP_CLEAN:
        clean(c, s, n, out);
        break;
    case TOK_STEP_NMT:
        clean_nmt(c, s, n, out);
        break;
    case TOK_STEP_SPACE_HAN:
        buf_str(out, is_han(c) ? " " : "");
        buf_add(out, s, n);
        buf_str(out, is_han(c) ? " " : "");
        break;
    case TOK_STEP_LOWER:
        lower(c, out);
        break;
    case TOK_STEP_STRIP_NONSPACING:
        buf_add(out, s, tok_normal_is_nonspacing(c) ? 0 : n);
        break;
    default: /* TOK_STEP_STRIP_MARKS */
        buf_add(out, s, tok_normal_is_mark(c) ? 0 : n);
    }
}

static void map_text(enum tok_step_kind kind, const struct text *t, struct buf *out)
{
    for (size_t i = 0, n; i < t->len; i += n) {
        n = utf8_sequence(t->s + i, t->len - i);
        map_char(kind, t->s + i, n, out);
    }
}

static void replace(const struct tok_step *step, const struct text *t, struct buf *out)
{
    const char *s = t->s, *end = s + t->len, *at;
    while ((at = memmem(s, (size_t)(end - s), step->from.s, step->from.len))) {
        buf_add(out, s, (size_t)(at - s));
        buf_add(out, step->to.s, step->to.len);
        s = at + step->from.len;
    }
    buf_add(out, s, (size_t)(end - s));
}

/* Bytes of the grapheme cluster (UAX #29) that text begins with. */
static size_t cluster(const char *text, size_t len)
{
    size_t at = utf8_sequence(text, len);
    uint32_t before = utf8_decode(text, at);
    int32_t state = 0;
    for (size_t n; at < len; at += n) {
        n = utf8_sequence(text + at, len - at);
        uint32_t c = utf8_decode(text + at, n);
        if (tok_normal_breaks(before, c, &state))
            break;
        before = c;
    }
    return at;
}

#define CLUSTER_LIMIT 6 /* bytes; a longer one becomes what its characters become */

static bool add_mapped(const struct tok_charsmap *map, const char *s, size_t n, struct buf *out)
{
    struct tok_text to;
    if (!tok_charsmap_find(map, s, n, &to))
        return false;
    buf_add(out, to.s, to.len);
    return true;
}

/* As the tokenizers package's Precompiled: a short cluster becomes what the shortest key does that
   it begins with, and what stands behind that in the cluster is lost. */
static int map_clusters(
    const struct tok_step *step, const struct text *t, struct buf *out, struct err *e)
{
    struct tok_charsmap map;
    if (!tok_charsmap_init(&map, step->from))
        return err_set(e, ERR_DATA, "precompiled_charsmap is no such table");
    for (size_t i = 0, end; i < t->len; i = end) {
        end = i + cluster(t->s + i, t->len - i);
        if (end - i < CLUSTER_LIMIT && add_mapped(&map, t->s + i, end - i, out))
            continue;
        for (size_t n; i < end; i += n) {
            n = utf8_sequence(t->s + i, end - i);
            if (!add_mapped(&map, t->s + i, n, out))
                buf_add(out, t->s + i, n);
        }
    }
    return 0;
}

/* As SentencePiece's normaliser: what the longest key becomes that stands there. */
static int map_longest(
    const struct tok_step *step, const struct text *t, struct buf *out, struct err *e)
{
    struct tok_charsmap map;
    struct tok_text to;
    if (!tok_charsmap_init(&map, step->from))
        return err_set(e, ERR_DATA, "precompiled_charsmap is no such table");
    for (size_t i = 0, n; i < t->len; i += n) {
        n = tok_charsmap_longest(&map, t->s + i, t->len - i, &to);
        if (n) {
            buf_add(out, to.s, to.len);
            continue;
        }
        n = utf8_sequence(t->s + i, t->len - i);
        buf_add(out, t->s + i, n);
    }
    return 0;
}

static void join_spaces(const struct text *t, struct buf *out)
{
    for (size_t i = 0; i < t->len;) {
        while (i < t->len && t->s[i] == ' ')
            i++;
        size_t word = i;
        while (i < t->len && t->s[i] != ' ')
            i++;
        if (out->len && word < t->len)
            buf_char(out, ' ');
        buf_add(out, t->s + word, i - word);
    }
}

static void trim_left(struct text *t)
{
    for (size_t n; t->len; t->s += n, t->len -= n) {
        n = utf8_sequence(t->s, t->len);
        if (!tok_normal_is_space(utf8_decode(t->s, n)))
            return;
    }
}

static void trim_right(struct text *t)
{
    for (size_t n; t->len; t->len -= n) {
        for (n = 1; n < t->len && ((unsigned char)t->s[t->len - n] & 0xc0) == 0x80;)
            n++;
        if (!tok_normal_is_space(utf8_decode(t->s + t->len - n, n)))
            return;
    }
}

/* The step makes *t another text; what it had is freed. */
static int replace_text(struct text *t, struct text made)
{
    mem_free(t->owned);
    *t = made;
    return 0;
}

static int run_normal_form(enum tok_normal_form form, struct text *t, struct err *e)
{
    struct text made;
    int rc = tok_normal_to(form, t->s, t->len, &made.s, &made.len, &made.owned, e);
    return rc || !made.owned ? rc : replace_text(t, made);
}

static int run_step(const struct tok_step *step, struct text *t, size_t limit, struct err *e)
{
    buf_auto struct buf out;
    int rc = 0;
    buf_init(&out, limit);
    switch (step->kind) {
    case TOK_STEP_NFC:
        return run_normal_form(TOK_NORMAL_NFC, t, e);
    case TOK_STEP_NFD:
        return run_normal_form(TOK_NORMAL_NFD, t, e);
    case TOK_STEP_NFKC:
        return run_normal_form(TOK_NORMAL_NFKC, t, e);
    case TOK_STEP_NFKD:
        return run_normal_form(TOK_NORMAL_NFKD, t, e);
    case TOK_STEP_TRIM_LEFT:
        trim_left(t);
        return 0;
    case TOK_STEP_TRIM_RIGHT:
        trim_right(t);
        return 0;
    case TOK_STEP_PREPEND:
        buf_add(&out, step->to.s, step->to.len);
        buf_add(&out, t->s, t->len);
        break;
    case TOK_STEP_REPLACE:
        replace(step, t, &out);
        break;
    case TOK_STEP_CHARSMAP:
        rc = map_clusters(step, t, &out, e);
        break;
    case TOK_STEP_LONGEST:
        rc = map_longest(step, t, &out, e);
        break;
    case TOK_STEP_SPACES:
        join_spaces(t, &out);
        break;
    case TOK_STEP_MATCHES:
        rc = tok_split_replace(step->by, t->s, t->len, step->to, &out, e);
        break;
    default:
        map_text(step->kind, t, &out);
    }
    if (rc)
        return rc;
    size_t len = out.len;
    char *s = buf_take(&out);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory to normalise %zu bytes", t->len);
    return replace_text(t, (struct text){s, len, s});
}

int tok_steps_run(const struct tok_steps *steps, const char *text, size_t len, const char **out,
    size_t *out_len, void **owned, struct err *e)
{
    struct text t = {text, len, NULL};
    for (int i = 0; i < steps->count && t.len; i++) {
        int rc = run_step(&steps->list[i], &t, GROWN_LIMIT(len), e);
        if (rc) {
            mem_free(t.owned);
            return rc;
        }
    }
    *out = t.s;
    *out_len = t.len;
    *owned = t.owned;
    return 0;
}
