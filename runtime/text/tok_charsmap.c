/*
 * tok_charsmap: a unit of the trie is of 32 bits: 0 to 7 its label, 8 whether a value hangs on it,
 * 9 whether its offset counts 256 times, 10 to 31 that offset; a value has bit 31 set instead. From
 * a unit at `at` that of the byte c is at (at ^ offset ^ c), if its label is c.
 */
#include "runtime/text/tok_charsmap.h"

#include "base/utf8.h"

#include <string.h>

#define UNIT_BYTES sizeof(uint32_t)

static uint32_t read_unit(const char *s)
{
    const uint8_t *p = (const uint8_t *)s;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool tok_charsmap_init(struct tok_charsmap *map, struct tok_text data)
{
    if (data.len < UNIT_BYTES)
        return false;
    size_t size = read_unit(data.s), rest = data.len - UNIT_BYTES;
    if (!size || size % UNIT_BYTES || size > rest)
        return false;
    struct tok_text texts = {data.s + UNIT_BYTES + size, rest - size};
    *map = (struct tok_charsmap){data.s + UNIT_BYTES, (uint32_t)(size / UNIT_BYTES), texts};
    return true;
}

bool tok_charsmap_check(struct tok_text data)
{
    struct tok_charsmap map;
    return tok_charsmap_init(&map, data) &&
        utf8_valid_prefix(map.texts.s, map.texts.len) == map.texts.len;
}

static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << (unit & 1u << 9 ? 8 : 0);
}

/* The text at an offset that a file names, if one can begin there. */
static bool text_at(const struct tok_charsmap *map, uint32_t at, struct tok_text *out)
{
    const struct tok_text *t = &map->texts;
    if (at > t->len || (at < t->len && ((uint8_t)t->s[at] & 0xc0) == 0x80))
        return false;
    *out = (struct tok_text){t->s + at, strnlen(t->s + at, t->len - at)};
    return true;
}

/* The first key, of at most n bytes, that is longer than *used; false: there is none. */
static bool next_key(const struct tok_charsmap *map, const char *s, size_t n, uint32_t *at,
    size_t *used, struct tok_text *out)
{
    while (*used < n && s[*used]) {
        uint8_t label = (uint8_t)s[(*used)++];
        *at ^= label;
        if (*at >= map->count)
            return false;
        uint32_t unit = read_unit(map->units + UNIT_BYTES * *at);
        if ((unit & (1u << 31 | 0xff)) != label)
            return false;
        *at ^= offset_of(unit);
        if (unit & 1u << 8)
            return *at < map->count &&
                text_at(map, read_unit(map->units + UNIT_BYTES * *at) & ~(1u << 31), out);
    }
    return false;
}

bool tok_charsmap_find(
    const struct tok_charsmap *map, const char *s, size_t n, struct tok_text *out)
{
    uint32_t at = offset_of(read_unit(map->units));
    size_t used = 0;
    return next_key(map, s, n, &at, &used, out);
}

size_t tok_charsmap_longest(
    const struct tok_charsmap *map, const char *s, size_t n, struct tok_text *out)
{
    uint32_t at = offset_of(read_unit(map->units));
    size_t used = 0, longest = 0;
    struct tok_text to;
    while (next_key(map, s, n, &at, &used, &to)) {
        if (used < n && ((uint8_t)s[used] & 0xc0) == 0x80)
            continue;
        *out = to;
        longest = used;
    }
    return longest;
}
