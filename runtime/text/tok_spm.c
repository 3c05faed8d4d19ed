/*
 * tok_spm: SentencePiece's own files (tokenizer.model, spiece.model): a protobuf message of pieces,
 * each with its score and kind, and of what the vocabulary was trained with. A folder that has no
 * other file of its tokenizer is read as transformers reads it: its class says the rest, and what
 * the message says of normalising counts for its table of characters alone. Source:
 * sentencepiece's src/sentencepiece_model.proto. Declared in tok_def.h.
 */
#include "runtime/text/tok_charsmap.h"
#include "runtime/text/tok_pieces.h"

#include "base/utf8.h"

#include <math.h>

enum { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };
enum {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN,
    PIECE_CONTROL,
    PIECE_USER_DEFINED,
    PIECE_UNUSED,
    PIECE_BYTE
};
#define ADDED_LIMIT 4096 /* tokens behind the pieces */
#define T5_UNKNOWN  2

struct spm_field {
    uint32_t number, wire;
    uint64_t value;       /* of a varint, a number of 32 or 64 bits */
    struct tok_text text; /* of bytes */
};

struct spm_bytes {
    const uint8_t *p;
    size_t left;
};

struct spm {
    const char *path;
    struct arena *a;
    struct spm_bytes all;
    int32_t pieces;
    int64_t model_type;
    struct tok_text charsmap;
    struct tok_def d;
};

/* -- the wire format -- */

static struct spm_bytes message_of(struct tok_text t)
{
    return (struct spm_bytes){(const uint8_t *)t.s, t.len};
}

static bool take_varint(struct spm_bytes *m, uint64_t *out)
{
    *out = 0;
    for (unsigned int shift = 0; m->left && shift < 64; shift += 7) {
        uint8_t b = *m->p++;
        m->left--;
        *out |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

static bool take_fixed(struct spm_bytes *m, size_t n, uint64_t *out)
{
    if (m->left < n)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)m->p[i] << 8 * i;
    m->p += n;
    m->left -= n;
    return true;
}

/* The next field; false: what stands there is none. */
static bool take_field(struct spm_bytes *m, struct spm_field *f)
{
    uint64_t key;
    if (!take_varint(m, &key) || key >> 3 > UINT32_MAX)
        return false;
    *f = (struct spm_field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    if (f->wire == WIRE_VARINT)
        return take_varint(m, &f->value);
    if (f->wire == WIRE_64 || f->wire == WIRE_32)
        return take_fixed(m, f->wire == WIRE_64 ? 8 : 4, &f->value);
    uint64_t len;
    if (f->wire != WIRE_BYTES || !take_varint(m, &len) || len > m->left)
        return false;
    f->text = (struct tok_text){(const char *)m->p, (size_t)len};
    m->p += len;
    m->left -= (size_t)len;
    return true;
}

/* -- the message -- */

static int no_message(const struct spm *r, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: is no file of SentencePiece's", r->path);
}

/* What counts before the pieces are read. */
static int read_outline(struct spm *r, struct err *e)
{
    struct spm_bytes m = r->all, spec;
    struct spm_field f, x;
    r->model_type = MODEL_UNIGRAM;
    while (m.left) {
        if (!take_field(&m, &f))
            return no_message(r, e);
        if (f.number < 1 || f.number > 3 || f.wire != WIRE_BYTES)
            continue;
        if (f.number == 1) {
            if (r->pieces++ == TOK_VOCAB_LIMIT - ADDED_LIMIT)
                return err_set(
                    e, ERR_DATA, "%s: more than %d pieces", r->path, TOK_VOCAB_LIMIT - ADDED_LIMIT);
            continue;
        }
        for (spec = message_of(f.text); spec.left;) {
            if (!take_field(&spec, &x))
                return no_message(r, e);
            if (f.number == 2 && x.number == 3 && x.wire == WIRE_VARINT)
                r->model_type = (int64_t)x.value;
            if (f.number == 3 && x.number == 2 && x.wire == WIRE_BYTES)
                r->charsmap = x.text;
        }
    }
    return r->pieces ? 0 : no_message(r, e);
}

static int read_piece(struct spm *r, int32_t i, struct tok_text text, struct err *e)
{
    struct spm_bytes m = message_of(text);
    struct spm_field f;
    uint64_t type = PIECE_NORMAL, bits = 0;
    struct tok_text *token = &r->d.tokens[i];
    float score;
    while (m.left) {
        if (!take_field(&m, &f))
            return no_message(r, e);
        if (f.number == 1 && f.wire == WIRE_BYTES)
            *token = f.text;
        else if (f.number == 2 && f.wire == WIRE_32)
            bits = f.value;
        else if (f.number == 3 && f.wire == WIRE_VARINT)
            type = f.value;
    }
    memcpy(&score, &(uint32_t){(uint32_t)bits}, sizeof score);
    if (!token->len || utf8_valid_prefix(token->s, token->len) < token->len ||
        memchr(token->s, 0, token->len))
        return err_set(e, ERR_DATA, "%s: piece %d is no text", r->path, i);
    if (type < PIECE_NORMAL || type > PIECE_BYTE || !isfinite(score))
        return err_set(e, ERR_DATA, "%s: piece %d has no valid %s", r->path, i,
            isfinite(score) ? "kind" : "score");
    r->d.scores[i] = (double)score;
    r->d.kinds[i] = type == PIECE_CONTROL ? TOK_SPECIAL
        : type == PIECE_USER_DEFINED      ? TOK_ADDED
                                          : TOK_NORMAL;
    r->d.flags[i] = TOK_OF_MODEL;
    return 0;
}

/* -- what tokenizer_config.json adds -- */

/* As many tokens as its added_tokens_decoder has behind the pieces. */
static int count_tokens(struct spm *r, const struct json *config, struct err *e)
{
    r->d.vocab = r->pieces;
    json_each (v, json_get(config, "added_tokens_decoder")) {
        char *end;
        long id = strtol(json_key(v), &end, 10);
        if (*end || id < 0 || id >= r->pieces + ADDED_LIMIT || !json_str(v, "content", NULL))
            return err_set(e, ERR_DATA,
                "%s: \"%.40s\" of added_tokens_decoder is no token's number", r->path, json_key(v));
        if (id >= r->d.vocab)
            r->d.vocab = (int32_t)id + 1;
    }
    for (int32_t id = r->pieces; id < r->d.vocab; id++) {
        char key[16];
        snprintf(key, sizeof key, "%d", id);
        if (!json_get(json_get(config, "added_tokens_decoder"), key))
            return err_set(e, ERR_DATA, "%s: added_tokens_decoder has no token %d", r->path, id);
    }
    return 0;
}

static void put_added(struct spm *r, const struct json *config)
{
    json_each (v, json_get(config, "added_tokens_decoder")) {
        long id = strtol(json_key(v), NULL, 10);
        const char *content = json_str(v, "content", "");
        if (id < r->pieces)
            continue;
        r->d.tokens[id] = (struct tok_text){content, strlen(content)};
        r->d.kinds[id] = TOK_ADDED;
    }
}

static int read_pieces(struct spm *r, const struct json *config, struct err *e)
{
    struct spm_bytes m = r->all;
    struct spm_field f;
    int32_t i = 0;
    int rc = count_tokens(r, config, e);
    if (rc)
        return rc;
    size_t count = (size_t)r->d.vocab;
    r->d.tokens = arena_array(r->a, count, sizeof *r->d.tokens);
    r->d.kinds = arena_array(r->a, count, 1);
    r->d.flags = arena_array(r->a, count, 1);
    r->d.scores = arena_array(r->a, count, sizeof *r->d.scores);
    if (!r->d.tokens || !r->d.kinds || !r->d.flags || !r->d.scores)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", r->path);
    while (!rc && m.left && take_field(&m, &f))
        if (f.number == 1 && f.wire == WIRE_BYTES)
            rc = read_piece(r, i++, f.text, e);
    if (!rc)
        put_added(r, config);
    return rc;
}

/* A token that the configuration, or else the class, names. */
static int32_t name_token(
    struct spm *r, const struct json *config, const char *key, const char *usual)
{
    const struct json *v = json_get(config, key);
    const char *text = json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
    if (!text && v && json_is_null(v))
        return -1;
    text = text ? text : usual;
    int32_t id = tok_def_find(&r->d, (struct tok_text){text, strlen(text)});
    if (id >= 0)
        r->d.kinds[id] = TOK_SPECIAL;
    return id;
}

static void put_affix(struct tok_affix *a, bool wanted, int32_t id)
{
    *a = (struct tok_affix){.id = {id}, .count = wanted && id >= 0};
}

/* LlamaTokenizer: nothing is normalised, U+2581 for spaces, bytes for unknown characters. */
static int read_llama(struct spm *r, const struct json *config, struct err *e)
{
    struct tok_def *d = &r->d;
    d->model = TOK_BPE_CHARS;
    d->scores = NULL;
    d->chars = (struct tok_chars_def){.fuse = true, .byte_fallback = true, .decodes_bytes = true};
    d->chars.unknown = name_token(r, config, "unk_token", "<unk>");
    d->bos = name_token(r, config, "bos_token", "<s>");
    d->eos = name_token(r, config, "eos_token", "</s>");
    d->spaces = !json_bool(config, "add_prefix_space", true) ? TOK_SPACES_MARKED
        : json_bool(config, "legacy", false)                 ? TOK_SPACES_BEFORE_ALL
                                                             : TOK_SPACES_BEFORE_FIRST;
    put_affix(&d->prefix, json_bool(config, "add_bos_token", false), d->bos);
    put_affix(&d->suffix, json_bool(config, "add_eos_token", false), d->eos);
    tok_def_pair(d, TOK_PAIR_EACH);
    return tok_pieces_merges(d, NULL, r->a, r->path, e);
}

/* T5Tokenizer: the table of characters, then words. */
static int read_t5(struct spm *r, const struct json *config, struct err *e)
{
    struct tok_def *d = &r->d;
    if (json_int(config, "extra_ids", 100))
        return err_set(e, ERR_DATA,
            "%s: T5Tokenizer adds tokens where extra_ids is not 0 in tokenizer_config.json, which "
            "is not supported",
            r->path);
    if (r->charsmap.len && !tok_charsmap_check(r->charsmap))
        return err_set(e, ERR_DATA, "%s: precompiled_charsmap is no such table", r->path);
    if (r->pieces <= T5_UNKNOWN)
        return no_message(r, e);
    d->model = TOK_UNIGRAM;
    d->chars = (struct tok_chars_def){.unknown = T5_UNKNOWN, .fuse = true};
    name_token(r, config, "unk_token", "<unk>");
    d->eos = name_token(r, config, "eos_token", "</s>");
    d->pad = name_token(r, config, "pad_token", "<pad>");
    d->steps =
        (struct tok_steps){{{.kind = TOK_STEP_CHARSMAP, .from = r->charsmap}}, r->charsmap.len > 0};
    d->spaces = TOK_SPACES_BEFORE_ALL;
    d->stages[0] = (struct tok_stage){"\\s+", TOK_SPLIT_DROP_MATCHES};
    d->stages[1] = (struct tok_stage){TOK_SPACES_STAGE, TOK_SPLIT_DROP_NONE};
    d->stage_count = 2;
    put_affix(&d->suffix, true, d->eos);
    tok_def_pair(d, TOK_PAIR_T5);
    return 0;
}

static int read_class(struct spm *r, const struct json *config, struct err *e)
{
    const char *class = json_str(config, "tokenizer_class", NULL);
    bool unigram = r->model_type == MODEL_UNIGRAM;
    if (!unigram && r->model_type != MODEL_BPE)
        return err_set(e, ERR_DATA,
            "%s: its model is of words or characters; what is read: BPE, Unigram", r->path);
    if (!class)
        return err_set(e, ERR_DATA,
            "%s: says how to read it only with a tokenizer_class in tokenizer_config.json",
            r->path);
    const char *wanted = unigram ? "T5Tokenizer" : "LlamaTokenizer";
    size_t n = strlen(wanted);
    if (strncmp(class, wanted, n) || (class[n] && strcmp(class + n, "Fast")))
        return err_set(e, ERR_DATA, "%s: tokenizer_class \"%.40s\" of a %s; what is read: %s",
            r->path, class, unigram ? "Unigram" : "BPE", wanted);
    return unigram ? read_t5(r, config, e) : read_llama(r, config, e);
}

int tok_def_spm(struct tok_text file, const struct json *config, const char *path, struct arena *a,
    struct tok_def *out, struct err *e)
{
    struct spm r = {.path = path, .a = a, .all = message_of(file)};
    r.d.bos = r.d.eos = r.d.pad = -1;
    int rc;
    if ((rc = read_outline(&r, e)) || (rc = read_pieces(&r, config, e)) ||
        (rc = read_class(&r, config, e)))
        return rc;
    int32_t bos = r.d.bos, eos = r.d.eos, pad = r.d.pad;
    tok_def_config(&r.d, config);
    r.d.bos = bos;
    r.d.eos = eos;
    r.d.pad = pad >= 0 ? pad : r.d.pad;
    *out = r.d;
    return 0;
}
