/*
 * tok_json_vocab: a BERT's tokenizer of the time before tokenizer.json: vocab.txt, a token a line,
 * whose number is its id, and what tokenizer_config.json says of it. The rest is as BertTokenizer
 * has it: its normaliser and pre-tokenizer, "##", [CLS] before a text and [SEP] behind it.
 */
#include "runtime/text/tok_json_internal.h"

#include "base/utf8.h"
#include "runtime/text/tok_bert.h"

static const struct {
    const char *key, *token;
} names[] = {{"unk_token", "[UNK]"}, {"cls_token", "[CLS]"}, {"sep_token", "[SEP]"},
    {"pad_token", "[PAD]"}, {"mask_token", "[MASK]"}};
enum { UNK, CLS, SEP, PAD, NAMES = 5 };
#define NEEDED 3 /* of them, from the first, no such tokenizer is without */

static struct tok_text next_line(const char **at, const char *end)
{
    const char *line = *at, *newline = memchr(line, '\n', (size_t)(end - line));
    size_t len = (size_t)((newline ? newline : end) - line);
    *at = newline ? newline + 1 : end;
    while (len && strchr(" \t\r\v\f", line[len - 1]))
        len--;
    return (struct tok_text){line, len};
}

static int read_lines(struct tok_json *r, const char *text, size_t len, struct err *e)
{
    const char *end = text + len, *at = text;
    int64_t lines = 0;
    while (at < end) {
        next_line(&at, end);
        lines++;
    }
    if (!lines || lines > TOK_VOCAB_LIMIT)
        return err_set(e, ERR_DATA, "%s: %lld lines; a vocabulary has 1 to %d", r->path,
            (long long)lines, TOK_VOCAB_LIMIT);
    struct tok_def *d = &r->d;
    d->vocab = (int32_t)lines;
    d->tokens = arena_array(r->a, (size_t)lines, sizeof *d->tokens);
    d->kinds = arena_array(r->a, (size_t)lines, 1);
    d->flags = arena_array(r->a, (size_t)lines, 1);
    if (!d->tokens || !d->kinds || !d->flags)
        return tok_json_no_memory(r, e);
    at = text;
    for (int32_t i = 0; i < d->vocab; i++) {
        struct tok_text line = next_line(&at, end);
        if (utf8_valid_prefix(line.s, line.len) < line.len || memchr(line.s, 0, line.len))
            return err_set(e, ERR_DATA, "%s:%d: no text", r->path, i + 1);
        d->tokens[i] = line;
        d->kinds[i] = line.len ? TOK_NORMAL : TOK_UNUSED;
    }
    return 0;
}

/* Special tokens of the names that the configuration gives them, else of the usual ones. */
static int name_tokens(struct tok_json *r, const struct json *config, struct err *e)
{
    int32_t ids[NAMES];
    for (int i = 0; i < NAMES; i++) {
        const struct json *v = json_get(config, names[i].key);
        const char *text = json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
        text = text ? text : names[i].token;
        ids[i] = tok_def_find(&r->d, (struct tok_text){text, strlen(text)});
        if (ids[i] < 0 && i < NEEDED)
            return err_set(
                e, ERR_DATA, "%s: %s \"%.40s\" is no line of it", r->path, names[i].key, text);
        if (ids[i] >= 0)
            r->d.kinds[ids[i]] = TOK_SPECIAL;
    }
    r->d.prefix = (struct tok_affix){.id = {ids[CLS]}, .count = 1};
    r->d.suffix = (struct tok_affix){.id = {ids[SEP]}, .count = 1};
    tok_def_pair(&r->d, TOK_PAIR_BERT);
    r->d.pad = ids[PAD];
    r->d.wordpiece = (struct tok_wordpiece_def){.prefix = {"##", 2},
        .unknown = ids[UNK],
        .word_limit = TOK_BERT_WORD_LIMIT,
        .cleanup = true};
    return 0;
}

int tok_def_vocab(const char *text, size_t len, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e)
{
    struct tok_json r = {.path = path, .a = a, .d = {.model = TOK_WORDPIECE}};
    int rc;
    if ((rc = read_lines(&r, text, len, e)) || (rc = name_tokens(&r, config, e)) ||
        (rc = tok_json_bert(&r, config, e)))
        return rc;
    tok_def_config(&r.d, config);
    *out = r.d;
    return 0;
}
