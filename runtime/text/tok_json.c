/*
 * tok_json: tokenizer.json of Hugging Face's tokenizers: the document, its vocabulary and added
 * tokens, the models BPE, WordPiece and Unigram, and what tokenizer_config.json says of tokens.
 * Strings of a definition live in the tree it was read from.
 */
#include "runtime/text/tok_bert.h"
#include "runtime/text/tok_json_internal.h"

#include <math.h>

int tok_json_unsupported(
    const struct tok_json *r, const char *what, const char *value, struct err *e)
{
    return err_set(
        e, ERR_DATA, "%s: %s \"%.40s\" is not supported", r->path, what, value ? value : "?");
}

int tok_json_no_memory(const struct tok_json *r, struct err *e)
{
    return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", r->path);
}

bool tok_json_id(const struct json *v, int32_t *out)
{
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 0 && d < TOK_VOCAB_LIMIT) || d != floor(d))
        return false;
    *out = (int32_t)d;
    return true;
}

/* -- the vocabulary -- */

/* An entry of the vocabulary: "text": id, or, of a list, ["text", score], whose place is its id. */
static bool read_entry(
    const struct json *v, bool listed, int32_t place, const char **text, int32_t *id)
{
    const struct json *first = json_first(v);
    *text = listed ? json_string_value(first) : json_key(v);
    *id = place;
    return listed ? *text && json_is_number(json_next(first)) && place < TOK_VOCAB_LIMIT
                  : tok_json_id(v, id);
}

static int read_vocab(
    struct tok_json *r, const struct json *vocab, const struct json *added, struct err *e)
{
    struct tok_def *d = &r->d;
    bool listed = json_is_array(vocab);
    int32_t id = -1, place = 0;
    const char *text;
    json_each (v, vocab) {
        if (!read_entry(v, listed, place++, &text, &id))
            return err_set(e, ERR_DATA, "%s: token \"%.40s\" has no valid %s", r->path,
                text ? text : "?", listed ? "score" : "id");
        if (id >= d->vocab)
            d->vocab = id + 1;
    }
    json_each (v, added) {
        if (!tok_json_id(json_get(v, "id"), &id) || !json_str(v, "content", NULL))
            return err_set(e, ERR_DATA, "%s: an added token has no valid id or content", r->path);
        if (id >= d->vocab)
            d->vocab = id + 1;
    }
    if (!d->vocab)
        return err_set(e, ERR_DATA, "%s: the vocabulary is empty", r->path);
    d->tokens = arena_array(r->a, (size_t)d->vocab, sizeof *d->tokens);
    d->kinds = arena_array(r->a, (size_t)d->vocab, 1);
    d->flags = arena_array(r->a, (size_t)d->vocab, 1);
    if (!d->tokens || !d->kinds || !d->flags)
        return tok_json_no_memory(r, e);
    place = 0;
    json_each (v, vocab) {
        read_entry(v, listed, place++, &text, &id);
        if (d->kinds[id] != TOK_UNUSED)
            return err_set(e, ERR_DATA, "%s: id %d stands twice", r->path, id);
        d->tokens[id] = (struct tok_text){text, strlen(text)};
        d->kinds[id] = TOK_NORMAL;
        d->flags[id] = TOK_OF_MODEL;
    }
    return 0;
}

static void set_added(struct tok_def *d, int32_t id, const struct json *v)
{
    static const char *const names[] = {"lstrip", "rstrip", "single_word", "normalized"};
    const char *content = json_str(v, "content", "");
    d->tokens[id] = (struct tok_text){content, strlen(content)};
    d->kinds[id] = json_bool(v, "special", false) ? TOK_SPECIAL : TOK_ADDED;
    d->flags[id] &= TOK_OF_MODEL;
    for (int i = 0; i < 4; i++)
        if (json_bool(v, names[i], false))
            d->flags[id] |= (uint8_t)(1 << i); /* as enum tok_flag counts them */
}

static void read_added(struct tok_json *r, const struct json *added)
{
    json_each (v, added) {
        int32_t id = -1;
        tok_json_id(json_get(v, "id"), &id);
        set_added(&r->d, id, v);
    }
}

/* -- models -- */

static int read_merges(struct tok_json *r, const struct json *merges, struct err *e)
{
    size_t count = json_count(merges), i = 0;
    if (!json_is_array(merges) || count > TOK_MERGES_LIMIT)
        return err_set(
            e, ERR_DATA, "%s: merges are no list of at most %d", r->path, TOK_MERGES_LIMIT);
    r->d.merges = arena_array(r->a, count + 1, sizeof *r->d.merges);
    if (!r->d.merges)
        return tok_json_no_memory(r, e);
    json_each (m, merges) {
        const char *left = json_string_value(m), *right = NULL;
        size_t left_len = 0;
        if (left) { /* "a b", the older form */
            const char *space = strchr(left, ' ');
            left_len = space ? (size_t)(space - left) : 0;
            right = space ? space + 1 : NULL;
        } else if (json_count(m) == 2) { /* ["a", "b"] */
            left = json_string_value(json_first(m));
            right = json_string_value(json_next(json_first(m)));
            left_len = left ? strlen(left) : 0;
        }
        if (!left || !right)
            return err_set(e, ERR_DATA, "%s: merge %zu is no pair", r->path, i);
        r->d.merges[i][0] = (struct tok_text){left, left_len};
        r->d.merges[i][1] = (struct tok_text){right, strlen(right)};
        i++;
    }
    r->d.merge_count = (int64_t)count;
    return 0;
}

/* What SentencePiece's decoder is made of. Where there is none, bytes are bytes all the same. */
static int check_decoder(struct tok_json *r, const struct json *decoder, struct err *e)
{
    static const char *const parts[] = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"};
    const char *type = json_str(decoder, "type", "Fuse");
    if (!strcmp(type, "Sequence")) {
        int rc = 0;
        json_each (part, json_get(decoder, "decoders"))
            rc = rc ? rc : check_decoder(r, part, e);
        return rc;
    }
    r->d.chars.decodes_bytes = r->d.chars.decodes_bytes || !strcmp(type, "ByteFallback");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(type, parts[i]))
            return 0;
    return tok_json_unsupported(r, "decoder of a model of characters:", type, e);
}

static int read_chars(struct tok_json *r, const struct json *model, struct err *e)
{
    struct tok_chars_def *c = &r->d.chars;
    const char *unknown = json_str(model, "unk_token", NULL);
    c->fuse = json_bool(model, "fuse_unk", false);
    c->byte_fallback = json_bool(model, "byte_fallback", false);
    c->decodes_bytes = c->decodes_bytes || c->byte_fallback;
    c->unknown = -1;
    if (!unknown)
        return 0;
    c->unknown = tok_def_find(&r->d, (struct tok_text){unknown, strlen(unknown)});
    if (c->unknown < 0)
        return err_set(e, ERR_DATA, "%s: model.unk_token \"%.40s\" is no token of the vocabulary",
            r->path, unknown);
    return 0;
}

static int read_bpe(
    struct tok_json *r, const struct json *model, const struct json *decoder, struct err *e)
{
    int rc;
    if (r->d.model == TOK_BPE_CHARS &&
        ((rc = check_decoder(r, decoder, e)) || (rc = read_chars(r, model, e))))
        return rc;
    if (json_num(model, "dropout", 0) != 0)
        return tok_json_unsupported(r, "model with", "dropout", e);
    if (json_bool(model, "byte_fallback", false) && r->d.model == TOK_BPE)
        return tok_json_unsupported(r, "model of bytes with", "byte_fallback", e);
    if (*json_str(model, "continuing_subword_prefix", "") ||
        *json_str(model, "end_of_word_suffix", ""))
        return tok_json_unsupported(r, "model with", "prefix or suffix", e);
    r->d.ignore_merges = json_bool(model, "ignore_merges", false);
    return read_merges(r, json_get(model, "merges"), e);
}

static int read_wordpiece(
    struct tok_json *r, const struct json *model, const struct json *decoder, struct err *e)
{
    struct tok_wordpiece_def *w = &r->d.wordpiece;
    const char *prefix = json_str(model, "continuing_subword_prefix", "##");
    const char *unknown = json_str(model, "unk_token", "[UNK]");
    const char *type = json_str(decoder, "type", "WordPiece");
    if (strcmp(type, "WordPiece"))
        return tok_json_unsupported(r, "decoder of a WordPiece:", type, e);
    w->prefix = (struct tok_text){prefix, strlen(prefix)};
    w->cleanup = json_bool(decoder, "cleanup", true);
    w->word_limit = json_int(model, "max_input_chars_per_word", TOK_BERT_WORD_LIMIT);
    w->unknown = tok_def_find(&r->d, (struct tok_text){unknown, strlen(unknown)});
    if (w->word_limit < 0)
        return tok_json_unsupported(r, "model with a negative", "max_input_chars_per_word", e);
    if (w->unknown < 0)
        return err_set(e, ERR_DATA, "%s: model.unk_token \"%.40s\" is no token of the vocabulary",
            r->path, unknown);
    return 0;
}

/* A number as the reference has it: its JSON parser (serde_json, as it is by default) makes one of
   the digits, then divides that by a power of ten, which rounds twice. Where two ways to cut a text
   cost the same, the last bit of their scores decides. */
static double read_score(double v)
{
    char text[40], digits[24] = {0};
    int precision = 15;
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, fabs(v));
    while (precision++ < 17 && strtod(text, NULL) != fabs(v));
    const char *e = strchr(text, 'e');
    digits[0] = text[0];
    memcpy(digits + 1, text + 2, (size_t)(e - text) - 2);
    long exponent = strtol(e + 1, NULL, 10) - (e - text) + 2;
    snprintf(text, sizeof text, "1e%ld", labs(exponent));
    double power = strtod(text, NULL), whole = (double)strtoull(digits, NULL, 10);
    return copysign(exponent < 0 ? whole / power : whole * power, v);
}

static int read_unigram(
    struct tok_json *r, const struct json *model, const struct json *decoder, struct err *e)
{
    const struct json *vocab = json_get(model, "vocab");
    struct tok_def *d = &r->d;
    int rc = check_decoder(r, decoder, e);
    if (rc)
        return rc;
    if (!tok_json_id(json_get(model, "unk_id"), &d->chars.unknown) ||
        d->chars.unknown >= (int32_t)json_count(vocab))
        return err_set(e, ERR_DATA, "%s: model.unk_id is no token of the vocabulary", r->path);
    d->chars.fuse = true;
    d->chars.byte_fallback = json_bool(model, "byte_fallback", false);
    d->scores = arena_array(r->a, (size_t)d->vocab, sizeof *d->scores);
    if (!d->scores)
        return tok_json_no_memory(r, e);
    int32_t i = 0;
    json_each (v, vocab)
        d->scores[i++] = read_score(json_number_value(json_next(json_first(v))));
    return 0;
}

static bool is_byte_level(const struct json *pre_tokenizer)
{
    json_each (stage, json_get(pre_tokenizer, "pretokenizers"))
        if (!strcmp(json_str(stage, "type", ""), "ByteLevel"))
            return true;
    return !strcmp(json_str(pre_tokenizer, "type", ""), "ByteLevel");
}

/* What decides how the rest is read. */
static int check_model(
    struct tok_json *r, const struct json *model, const struct json *cutter, struct err *e)
{
    const char *type = json_str(model, "type", "BPE");
    bool unigram = !strcmp(type, "Unigram");
    const struct json *vocab = json_get(model, "vocab");
    if (!unigram && strcmp(type, "BPE") && strcmp(type, "WordPiece"))
        return err_set(e, ERR_DATA, "%s: model \"%.40s\"; what is read: BPE, WordPiece, Unigram",
            r->path, type);
    if (!(unigram ? json_is_array(vocab) : json_is_object(vocab)))
        return err_set(e, ERR_DATA, "%s: model.vocab is missing", r->path);
    r->d.model = unigram             ? TOK_UNIGRAM
        : !strcmp(type, "WordPiece") ? TOK_WORDPIECE
        : is_byte_level(cutter)      ? TOK_BPE
                                     : TOK_BPE_CHARS;
    return 0;
}

/* -- tokenizer_config.json -- */

int32_t tok_def_find(const struct tok_def *d, struct tok_text text)
{
    for (int32_t i = 0; i < d->vocab; i++)
        if (d->kinds[i] != TOK_UNUSED && d->tokens[i].len == text.len &&
            !memcmp(d->tokens[i].s, text.s, text.len))
            return i;
    return -1;
}

/* A token is named by its text, or by an object with content. */
static int32_t named_token(const struct tok_def *d, const struct json *v)
{
    const char *text = json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
    return text ? tok_def_find(d, (struct tok_text){text, strlen(text)}) : -1;
}

/* What transformers adds to a tokenizer.json that it has read: the flags of added_tokens_decoder,
   and that tokens with a name are special. Tokens that tokenizer.json lacks stay unknown. */
void tok_def_config(struct tok_def *d, const struct json *config)
{
    static const char *const names[] = {
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    json_each (v, json_get(config, "added_tokens_decoder")) {
        char *end;
        long id = strtol(json_key(v), &end, 10);
        const char *content = json_str(v, "content", "");
        if (!*end && id >= 0 && id < d->vocab && *content && d->kinds[id] != TOK_UNUSED &&
            d->tokens[id].len == strlen(content) &&
            !memcmp(d->tokens[id].s, content, d->tokens[id].len))
            set_added(d, (int32_t)id, v);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = named_token(d, json_get(config, names[i]));
        if (id >= 0)
            d->kinds[id] = TOK_SPECIAL;
    }
    d->bos = named_token(d, json_get(config, "bos_token"));
    d->eos = named_token(d, json_get(config, "eos_token"));
    int32_t pad = named_token(d, json_get(config, "pad_token"));
    d->pad = pad >= 0 ? pad : d->pad;
    d->mask = named_token(d, json_get(config, "mask_token"));
    int32_t usual = tok_def_find(d, (struct tok_text){"[MASK]", strlen("[MASK]")});
    if (d->mask < 0 && usual >= 0 && d->kinds[usual] == TOK_SPECIAL)
        d->mask = usual;
}

/* transformers makes a BERT's tokenizer, by its class, of the vocabulary and the configuration
   alone: what tokenizer.json says of normalising and cutting does not count. */
static int read_class(struct tok_json *r, const struct json *config, struct err *e)
{
    static const char *const berts[] = {"BertTokenizer", "BertTokenizerFast", "ElectraTokenizer",
        "ElectraTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast"};
    const char *class = json_str(config, "tokenizer_class", "");
    size_t i = 0;
    while (i < sizeof berts / sizeof *berts && strcmp(class, berts[i]))
        i++;
    if (i == sizeof berts / sizeof *berts || r->d.model != TOK_WORDPIECE)
        return 0;
    r->d.steps.count = r->d.stage_count = 0;
    r->d.wordpiece.prefix = (struct tok_text){"##", 2};
    r->d.wordpiece.word_limit = TOK_BERT_WORD_LIMIT;
    return tok_json_bert(r, config, e);
}

int tok_def_json(const struct json *root, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e)
{
    struct tok_json r = {.path = path, .a = a};
    const struct json *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    int rc;
    if ((rc = check_model(&r, model, json_get(root, "pre_tokenizer"), e)) ||
        (rc = tok_json_normalizer(&r, json_get(root, "normalizer"), e)) ||
        (rc = tok_json_pre_tokenizer(&r, json_get(root, "pre_tokenizer"), e)) ||
        (rc = read_vocab(&r, json_get(model, "vocab"), added, e)))
        return rc;
    read_added(&r, added);
    const struct json *decoder = json_get(root, "decoder");
    rc = r.d.model == TOK_WORDPIECE ? read_wordpiece(&r, model, decoder, e)
        : r.d.model == TOK_UNIGRAM  ? read_unigram(&r, model, decoder, e)
                                    : read_bpe(&r, model, decoder, e);
    tok_def_pair(&r.d, TOK_PAIR_EACH);
    if (rc || (rc = tok_json_post_processor(&r, json_get(root, "post_processor"), e)))
        return rc;
    if (!tok_json_id(json_path(root, "padding.pad_id"), &r.d.pad) || r.d.pad >= r.d.vocab)
        r.d.pad = -1;
    if ((rc = read_class(&r, config, e)))
        return rc;
    tok_def_config(&r.d, config);
    *out = r.d;
    return 0;
}
