/*
 * tok_added: one sorted list; a place costs a binary search, however many there are (some models
 * have tens of thousands, all beginning alike). The flags mean what tokenizers' AddedVocabulary
 * makes of them: `lstrip` and `rstrip` take the spaces beside the token along, `single_word` wants
 * no letter or digit there.
 */
#include "runtime/text/tok_added.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_normal.h"

static int compare(const struct tok_added_one *x, const char *text, size_t len)
{
    int d = memcmp(x->text, text, x->len < len ? x->len : len);
    return d ? d : (x->len > len) - (x->len < len);
}

static int by_text(const void *a, const void *b)
{
    const struct tok_added_one *x = a, *y = b;
    int d = compare(x, y->text, y->len);
    return d ? d : (x->id > y->id) - (x->id < y->id);
}

static bool begins(const struct tok_added_one *x, const char *text, size_t len)
{
    return x->len <= len && !memcmp(text, x->text, x->len);
}

/* Of several alike the first stays; each learns which other one it begins with. */
static void link_list(struct tok_added *a)
{
    int32_t n = 0;
    for (int32_t i = 0; i < a->count; i++) {
        struct tok_added_one one = a->list[i];
        int32_t shorter = n - 1; /* whoever it begins with is that one, or one of its own */
        while (shorter >= 0 && !begins(&a->list[shorter], one.text, one.len))
            shorter = a->list[shorter].shorter;
        if (shorter >= 0 && a->list[shorter].len == one.len)
            continue;
        one.shorter = shorter;
        a->list[n++] = one;
    }
    a->count = n;
}

static bool is_listed(const struct tok_def *d, int32_t i, enum tok_added_list list)
{
    bool special = d->kinds[i] == TOK_SPECIAL;
    bool normalized = d->flags && d->flags[i] & TOK_NORMALIZED;
    if (!special && d->kinds[i] != TOK_ADDED)
        return false;
    if (list == TOK_ADDED_GUARDED && special)
        return true;
    return normalized == (list == TOK_ADDED_NORMALIZED);
}

int tok_added_init(struct tok_added *a, const struct tok_def *d, const char *bytes,
    const uint32_t *start, enum tok_added_list list, struct err *e)
{
    size_t most = 1;
    for (int32_t i = 0; i < d->vocab; i++)
        most += is_listed(d, i, list);
    a->list = mem_array(most, sizeof *a->list);
    if (!a->list)
        return err_set(e, ERR_MEMORY, "no memory for the vocabulary");
    for (int32_t i = 0; i < d->vocab; i++)
        if (is_listed(d, i, list) && start[i + 1] > start[i])
            a->list[a->count++] = (struct tok_added_one){bytes + start[i], start[i + 1] - start[i],
                i, d->flags ? d->flags[i] : 0, d->kinds[i] == TOK_SPECIAL, -1};
    qsort(a->list, (size_t)a->count, sizeof *a->list, by_text);
    link_list(a);
    for (int32_t b = 0, k = 0; b <= 256; b++) {
        while (k < a->count && (uint8_t)*a->list[k].text < b)
            k++;
        a->from[b] = k;
    }
    return 0;
}

void tok_added_done(struct tok_added *a)
{
    mem_free(a->list);
    a->list = NULL;
}

/* Where the first one stands that is greater than text, of those with its first byte. */
static int32_t behind(const struct tok_added *a, const char *text, size_t len)
{
    uint8_t b = (uint8_t)*text;
    int32_t low = a->from[b], high = a->from[b + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (compare(&a->list[middle], text, len) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest one that text begins with. All between that one and text begin with it too. */
static const struct tok_added_one *one_at(const struct tok_added *a, const char *text, size_t len)
{
    int32_t i = behind(a, text, len) - 1;
    if (i < a->from[(uint8_t)*text])
        return NULL;
    while (i >= 0 && !begins(&a->list[i], text, len))
        i = a->list[i].shorter;
    return i < 0 ? NULL : &a->list[i];
}

/* The character before text[at], of *size bytes; text is valid UTF-8. */
static uint32_t char_before(const char *text, size_t at, size_t *size)
{
    size_t n = 1;
    while (n < at && ((uint8_t)text[at - n] & 0xc0) == 0x80)
        n++;
    *size = n;
    return tok_normal_char(text + at - n, n);
}

static bool stands_alone(const char *text, size_t len, size_t from, size_t to)
{
    size_t n;
    if (from && tok_normal_is_word(char_before(text, from, &n)))
        return false;
    return to == len ||
        !tok_normal_is_word(tok_normal_char(text + to, utf8_sequence(text + to, len - to)));
}

/* A token of one character has no place for a guard inside. */
static bool is_guarded(const struct tok_added_one *one, const char *text, size_t at)
{
    return at >= TOK_GUARD_BYTES && one->len <= utf8_sequence(text + at, one->len) &&
        !memcmp(text + at - TOK_GUARD_BYTES, TOK_GUARD, TOK_GUARD_BYTES);
}

bool tok_added_next(const struct tok_added *a, const char *text, size_t len, size_t at,
    bool special, struct tok_match *out)
{
    for (size_t i = at, n; a->count && i < len; i += n) {
        const struct tok_added_one *one = one_at(a, text + i, len - i);
        n = one ? one->len : 1;
        if (!one || (one->special && (!special || is_guarded(one, text, i))) ||
            ((one->flags & TOK_SINGLE_WORD) && !stands_alone(text, len, i, i + n)))
            continue;
        size_t from = i, to = i + n, size;
        while ((one->flags & TOK_LSTRIP) && from > at &&
            tok_normal_is_space(char_before(text, from, &size)))
            from -= size;
        while ((one->flags & TOK_RSTRIP) && to < len &&
            tok_normal_is_space(
                tok_normal_char(text + to, size = utf8_sequence(text + to, len - to))))
            to += size;
        *out = (struct tok_match){one->id, from, to};
        return true;
    }
    return false;
}

static bool begins_special(const struct tok_added *a, const char *text, size_t len)
{
    const struct tok_added_one *one = one_at(a, text, len);
    while (one && !one->special)
        one = one->shorter < 0 ? NULL : &a->list[one->shorter];
    return one;
}

/* Does text begin with a special token, or a special token with all of text? */
static bool looks_special(const struct tok_added *a, const char *text, size_t len)
{
    uint8_t b = (uint8_t)*text;
    if (begins_special(a, text, len))
        return true;
    for (int32_t i = behind(a, text, len); i < a->from[b + 1]; i++) {
        if (a->list[i].len <= len || memcmp(a->list[i].text, text, len))
            return false;
        if (a->list[i].special)
            return true;
    }
    return false;
}

int tok_added_unguard(const char *text, size_t len, struct buf *out)
{
    const char *end = text + len, *at;
    while ((at = memmem(text, (size_t)(end - text), TOK_GUARD, TOK_GUARD_BYTES))) {
        buf_add(out, text, (size_t)(at - text));
        text = at + TOK_GUARD_BYTES;
    }
    buf_add(out, text, (size_t)(end - text));
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}

int tok_added_guard(const struct tok_added *a, const char *given, size_t given_len, struct buf *out)
{
    buf_auto struct buf clean; /* of guards: without them there may be other tokens */
    buf_init(&clean, given_len + 1);
    if (tok_added_unguard(given, given_len, &clean))
        return -ERR_MEMORY;
    const char *text = buf_cstr(&clean);
    for (size_t i = 0, n; i < clean.len; i += n) {
        n = utf8_sequence(text + i, clean.len - i);
        n = n ? n : 1;
        buf_str(out, begins_special(a, text + i, n) ? TOK_GUARD : "");
        buf_add(out, text + i, n);
        buf_str(out, looks_special(a, text + i, clean.len - i) ? TOK_GUARD : "");
    }
    return buf_ok(out) ? 0 : -ERR_MEMORY;
}
