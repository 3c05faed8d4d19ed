/*
 * tok_split: compiles each stage once (UTF, UCP, JIT) and walks the stages depth first, so no list
 * of pieces is ever held. A piece is its own subject: look-ahead does not see beyond it, as in the
 * reference. Every run has its own match data, allocated through base/mem.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/tok_split.h"

#include "base/mem.h"

#include <pcre2.h>
#include <stdbool.h>

#define PATTERN_LIMIT 16384

/* Unicode's White_Space, as the inside of a class. */
static const char white_space[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                                  "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

struct tok_split {
    pcre2_general_context *general;
    pcre2_code *stages[TOK_SPLIT_STAGES];
    enum tok_split_drop drops[TOK_SPLIT_STAGES];
    int count;
};

struct run {
    const struct tok_split *split;
    pcre2_match_data *match[TOK_SPLIT_STAGES];
    int (*piece_fn)(void *, const char *, size_t, struct err *);
    void *context;
};

static void *allocate(size_t size, void *unused)
{
    (void)unused;
    return mem_alloc(size);
}

static void release(void *p, void *unused)
{
    (void)unused;
    mem_free(p);
}

int tok_split_create(struct tok_split **out, struct err *e)
{
    struct tok_split *s = mem_zalloc(sizeof *s);
    if (s && !(s->general = pcre2_general_context_create(allocate, release, NULL))) {
        mem_free(s);
        s = NULL;
    }
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a tokenizer's expressions");
    *out = s;
    return 0;
}

void tok_split_destroy(struct tok_split *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->count; i++)
        pcre2_code_free(s->stages[i]);
    pcre2_general_context_free(s->general);
    mem_free(s);
}

/* Spells out \s, and \S outside classes, and \u; everything else is the same in both dialects. */
static void translate(const char *p, struct buf *out)
{
    bool in_class = false;
    for (; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            if (*p == 's')
                buf_printf(out, in_class ? "%s" : "[%s]", white_space);
            else if (*p == 'S' && !in_class)
                buf_printf(out, "[^%s]", white_space);
            else if (*p == 'u' && strspn(p + 1, "0123456789abcdefABCDEF") >= 4)
                buf_printf(out, "\\x{%.4s}", p + 1), p += 4;
            else
                buf_printf(out, "\\%c", *p);
            continue;
        }
        if (*p == '[')
            in_class = true;
        else if (*p == ']')
            in_class = false;
        buf_char(out, *p);
    }
}

int tok_split_add(struct tok_split *s, const char *pattern, enum tok_split_drop drop, struct err *e)
{
    if (s->count == TOK_SPLIT_STAGES)
        return err_set(e, ERR_DATA, "more than %d pre-tokenizer stages", TOK_SPLIT_STAGES);
    buf_auto struct buf text;
    buf_init(&text, PATTERN_LIMIT);
    translate(pattern, &text);
    if (!buf_ok(&text))
        return err_set(e, ERR_DATA, "pre-tokenizer expression is too long");

    pcre2_compile_context *c = pcre2_compile_context_create(s->general);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a tokenizer's expression");
    int code;
    PCRE2_SIZE at;
    pcre2_code *stage = pcre2_compile((PCRE2_SPTR)buf_cstr(&text), text.len,
        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, c);
    pcre2_compile_context_free(c);
    if (!stage) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(
            e, ERR_DATA, "pre-tokenizer expression \"%.80s\": %s at %zu", pattern, why, at);
    }
    /* Where the JIT cannot (a pod may forbid executable memory), the interpreter runs it. */
    pcre2_jit_compile(stage, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    s->drops[s->count] = drop;
    s->stages[s->count++] = stage;
    return 0;
}

static int run_stage(struct run *r, int stage, const char *text, size_t len, struct err *e);
static int run_from(struct run *r, int stage, const char *text, size_t from, size_t len,
    size_t *until, struct err *e);

/* What lies between matches, or is one. */
static int pass_on(
    struct run *r, int stage, bool matched, const char *text, size_t len, struct err *e)
{
    if (r->split->drops[stage] == (matched ? TOK_SPLIT_DROP_MATCHES : TOK_SPLIT_DROP_REST))
        return 0;
    return run_stage(r, stage + 1, text, len, e);
}

/* Of a piece, pieces by this stage and those behind it. */
static int run_stage(struct run *r, int stage, const char *text, size_t len, struct err *e)
{
    if (!len)
        return 0;
    if (stage == r->split->count)
        return r->piece_fn(r->context, text, len, e);
    return run_from(r, stage, text, 0, len, NULL, e);
}

/* The same from the end of a piece on, by a stage that there is; `until`: that text goes on, and
   this becomes the end of the last piece that does not depend on how. */
static int run_from(struct run *r, int stage, const char *text, size_t from, size_t len,
    size_t *until, struct err *e)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(r->match[stage]);
    uint32_t how = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (until ? PCRE2_PARTIAL_HARD : 0);
    size_t done = from;
    while (done < len) {
        int rc = pcre2_match(
            r->split->stages[stage], (PCRE2_SPTR)text, len, done, how, r->match[stage], NULL);
        if (rc == PCRE2_ERROR_NOMATCH || rc == PCRE2_ERROR_PARTIAL)
            break;
        if (rc < 0)
            return err_set(e, ERR_DATA, "pre-tokenizer gave up on its text (PCRE2 %d)", rc);
        size_t start = at[0], end = at[1];
        if ((rc = pass_on(r, stage, false, text + done, start - done, e)) ||
            (rc = pass_on(r, stage, true, text + start, end - start, e)))
            return rc;
        done = end;
    }
    if (!until)
        return pass_on(r, stage, false, text + done, len - done, e);
    *until = done;
    return 0;
}

static int run_all(const struct tok_split *s, const char *text, size_t from, size_t len,
    size_t *until, int (*piece_fn)(void *, const char *, size_t, struct err *), void *context,
    struct err *e)
{
    struct run r = {.split = s, .piece_fn = piece_fn, .context = context};
    int rc = 0;
    for (int i = 0; i < s->count && !rc; i++)
        if (!(r.match[i] = pcre2_match_data_create(1, s->general)))
            rc = err_set(e, ERR_MEMORY, "no memory to tokenise");
    if (!rc && from < len)
        rc = s->count ? run_from(&r, 0, text, from, len, until, e)
                      : run_stage(&r, 0, text + from, len - from, e);
    for (int i = 0; i < s->count; i++)
        pcre2_match_data_free(r.match[i]);
    return rc;
}

int tok_split_run(const struct tok_split *s, const char *text, size_t len,
    int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e), void *context,
    struct err *e)
{
    return run_all(s, text, 0, len, NULL, piece_fn, context, e);
}

int tok_split_some(const struct tok_split *s, const char *text, size_t from, size_t len,
    size_t *done, int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e),
    void *context, struct err *e)
{
    *done = from;
    return s->count ? run_all(s, text, from, len, done, piece_fn, context, e) : 0;
}

int tok_split_rest(const struct tok_split *s, const char *text, size_t from, size_t len,
    int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e), void *context,
    struct err *e)
{
    return run_all(s, text, from, len, NULL, piece_fn, context, e);
}

int tok_split_replace(const struct tok_split *s, const char *text, size_t len, struct tok_text to,
    struct buf *out, struct err *e)
{
    size_t done = 0;
    int rc = 1;
    pcre2_match_data *match = pcre2_match_data_create(1, s->general);
    if (!match)
        return err_set(e, ERR_MEMORY, "no memory to normalise");
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(match);
    while (done < len &&
        (rc = pcre2_match(s->stages[0], (PCRE2_SPTR)text, len, done,
             PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match, NULL)) > 0) {
        buf_add(out, text + done, at[0] - done);
        buf_add(out, to.s, to.len);
        done = at[1];
    }
    pcre2_match_data_free(match);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return err_set(e, ERR_DATA, "normalizer gave up on its text (PCRE2 %d)", rc);
    buf_add(out, text + done, len - done);
    return 0;
}

bool tok_split_matches_empty(const struct tok_split *s)
{
    uint32_t empty = 0;
    pcre2_pattern_info(s->stages[0], PCRE2_INFO_MATCHEMPTY, &empty);
    return empty;
}

bool tok_split_any(const struct tok_split *s)
{
    return s->count > 0;
}

size_t tok_split_behind(const struct tok_split *s)
{
    uint32_t characters = 0;
    if (s->count)
        pcre2_pattern_info(s->stages[0], PCRE2_INFO_MAXLOOKBEHIND, &characters);
    return 4 * ((size_t)characters + 1);
}
