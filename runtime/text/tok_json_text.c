/*
 * tok_json_text: the normalizer and the pre-tokenizer of tokenizer.json, taken apart into steps
 * (tok_steps) and stages (tok_split). Stages are expressions; what the reference decides by a
 * character's kind is spelled as a class.
 */
#include "runtime/text/tok_json_internal.h"

#include "base/utf8.h"
#include "runtime/text/tok_bert.h"
#include "runtime/text/tok_charsmap.h"

/* The inside of a class: what Rust's expressions call \w. */
#define WORD \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

/* -- the normalizer -- */

static int add_step(struct tok_json *r, struct tok_step step, struct err *e)
{
    struct tok_steps *s = &r->d.steps;
    if (s->count == TOK_STEPS_LIMIT)
        return err_set(e, ERR_DATA, "%s: normalizer: more than %d steps", r->path, TOK_STEPS_LIMIT);
    s->list[s->count++] = step;
    return 0;
}

static int add_kind(struct tok_json *r, enum tok_step_kind kind, bool wanted, struct err *e)
{
    return wanted ? add_step(r, (struct tok_step){.kind = kind}, e) : 0;
}

/* v: an object that says otherwise than the defaults, or NULL; han, lower: names of two of its
   keys. */
static int add_bert(
    struct tok_json *r, const struct json *v, const char *han, const char *lower, struct err *e)
{
    bool lowered = json_bool(v, lower, true);
    bool accents = json_bool(v, "strip_accents", lowered); /* null: as lowered */
    int rc;
    if ((rc = add_kind(r, TOK_STEP_CLEAN, json_bool(v, "clean_text", true), e)) ||
        (rc = add_kind(r, TOK_STEP_SPACE_HAN, json_bool(v, han, true), e)) ||
        (rc = add_kind(r, TOK_STEP_NFD, accents, e)) ||
        (rc = add_kind(r, TOK_STEP_STRIP_NONSPACING, accents, e)))
        return rc;
    return add_kind(r, TOK_STEP_LOWER, lowered, e);
}

static int read_replace(struct tok_json *r, const struct json *v, struct err *e)
{
    const struct json *by = json_get(v, "pattern");
    const char *regex = json_str(by, "Regex", NULL);
    const char *from = json_str(by, "String", regex), *to = json_str(v, "content", NULL);
    if (!from || !*from || !to)
        return tok_json_unsupported(r, "normalizer Replace of", from, e);
    struct tok_step step = {.kind = from == regex ? TOK_STEP_MATCHES : TOK_STEP_REPLACE,
        .from = {from, strlen(from)},
        .to = {to, strlen(to)}};
    return add_step(r, step, e);
}

/* The value of a character of base64; -1: it is none. */
static int base64_value(char c)
{
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = memchr(all, c, 64);
    return at ? (int)(at - all) : -1;
}

/* RFC 4648, with its padding. out: 3 bytes for each 4 of text. */
static bool read_base64(const char *text, size_t len, char *out, size_t *size)
{
    size_t n = 0, pad = len && text[len - 1] == '=' ? 1 + (len > 1 && text[len - 2] == '=') : 0;
    uint32_t bits = 0;
    if (len % 4)
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = i < len - pad ? base64_value(text[i]) : 0;
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        for (int k = 16; i % 4 == 3 && k >= 0; k -= 8)
            out[n++] = (char)(bits >> k);
    }
    *size = n - pad;
    return true;
}

static int read_charsmap(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *text = json_str(v, "precompiled_charsmap", "");
    size_t len = strlen(text);
    char *data = arena_array(r->a, len + 1, 1);
    struct tok_step step = {.kind = TOK_STEP_CHARSMAP, .from.s = data};
    if (!data)
        return tok_json_no_memory(r, e);
    if (!read_base64(text, len, data, &step.from.len) || !tok_charsmap_check(step.from))
        return err_set(e, ERR_DATA,
            "%s: normalizer Precompiled: its precompiled_charsmap is damaged", r->path);
    return add_step(r, step, e);
}

static int read_prepend(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *text = json_str(v, "prepend", NULL);
    if (!text)
        return tok_json_unsupported(r, "normalizer Prepend of", text, e);
    struct tok_step step = {.kind = TOK_STEP_PREPEND, .to = {text, strlen(text)}};
    return add_step(r, step, e);
}

static int read_strip(struct tok_json *r, const struct json *v, struct err *e)
{
    int rc = add_kind(r, TOK_STEP_TRIM_LEFT, json_bool(v, "strip_left", false), e);
    return rc ? rc : add_kind(r, TOK_STEP_TRIM_RIGHT, json_bool(v, "strip_right", false), e);
}

int tok_json_normalizer(struct tok_json *r, const struct json *v, struct err *e)
{
    static const struct {
        const char *type;
        enum tok_step_kind kind;
    } simple[] = {{"NFC", TOK_STEP_NFC}, {"NFD", TOK_STEP_NFD}, {"NFKC", TOK_STEP_NFKC},
        {"NFKD", TOK_STEP_NFKD}, {"Lowercase", TOK_STEP_LOWER},
        {"StripAccents", TOK_STEP_STRIP_MARKS}, {"Nmt", TOK_STEP_NMT}};
    const char *type = json_str(v, "type", "?");
    if (!v || json_is_null(v))
        return 0;
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (!strcmp(type, simple[i].type))
            return add_kind(r, simple[i].kind, true, e);
    if (!strcmp(type, "BertNormalizer"))
        return add_bert(r, v, "handle_chinese_chars", "lowercase", e);
    if (!strcmp(type, "Replace"))
        return read_replace(r, v, e);
    if (!strcmp(type, "Precompiled"))
        return read_charsmap(r, v, e);
    if (!strcmp(type, "Prepend"))
        return read_prepend(r, v, e);
    if (!strcmp(type, "Strip"))
        return read_strip(r, v, e);
    if (strcmp(type, "Sequence"))
        return tok_json_unsupported(r, "normalizer", type, e);
    json_each (step, json_get(v, "normalizers")) {
        int rc = tok_json_normalizer(r, step, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* -- the pre-tokenizer -- */

static int add_stage(
    struct tok_json *r, const char *pattern, enum tok_split_drop drop, struct err *e)
{
    if (r->d.stage_count == TOK_SPLIT_STAGES)
        return err_set(
            e, ERR_DATA, "%s: more than %d pre-tokenizer stages", r->path, TOK_SPLIT_STAGES);
    r->d.stages[r->d.stage_count++] = (struct tok_stage){pattern, drop};
    return 0;
}

/* An expression that matches text and nothing else. */
static const char *quote(struct tok_json *r, const char *text)
{
    buf_auto struct buf out;
    buf_init(&out, 2 * strlen(text));
    for (; *text; text++) {
        if (!((unsigned char)*text >= 0x80 || (*text >= '0' && *text <= '9') ||
                (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z')))
            buf_char(&out, '\\');
        buf_char(&out, *text);
    }
    return buf_ok(&out) ? arena_strdup(r->a, buf_cstr(&out)) : NULL;
}

static int read_split(struct tok_json *r, const struct json *v, struct err *e)
{
    const struct json *by = json_get(v, "pattern");
    const char *pattern = json_str(by, "Regex", NULL), *text = json_str(by, "String", "");
    const char *behavior = json_str(v, "behavior", "");
    enum tok_split_drop drop =
        json_bool(v, "invert", false) ? TOK_SPLIT_DROP_REST : TOK_SPLIT_DROP_MATCHES;
    if (!pattern && !*text)
        return tok_json_unsupported(r, "pre-tokenizer Split by", text, e);
    if (!pattern && !(pattern = quote(r, text)))
        return tok_json_no_memory(r, e);
    if (!strcmp(behavior, "Isolated"))
        return add_stage(r, pattern, TOK_SPLIT_DROP_NONE, e);
    if (!strcmp(behavior, "Removed"))
        return add_stage(r, pattern, drop, e);
    if (!strcmp(behavior, "MergedWithPrevious") && *text && !json_bool(v, "invert", false)) {
        /* each from where the last one ended: else a text without would cost its square */
        pattern = arena_printf(r->a, "\\G(?s:.*?)%s", pattern);
        return pattern ? add_stage(r, pattern, TOK_SPLIT_DROP_NONE, e) : tok_json_no_memory(r, e);
    }
    return tok_json_unsupported(r, "pre-tokenizer Split with behavior", behavior, e);
}

static int read_punctuation(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *behavior = json_str(v, "behavior", "Isolated");
    if (!strcmp(behavior, "Isolated"))
        return add_stage(r, TOK_BERT_PUNCTUATION, TOK_SPLIT_DROP_NONE, e);
    if (!strcmp(behavior, "Contiguous"))
        return add_stage(r, TOK_BERT_PUNCTUATION "+", TOK_SPLIT_DROP_NONE, e);
    if (!strcmp(behavior, "Removed"))
        return add_stage(r, TOK_BERT_PUNCTUATION, TOK_SPLIT_DROP_MATCHES, e);
    return tok_json_unsupported(r, "pre-tokenizer Punctuation with behavior", behavior, e);
}

static int read_byte_level(struct tok_json *r, const struct json *v, struct err *e)
{
    if (r->d.model != TOK_BPE)
        return tok_json_unsupported(r, "pre-tokenizer of a model of words:", "ByteLevel", e);
    if (json_bool(v, "add_prefix_space", true))
        return tok_json_unsupported(r, "pre-tokenizer ByteLevel with", "add_prefix_space", e);
    r->byte_level = true;
    return json_bool(v, "use_regex", true) ? add_stage(r, TOK_SPLIT_GPT2, TOK_SPLIT_DROP_NONE, e)
                                           : 0;
}

/* Is what a text begins with by the reference's count still its beginning behind this step? */
static bool keeps_begin(const struct tok_step *s)
{
    return s->kind == TOK_STEP_NFC || s->kind == TOK_STEP_NFD || s->kind == TOK_STEP_NFKC ||
        s->kind == TOK_STEP_NFKD || s->kind == TOK_STEP_LOWER || s->kind == TOK_STEP_CHARSMAP ||
        (s->kind == TOK_STEP_REPLACE && s->to.len &&
            utf8_sequence(s->from.s, s->from.len) == s->from.len);
}

/* SentencePiece's way with spaces: the marking is done in each piece (tok_def), here is cut. */
static int read_metaspace(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *mark = json_str(v, "replacement", ""),
               *how = json_str(v, "prepend_scheme", "always");
    bool never = !strcmp(how, "never"), first = !strcmp(how, "first");
    if (r->d.model != TOK_UNIGRAM && r->d.model != TOK_BPE_CHARS)
        return tok_json_unsupported(
            r, "pre-tokenizer of a model without marked spaces:", "Metaspace", e);
    if (strcmp(mark, TOK_SPACE))
        return tok_json_unsupported(r, "pre-tokenizer Metaspace with replacement", mark, e);
    if ((!never && !first && strcmp(how, "always")) ||
        (!never && !json_bool(v, "add_prefix_space", true)))
        return tok_json_unsupported(r, "pre-tokenizer Metaspace with prepend_scheme", how, e);
    for (int i = 0; first && i < r->d.steps.count; i++)
        if (!keeps_begin(&r->d.steps.list[i]))
            return err_set(e, ERR_DATA,
                "%s: pre-tokenizer Metaspace with prepend_scheme \"first\" behind a normalizer "
                "that may take away what a text begins with is not supported",
                r->path);
    r->d.spaces = never ? TOK_SPACES_MARKED
        : first         ? TOK_SPACES_BEFORE_FIRST
                        : TOK_SPACES_BEFORE_ALL;
    if (!json_bool(v, "split", true))
        return 0;
    return add_stage(r, TOK_SPACES_STAGE, TOK_SPLIT_DROP_NONE, e);
}

static int add_bert_stages(struct tok_json *r, struct err *e)
{
    int rc = add_stage(r, "\\s+", TOK_SPLIT_DROP_MATCHES, e);
    return rc ? rc : add_stage(r, TOK_BERT_PUNCTUATION, TOK_SPLIT_DROP_NONE, e);
}

static int read_stage(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *type = json_str(v, "type", "none");
    if (r->byte_level)
        return tok_json_unsupported(r, "pre-tokenizer after ByteLevel:", type, e);
    if (r->d.spaces)
        return tok_json_unsupported(r, "pre-tokenizer after Metaspace:", type, e);
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(r, v, e);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(r, v, e);
    if (!strcmp(type, "Split"))
        return read_split(r, v, e);
    if (!strcmp(type, "Digits"))
        return add_stage(r, json_bool(v, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
            TOK_SPLIT_DROP_NONE, e);
    if (!strcmp(type, "BertPreTokenizer"))
        return add_bert_stages(r, e);
    if (!strcmp(type, "Whitespace"))
        return add_stage(r, "[" WORD "]+|[^" WORD "\\s]+", TOK_SPLIT_DROP_REST, e);
    if (!strcmp(type, "WhitespaceSplit"))
        return add_stage(r, "\\s+", TOK_SPLIT_DROP_MATCHES, e);
    if (!strcmp(type, "Punctuation"))
        return read_punctuation(r, v, e);
    return tok_json_unsupported(r, "pre-tokenizer", type, e);
}

int tok_json_pre_tokenizer(struct tok_json *r, const struct json *v, struct err *e)
{
    int rc = 0;
    if (!strcmp(json_str(v, "type", ""), "Sequence")) {
        json_each (stage, json_get(v, "pretokenizers")) {
            rc = read_stage(r, stage, e);
            if (rc)
                return rc;
        }
    } else if (v && !json_is_null(v)) {
        rc = read_stage(r, v, e);
    }
    return rc;
}

int tok_json_bert(struct tok_json *r, const struct json *config, struct err *e)
{
    int rc = add_bert(r, config, "tokenize_chinese_chars", "do_lower_case", e);
    return rc ? rc : add_bert_stages(r, e);
}
