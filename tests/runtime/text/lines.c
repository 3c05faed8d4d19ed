/*
 * lines: as tests/golden/make_tok_unigram.py makes them (line_of, blocks).
 */
#include "tests/runtime/text/lines.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_def.h"

struct lines_pieces lines_pieces_of(const struct json *vocab)
{
    struct lines_pieces p = {mem_array(json_count(vocab), sizeof *p.text), 0};
    json_each (v, vocab)
        p.text[p.count++] = json_string_value(json_first(v) ? json_first(v) : v);
    return p;
}

static uint32_t throw_dice(uint64_t *x, uint32_t n)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*x >> 33) % n);
}

/* A piece with `space` for its marks. */
static void add_piece(const struct lines_pieces *p, uint64_t *x, const char *space, struct buf *out)
{
    const char *s = p->text[throw_dice(x, p->count)];
    for (const char *at; (at = strstr(s, TOK_SPACE)); s = at + strlen(TOK_SPACE)) {
        buf_add(out, s, (size_t)(at - s));
        buf_str(out, space);
    }
    buf_str(out, s);
}

static void add_script(uint64_t *x, struct buf *out)
{
    static const uint32_t ranges[][2] = {{0x20, 0x7e}, {0xc0, 0x24f}, {0x300, 0x36f},
        {0x370, 0x3ff}, {0x400, 0x52f}, {0x590, 0x5ff}, {0x61e, 0x6ff}, {0x900, 0x97f},
        {0xe00, 0xe7f}, {0x1000, 0x109f}, {0x1100, 0x11ff}, {0xac00, 0xd7a3}, {0x3040, 0x30ff},
        {0x4e00, 0x9fa5}, {0xf900, 0xfad9}, {0xff00, 0xffef}, {0x1f300, 0x1f64f}, {0x2000, 0x206f},
        {0x2100, 0x214f}, {0x2460, 0x24ff}, {0x1d400, 0x1d4ff}};
    const uint32_t *r = ranges[throw_dice(x, sizeof ranges / sizeof *ranges)];
    for (int n = 1 + (int)throw_dice(x, 6); n > 0; n--) {
        char s[4];
        buf_add(out, s, utf8_encode(r[0] + throw_dice(x, r[1] - r[0] + 1), s));
    }
}

static void add_fixed(uint64_t *x, struct buf *out)
{
    static const char *const words[] = {"<s>", "</s>", "<unk>", "<mask>", "\uff1cs\uff1e", "<0x41>",
        "``", "''", "e\u0301", "\ufb01\u0301", "\u338f\u0301 a", "\u2122", "\u2581", "\u2581\u2581",
        " \u2581 ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u00ad", "\x01",
        "\x7f", "\ufeff", "\ufffd", "\u0e33", "\u1100\u1161", "\u0600a",
        "\U0001f468\u200d\U0001f469", NULL, NULL};
    uint32_t i = throw_dice(x, sizeof words / sizeof *words);
    if (words[i])
        buf_str(out, words[i]);
    else
        for (int n = i == 32 ? 70 : 40; n; n--)
            buf_str(out, i == 32 ? "x" : "ab");
}

void lines_make(uint64_t i, const struct lines_pieces *p, struct buf *out)
{
    uint64_t x = i * 0x9e3779b97f4a7c15u + 1;
    buf_reset(out);
    for (int n = 1 + (int)throw_dice(&x, 14); n > 0; n--) {
        uint32_t kind = throw_dice(&x, 8);
        if (kind < 4) {
            add_piece(p, &x, " ", out);
        } else if (kind < 6) {
            add_script(&x, out);
        } else if (kind == 6) {
            buf_char(out, ' ');
            add_piece(p, &x, "", out);
        } else {
            add_fixed(&x, out);
        }
    }
}

uint32_t lines_fold(uint32_t h, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 16777619u;
    return (h ^ 0xff) * 16777619u; /* the end of it */
}

uint32_t lines_hash_at(const char *hashes, int64_t block)
{
    char digits[9] = {0};
    memcpy(digits, hashes + 8 * block, 8);
    return (uint32_t)strtoul(digits, NULL, 16);
}
