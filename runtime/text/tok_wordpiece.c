/*
 * tok_wordpiece: every candidate is looked up as it would be written, with the prefix before it;
 * none is longer than the longest token, so a long word costs its length times that.
 */
#include "runtime/text/tok_wordpiece.h"

#include "base/mem.h"
#include "base/utf8.h"

int tok_wordpiece_init(
    struct tok_wordpiece *m, const struct tok_def *d, const struct tok_names *names, struct err *e)
{
    m->names = names;
    m->prefix_len = d->wordpiece.prefix.len;
    m->word_limit = d->wordpiece.word_limit;
    m->unknown = d->wordpiece.unknown;
    m->cleanup = d->wordpiece.cleanup;
    for (int32_t i = 0; i < d->vocab; i++)
        if (d->kinds[i] == TOK_NORMAL && d->tokens[i].len > m->longest)
            m->longest = d->tokens[i].len;
    m->prefix = mem_strndup(d->wordpiece.prefix.s, m->prefix_len);
    return m->prefix ? 0 : err_set(e, ERR_MEMORY, "no memory for a tokenizer's prefix");
}

void tok_wordpiece_done(struct tok_wordpiece *m)
{
    mem_free(m->prefix);
    m->prefix = NULL;
}

static int64_t count_chars(const char *s, size_t len)
{
    int64_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += ((uint8_t)s[i] & 0xc0) != 0x80;
    return count;
}

/* The longest token that key[0 .. len) begins with, if it is longer than `least`; *used: its
   bytes. */
static int32_t longest_token(
    const struct tok_wordpiece *m, const char *key, size_t len, size_t least, size_t *used)
{
    size_t n = len < m->longest ? len : m->longest;
    while (n > least && n < len && ((uint8_t)key[n] & 0xc0) == 0x80)
        n--;
    while (n > least) {
        int32_t id = tok_names_find(m->names, key, n);
        if (id >= 0) {
            *used = n;
            return id;
        }
        do
            n--;
        while (n > least && ((uint8_t)key[n] & 0xc0) == 0x80);
    }
    return -1;
}

/* text: the word, with room for the prefix before it. */
static int cut_word(
    const struct tok_wordpiece *m, char *text, size_t len, struct tok_ids *out, struct err *e)
{
    int64_t before = out->count;
    size_t prefix = m->prefix_len;
    for (size_t at = 0, used; at < len; at += used) {
        size_t n = at ? prefix : 0;
        char *key = text + prefix + at - n;
        memcpy(key, m->prefix, n); /* over what has been used up */
        int32_t id = longest_token(m, key, n + len - at, n, &used);
        if (id < 0) {
            out->count = before;
            return tok_ids_add(out, m->unknown, e);
        }
        used -= n;
        int rc = tok_ids_add(out, id, e);
        if (rc)
            return rc;
    }
    return 0;
}

int tok_wordpiece_encode(
    const struct tok_wordpiece *m, const char *word, size_t len, struct tok_ids *out, struct err *e)
{
    char small[512], *text = small;
    mem_autofree char *large = NULL;
    if (count_chars(word, len) > m->word_limit)
        return tok_ids_add(out, m->unknown, e);
    if (len + m->prefix_len > sizeof small) {
        text = large = mem_alloc(len + m->prefix_len);
        if (!large)
            return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", len);
    }
    memcpy(text + m->prefix_len, word, len);
    return cut_word(m, text, len, out, e);
}

/* What is written without a space before it; as the tokenizers package's `cleanup`. */
static bool joins(const char *token, size_t len)
{
    static const char *const all[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (len >= strlen(all[i]) && !memcmp(token, all[i], strlen(all[i])))
            return true;
    return false;
}

int tok_wordpiece_decode(
    const struct tok_wordpiece *m, const char *token, size_t len, struct buf *out)
{
    bool continues = len >= m->prefix_len && !memcmp(token, m->prefix, m->prefix_len);
    if (!out->len)
        return buf_add(out, token, len);
    if (continues)
        return buf_add(out, token + m->prefix_len, len - m->prefix_len);
    if (!m->cleanup || !joins(token, len))
        buf_char(out, ' ');
    return buf_add(out, token, len);
}
