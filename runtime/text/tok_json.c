/*
 * tok_json: tokenizer.json of Hugging Face's tokenizers, read and written. Reading takes the
 * byte-level BPE family: model BPE, pre-tokenizers ByteLevel, Split (by expression, isolated),
 * Digits and sequences of them. Writing spells every stage as a Split, which the reference applies
 * to the same effect. Strings of a definition live in the tree it was read from.
 */
#include "runtime/text/tok_def.h"

#include "base/io.h"
#include "api/limits.h"
#include "runtime/family/weights.h"

#include <math.h>

/* The largest published ones have 33 MB and 1.9 million values, of which each costs 100 bytes: so
 * reading takes at most 260 MiB, which are free again when the tables are made. */
#define TOKENIZER_FILE_LIMIT  (48 << 20)
#define TOKENIZER_FILE_VALUES ((size_t)2 << 20)

struct reader {
    const char *path;
    struct arena *a;
    struct tok_def d;
    bool byte_level;
};

static int unsupported(const struct reader *r, const char *what, const char *value, struct err *e)
{
    return err_set(
        e, ERR_DATA, "%s: %s \"%.40s\" is not supported", r->path, what, value ? value : "?");
}

static int no_memory(const struct reader *r, struct err *e)
{
    return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", r->path);
}

static int add_pattern(struct reader *r, const char *pattern, struct err *e)
{
    if (r->d.pattern_count == TOK_SPLIT_STAGES)
        return err_set(
            e, ERR_DATA, "%s: more than %d pre-tokenizer stages", r->path, TOK_SPLIT_STAGES);
    r->d.patterns[r->d.pattern_count++] = pattern;
    return 0;
}

static int read_split(struct reader *r, const struct json *v, struct err *e)
{
    const char *pattern = json_str(json_get(v, "pattern"), "Regex", NULL);
    const char *behavior = json_str(v, "behavior", "");
    if (!pattern)
        return unsupported(r, "pre-tokenizer Split by", "String", e);
    if (strcmp(behavior, "Isolated") || json_bool(v, "invert", false))
        return unsupported(r, "pre-tokenizer Split with behavior", behavior, e);
    return add_pattern(r, pattern, e);
}

static int read_byte_level(struct reader *r, const struct json *v, struct err *e)
{
    if (json_bool(v, "add_prefix_space", true))
        return unsupported(r, "pre-tokenizer ByteLevel with", "add_prefix_space", e);
    r->byte_level = true;
    if (!json_bool(v, "use_regex", true))
        return 0;
    return add_pattern(r,
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
        "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        e);
}

static int read_pre_tokenizer(struct reader *r, const struct json *v, struct err *e)
{
    const char *type = json_str(v, "type", "none");
    if (r->byte_level)
        return unsupported(r, "pre-tokenizer after ByteLevel:", type, e);
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(r, v, e);
    if (!strcmp(type, "Split"))
        return read_split(r, v, e);
    if (!strcmp(type, "Digits"))
        return add_pattern(r, json_bool(v, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", e);
    return unsupported(r, "pre-tokenizer", type, e);
}

static int read_stages(struct reader *r, const struct json *v, struct err *e)
{
    int rc = 0;
    if (strcmp(json_str(v, "type", ""), "Sequence")) {
        rc = read_pre_tokenizer(r, v, e);
    } else {
        json_each (stage, json_get(v, "pretokenizers")) {
            rc = read_pre_tokenizer(r, stage, e);
            if (rc)
                return rc;
        }
    }
    if (!rc && !r->byte_level)
        rc = unsupported(r, "tokenizer that is not", "ByteLevel", e);
    return rc;
}

static int read_normalizer(struct reader *r, const struct json *v, struct err *e)
{
    if (!v || json_is_null(v))
        return 0;
    const char *type = json_str(v, "type", "?");
    if (strcmp(type, "NFC"))
        return unsupported(r, "normalizer", type, e);
    r->d.nfc = true;
    return 0;
}

/* An id of the file: whole, and small enough for tables to be sized by it. */
static bool valid_id(const struct json *v, int32_t *out)
{
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 0 && d < TOK_VOCAB_LIMIT) || d != floor(d))
        return false;
    *out = (int32_t)d;
    return true;
}

static int read_vocab(
    struct reader *r, const struct json *vocab, const struct json *added, struct err *e)
{
    struct tok_def *d = &r->d;
    int32_t id = -1;
    json_each (v, vocab) {
        if (!valid_id(v, &id))
            return err_set(
                e, ERR_DATA, "%s: token \"%.40s\" has no valid id", r->path, json_key(v));
        if (id >= d->vocab)
            d->vocab = id + 1;
    }
    json_each (v, added) {
        if (!valid_id(json_get(v, "id"), &id) || !json_str(v, "content", NULL))
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
        return no_memory(r, e);
    json_each (v, vocab) {
        valid_id(v, &id);
        if (d->kinds[id] != TOK_UNUSED)
            return err_set(e, ERR_DATA, "%s: id %d stands twice", r->path, id);
        d->tokens[id] = (struct tok_text){json_key(v), strlen(json_key(v))};
        d->kinds[id] = TOK_NORMAL;
    }
    return 0;
}

static void set_added(struct tok_def *d, int32_t id, const struct json *v)
{
    static const char *const names[] = {"lstrip", "rstrip", "single_word", "normalized"};
    const char *content = json_str(v, "content", "");
    d->tokens[id] = (struct tok_text){content, strlen(content)};
    d->kinds[id] = json_bool(v, "special", false) ? TOK_SPECIAL : TOK_ADDED;
    d->flags[id] = 0;
    for (int i = 0; i < 4; i++)
        if (json_bool(v, names[i], false))
            d->flags[id] |= (uint8_t)(1 << i); /* as enum tok_flag counts them */
}

static void read_added(struct reader *r, const struct json *added)
{
    json_each (v, added) {
        int32_t id = -1;
        valid_id(json_get(v, "id"), &id);
        set_added(&r->d, id, v);
    }
}

static int read_merges(struct reader *r, const struct json *merges, struct err *e)
{
    size_t count = json_count(merges), i = 0;
    if (!json_is_array(merges) || count > TOK_MERGES_LIMIT)
        return err_set(
            e, ERR_DATA, "%s: merges are no list of at most %d", r->path, TOK_MERGES_LIMIT);
    r->d.merges = arena_array(r->a, count + 1, sizeof *r->d.merges);
    if (!r->d.merges)
        return no_memory(r, e);
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

static int check_model(struct reader *r, const struct json *model, struct err *e)
{
    const char *type = json_str(model, "type", "BPE");
    if (strcmp(type, "BPE"))
        return err_set(
            e, ERR_DATA, "%s: model \"%.40s\"; what is read: BPE of bytes", r->path, type);
    if (json_num(model, "dropout", 0) != 0)
        return unsupported(r, "model with", "dropout", e);
    if (json_bool(model, "byte_fallback", false))
        return unsupported(r, "model with", "byte_fallback", e);
    if (*json_str(model, "continuing_subword_prefix", "") ||
        *json_str(model, "end_of_word_suffix", ""))
        return unsupported(r, "model with", "prefix or suffix", e);
    r->d.ignore_merges = json_bool(model, "ignore_merges", false);
    return 0;
}

/* -- the post-processor -- */

static int add_affix(struct reader *r, struct tok_affix *to, const struct json *ids, struct err *e)
{
    json_each (v, ids) {
        int32_t id;
        if (!valid_id(v, &id) || id >= r->d.vocab || r->d.kinds[id] == TOK_UNUSED)
            return err_set(e, ERR_DATA, "%s: post_processor: an id is no token's", r->path);
        if (to->count == TOK_AFFIX_LIMIT)
            return err_set(
                e, ERR_DATA, "%s: post_processor: more than %d tokens", r->path, TOK_AFFIX_LIMIT);
        to->id[to->count++] = id;
    }
    return 0;
}

/* What stands before and behind the text, "A" of `single`. */
static int read_template(struct reader *r, const struct json *v, struct err *e)
{
    const struct json *specials = json_get(v, "special_tokens");
    bool seen = false;
    json_each (piece, json_get(v, "single")) {
        const struct json *sequence = json_get(piece, "Sequence");
        const char *id = json_str(json_get(piece, "SpecialToken"), "id", NULL);
        const struct json *ids = id ? json_get(json_get(specials, id), "ids") : NULL;
        if (sequence ? seen || strcmp(json_str(sequence, "id", ""), "A") : !ids)
            return unsupported(r, "post_processor TemplateProcessing with piece",
                id ? id : json_str(sequence, "id", NULL), e);
        seen = seen || sequence;
        int rc = add_affix(r, seen ? &r->d.suffix : &r->d.prefix, ids, e);
        if (rc)
            return rc;
    }
    return seen ? 0 : unsupported(r, "post_processor TemplateProcessing without", "A", e);
}

/* Of Bert and Roberta: ["</s>", 2]. */
static int read_pair(struct reader *r, struct tok_affix *to, const struct json *pair, struct err *e)
{
    const struct json *id = json_next(json_first(pair));
    int32_t unused;
    if (json_count(pair) != 2 || !valid_id(id, &unused))
        return unsupported(r, "post_processor with", "cls or sep", e);
    json_auto struct json *list = json_new_array();
    int rc = json_push(list, json_new_number(json_number_value(id)));
    return rc ? no_memory(r, e) : add_affix(r, to, list, e);
}

static int read_post(struct reader *r, const struct json *v, struct err *e)
{
    const char *type = json_str(v, "type", "none");
    int rc = 0;
    if (!v || json_is_null(v) || !strcmp(type, "ByteLevel")) /* it only trims offsets */
        return 0;
    if (!strcmp(type, "Sequence")) {
        json_each (stage, json_get(v, "processors")) {
            rc = strcmp(json_str(stage, "type", ""), "Sequence")
                ? read_post(r, stage, e)
                : unsupported(r, "post_processor within Sequence:", "Sequence", e);
            if (rc)
                return rc;
        }
        return 0;
    }
    if (r->d.prefix.count || r->d.suffix.count)
        return unsupported(r, "a second post_processor:", type, e);
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(r, v, e);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return unsupported(r, "post_processor", type, e);
    rc = read_pair(r, &r->d.prefix, json_get(v, "cls"), e);
    return rc ? rc : read_pair(r, &r->d.suffix, json_get(v, "sep"), e);
}

/* -- tokenizer_config.json -- */

static int32_t token_of(const struct tok_def *d, const char *text)
{
    for (int32_t i = 0; text && i < d->vocab; i++)
        if (d->kinds[i] != TOK_UNUSED && d->tokens[i].len == strlen(text) &&
            !memcmp(d->tokens[i].s, text, d->tokens[i].len))
            return i;
    return -1;
}

/* A token is named by its text, or by an object with content. */
static int32_t named_token(const struct tok_def *d, const struct json *v)
{
    return token_of(d, json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v));
}

/* What transformers adds to a tokenizer.json that it has read: the flags of added_tokens_decoder,
   and that tokens with a name are special. Tokens that tokenizer.json lacks stay unknown. */
static void read_config(struct tok_def *d, const struct json *config)
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
}

int tok_def_json(const struct json *root, const struct json *config, const char *path,
    struct arena *a, struct tok_def *out, struct err *e)
{
    struct reader r = {.path = path, .a = a};
    const struct json *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    if (!json_is_object(json_get(model, "vocab")))
        return err_set(e, ERR_DATA, "%s: model.vocab is missing", path);
    int rc;
    if ((rc = check_model(&r, model, e)) ||
        (rc = read_normalizer(&r, json_get(root, "normalizer"), e)) ||
        (rc = read_stages(&r, json_get(root, "pre_tokenizer"), e)) ||
        (rc = read_vocab(&r, json_get(model, "vocab"), added, e)))
        return rc;
    read_added(&r, added);
    if ((rc = read_merges(&r, json_get(model, "merges"), e)) ||
        (rc = read_post(&r, json_get(root, "post_processor"), e)))
        return rc;
    read_config(&r.d, config);
    *out = r.d;
    return 0;
}

/* Reads folder/name; absent and optional: *out stays NULL. */
static int read_file(const char *folder, const char *name, bool optional, struct json **out,
    char path[LIMIT_PATH_BYTES], struct err *e)
{
    if (snprintf(path, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_DATA, "%s: path too long", folder);
    if (optional && !io_exists(path))
        return 0;
    return json_read_file_within(path, TOKENIZER_FILE_LIMIT, TOKENIZER_FILE_VALUES, out, e);
}

int tok_open_folder(const char *folder, int32_t bos, int32_t eos, struct tok **out, struct err *e)
{
    json_auto struct json *root = NULL, *config = NULL;
    char path[LIMIT_PATH_BYTES];
    int rc;
    if ((rc = read_file(folder, "tokenizer_config.json", true, &config, path, e)) ||
        (rc = read_file(folder, "tokenizer.json", false, &root, path, e)))
        return rc;
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    struct tok_def d;
    rc = tok_def_json(root, config, path, a, &d, e);
    if (rc)
        return rc;
    d.bos = d.bos < 0 ? bos : d.bos;
    d.eos = d.eos < 0 ? eos : d.eos;
    return tok_create(&d, path, out, e);
}

static int open_gguf(const struct gguf *g, const char *path, struct tok **out, struct err *e)
{
    arena_auto struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory for a vocabulary");
    struct tok_def d;
    int rc = tok_def_gguf(g, a, &d, e);
    return rc ? rc : tok_create(&d, path, out, e);
}

/* Ids that the model's embedding lacks are refused here. */
int tok_open(struct weights *w, struct tok **out, struct err *e)
{
    struct tok *t = NULL;
    int rc;
    if (weights_gguf(w)) {
        rc = open_gguf(weights_gguf(w), weights_path(w), &t, e);
    } else {
        rc = tok_open_folder(
            weights_path(w), weights_config(w)->bos_id, weights_config(w)->eos_id, &t, e);
    }
    if (rc)
        return rc;
    if (tok_vocab(t) > weights_config(w)->vocab) {
        rc = err_set(e, ERR_DATA, "%s: tokenizer has %d tokens, the model %lld", weights_path(w),
            tok_vocab(t), (long long)weights_config(w)->vocab);
        tok_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

/* -- writing -- */

static void write_added(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "added_tokens", '[');
    for (int32_t i = 0; i < d->vocab; i++) {
        if (d->kinds[i] != TOK_ADDED && d->kinds[i] != TOK_SPECIAL)
            continue;
        jsonw_open(w, NULL, '{');
        jsonw_int(w, "id", i);
        jsonw_strn(w, "content", d->tokens[i].s, d->tokens[i].len);
        uint8_t flags = d->flags ? d->flags[i] : 0;
        jsonw_bool(w, "single_word", flags & TOK_SINGLE_WORD);
        jsonw_bool(w, "lstrip", flags & TOK_LSTRIP);
        jsonw_bool(w, "rstrip", flags & TOK_RSTRIP);
        jsonw_bool(w, "normalized", flags & TOK_NORMALIZED);
        jsonw_bool(w, "special", d->kinds[i] == TOK_SPECIAL);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_byte_level(struct jsonw *w, const char *key)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "type", "ByteLevel");
    jsonw_bool(w, "add_prefix_space", false);
    jsonw_bool(w, "trim_offsets", true);
    jsonw_bool(w, "use_regex", false);
    jsonw_close(w);
}

static void write_piece(struct jsonw *w, const char *kind, const char *id, size_t len, int type)
{
    jsonw_open(w, NULL, '{');
    jsonw_open(w, kind, '{');
    jsonw_strn(w, "id", id, len);
    jsonw_int(w, "type_id", type);
    jsonw_close(w);
    jsonw_close(w);
}

/* The affixes around each of `sequences`. */
static void write_template(
    const struct tok_def *d, const char *key, const char *sequences, struct jsonw *w)
{
    jsonw_open(w, key, '[');
    for (int type = 0; sequences[type]; type++) {
        for (int i = 0; i < d->prefix.count; i++)
            write_piece(w, "SpecialToken", d->tokens[d->prefix.id[i]].s,
                d->tokens[d->prefix.id[i]].len, type);
        write_piece(w, "Sequence", sequences + type, 1, type);
        for (int i = 0; i < d->suffix.count; i++)
            write_piece(w, "SpecialToken", d->tokens[d->suffix.id[i]].s,
                d->tokens[d->suffix.id[i]].len, type);
    }
    jsonw_close(w);
}

/* A token's text as a key. No memory for it fails the whole text: no token may stand by another
   name. */
static const char *key_of(const struct tok_def *d, int32_t id, struct jsonw *w, struct arena *a)
{
    const char *key = arena_printf(a, "%.*s", (int)d->tokens[id].len, d->tokens[id].s);
    w->out->failed = w->out->failed || !key;
    return key ? key : "";
}

static void write_special(const struct tok_def *d, int32_t id, struct jsonw *w, struct arena *a)
{
    struct tok_text t = d->tokens[id];
    jsonw_open(w, key_of(d, id, w, a), '{');
    jsonw_strn(w, "id", t.s, t.len);
    jsonw_open(w, "ids", '[');
    jsonw_int(w, NULL, id);
    jsonw_close(w);
    jsonw_open(w, "tokens", '[');
    jsonw_strn(w, NULL, t.s, t.len);
    jsonw_close(w);
    jsonw_close(w);
}

static void write_post(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    int32_t ids[2 * TOK_AFFIX_LIMIT];
    int n = d->prefix.count, count = n + d->suffix.count;
    if (!count) {
        write_byte_level(w, "post_processor");
        return;
    }
    memcpy(ids, d->prefix.id, sizeof d->prefix.id);
    memcpy(ids + n, d->suffix.id, sizeof d->suffix.id);
    jsonw_open(w, "post_processor", '{');
    jsonw_str(w, "type", "TemplateProcessing");
    write_template(d, "single", "A", w);
    write_template(d, "pair", "AB", w);
    jsonw_open(w, "special_tokens", '{');
    for (int i = 0, same; i < count; i++) {
        for (same = 0; ids[same] != ids[i];)
            same++;
        if (same == i) /* each once */
            write_special(d, ids[i], w, a);
    }
    jsonw_close(w);
    jsonw_close(w);
}

static void write_stages(const struct tok_def *d, struct jsonw *w)
{
    jsonw_open(w, "pre_tokenizer", '{');
    jsonw_str(w, "type", "Sequence");
    jsonw_open(w, "pretokenizers", '[');
    for (int i = 0; i < d->pattern_count; i++) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "type", "Split");
        jsonw_open(w, "pattern", '{');
        jsonw_str(w, "Regex", d->patterns[i]);
        jsonw_close(w);
        jsonw_str(w, "behavior", "Isolated");
        jsonw_bool(w, "invert", false);
        jsonw_close(w);
    }
    write_byte_level(w, NULL);
    jsonw_close(w);
    jsonw_close(w);
}

static void write_model(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
    jsonw_open(w, "model", '{');
    jsonw_str(w, "type", "BPE");
    jsonw_null(w, "dropout");
    jsonw_null(w, "unk_token");
    jsonw_null(w, "continuing_subword_prefix");
    jsonw_null(w, "end_of_word_suffix");
    jsonw_bool(w, "fuse_unk", false);
    jsonw_bool(w, "byte_fallback", false);
    jsonw_bool(w, "ignore_merges", d->ignore_merges);
    jsonw_open(w, "vocab", '{');
    for (int32_t i = 0; i < d->vocab; i++) {
        if (d->kinds[i] == TOK_UNUSED)
            continue;
        jsonw_int(w, key_of(d, i, w, a), i);
    }
    jsonw_close(w);
    jsonw_open(w, "merges", '[');
    for (int64_t i = 0; i < d->merge_count; i++) {
        jsonw_open(w, NULL, '[');
        for (int k = 0; k < 2; k++)
            jsonw_strn(w, NULL, d->merges[i][k].s, d->merges[i][k].len);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
}

int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e)
{
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "version", "1.0");
    jsonw_null(&w, "truncation");
    jsonw_null(&w, "padding");
    write_added(d, &w);
    if (d->nfc) {
        jsonw_open(&w, "normalizer", '{');
        jsonw_str(&w, "type", "NFC");
        jsonw_close(&w);
    } else {
        jsonw_null(&w, "normalizer");
    }
    write_stages(d, &w);
    write_post(d, &w, a);
    write_byte_level(&w, "decoder");
    write_model(d, &w, a);
    jsonw_close(&w);
    int rc = jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory to write a tokenizer") : 0;
    arena_destroy(a);
    return rc;
}
