/*
 * words: a word that begins with punctuation is that character; else it ends before the punctuation
 * that ends it, of which the next word is the first character.
 */
#include "runtime/serve/words.h"

#include "base/utf8.h"
#include "runtime/text/tok_normal.h"

#include <string.h>

/* The character at `at`, which is before len; its bytes. */
static int64_t take(const char *text, int64_t len, int64_t at, uint32_t *c)
{
    size_t n = utf8_sequence(text + at, (size_t)(len - at));
    n = n ? n : 1;
    *c = utf8_decode(text + at, n);
    return (int64_t)n;
}

bool words_next(const char *text, int64_t len, struct words_word *w)
{
    int64_t at = w->end, n = 0;
    uint32_t c = ' ';
    while (at < len && (n = take(text, len, at, &c), tok_normal_is_space(c)))
        at += n;
    if (at >= len)
        return false;
    *w = (struct words_word){at, at + n};
    if (!tok_normal_is_word(c))
        return true;
    for (at += n; at < len; at += n) {
        n = take(text, len, at, &c);
        if (tok_normal_is_space(c))
            break;
        if (tok_normal_is_word(c))
            w->end = at + n;
    }
    return true;
}

/* -- entities -- */

static bool begins(const char *label, const char *kind)
{
    return kind != label && (*label == 'B' || *label == 'S');
}

bool words_add(struct words_entity *x, const struct words_word *w, const char *label, double score,
    struct words_entity *ended)
{
    const char *kind = *label && label[1] == '-' ? label + 2 : label;
    bool none = !strcmp(label, "O");
    if (!none && x->kind && !strcmp(x->kind, kind) && !begins(label, kind)) {
        x->place.end = w->end;
        x->sum += score;
        x->words++;
        return false;
    }
    *ended = *x;
    *x = (struct words_entity){.kind = NULL};
    if (!none)
        *x = (struct words_entity){kind, *w, score, 1};
    return ended->kind;
}
