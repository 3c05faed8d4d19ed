/*
 * walk: see walk.h. Where a text is long, what closes strings, arrays and objects is taken before
 * what opens them.
 */
#include "tests/runtime/grammar/walk.h"

#include "base/random.h"
#include "runtime/grammar/schema.h"

#include <string.h>

static const char *const pieces[] = {"{\"", "\":", "\": ", ", \"", "\",", "\"}", "\"]", "}}", "]}",
    "true", "false", "null", "the ", "name", "\\u00", "\\n", "\xc3\xa9", "\xf0\x9f", "\x98\x80",
    "12", "2024-", "[[", "],[", "{}", "\n  ", "\",\"", "\":\"", "abc", "\":{\"", "0.", "-1"};
#define PIECES ((int32_t)(sizeof pieces / sizeof *pieces))

static int text_of(void *user, int32_t id, struct buf *out)
{
    (void)user;
    return id < 256 ? buf_char(out, (char)id) : buf_str(out, pieces[id - 256]);
}

int walk_vocab(struct vocab **out, struct err *e)
{
    return vocab_create(256 + PIECES, text_of, NULL, out, e);
}

static bool has(const uint64_t *bits, int32_t id)
{
    return bits[id / 64] >> id % 64 & 1;
}

/* Which bytes may follow. */
static int allowed_bytes(struct matcher *m, uint64_t bits[5], struct err *e)
{
    memset(bits, 0, 5 * sizeof *bits);
    for (int byte = 0; byte < 256; byte++)
        if (matcher_next(m, matcher_state(m), (uint8_t)byte) != MATCHER_NO)
            bits[byte / 64] |= (uint64_t)1 << byte % 64;
    return matcher_failure(m, e);
}

static int32_t choose(const uint64_t *bits, int32_t count, bool leave, uint64_t *seed)
{
    bool within = has(bits, 'z'); /* a string */
    int32_t n = 0, id;
    for (const char *p = within ? "\"" : "\"]}0ntf1"; leave && *p; p++)
        if (has(bits, *p) && random_next(seed) % 8)
            return *p;
    for (id = 0; id < count; id++)
        n += has(bits, id);
    if (!n)
        return -1;
    do /* what a pattern waits for is rather one of these */
        id = (int32_t)(random_next(seed) % (uint64_t)(leave && n > 95 ? 127 : count));
    while (!has(bits, id));
    return id;
}

static int draw_once(const struct automaton *a, const struct vocab *v, uint64_t *seed,
    struct buf *out, struct err *e)
{
    struct matcher *m = NULL;
    int rc = matcher_create(a, &m, e);
    while (!rc) {
        uint64_t own[5];
        const uint64_t *bits = own;
        bool leave = out->len > WALK_LONG, end = matcher_may_end(m, matcher_state(m));
        if (end && (leave || random_next(seed) % 2))
            break;
        if (v)
            rc = vocab_allowed(v, m, &bits, e);
        else
            rc = allowed_bytes(m, own, e);
        int32_t id = rc ? -1 : choose(bits, v ? 256 + PIECES : 256, leave, seed);
        size_t before = out->len;
        if (id < 0 && end)
            break;
        if (!rc && (id < 0 || before > WALK_MOST))
            rc = err_set(e, ERR_BUG, "no end was found, after %zu bytes", before);
        if (!rc)
            rc = text_of(NULL, id, out);
        if (!rc)
            rc = matcher_take(m, out->data + before, out->len - before, e);
    }
    matcher_destroy(m);
    return rc;
}

int walk_draw(const struct automaton *a, const struct vocab *v, uint64_t *seed, struct buf *out,
    struct err *e)
{
    int rc, tries = WALK_TRIES;
    do {
        buf_reset(out);
        rc = draw_once(a, v, seed, out, e);
    } while (rc == -ERR_BUG && --tries);
    return rc;
}

bool walk_takes(const struct automaton *a, const char *text, size_t len)
{
    struct matcher *m = NULL;
    bool takes = !matcher_create(a, &m, NULL) && !matcher_take(m, text, len, NULL) &&
        matcher_may_end(m, matcher_state(m));
    matcher_destroy(m);
    return takes;
}

int walk_compile(const char *schema, struct automaton *a, char path[128], struct err *e)
{
    json_auto struct json *v = NULL;
    int32_t rule;
    int rc = json_parse(schema, strlen(schema), &v, e);
    automaton_init(a);
    if (!rc && !(rc = schema_rule(a, v, "schema", &rule, path, e)))
        rc = automaton_finish(a, rule, e);
    return rc;
}
