/*
 * corpus: the key is a digest of the content, so a file that was changed, or a tokenizer that was,
 * makes another file of tokens, and the same content under another name does not. A file that is
 * found damaged is made anew. What was read of the text is given back page by page.
 */
#include "runtime/data/corpus.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "runtime/data/dialogue.h"
#include "runtime/data/internal.h"
#include "runtime/data/pair.h"
#include "runtime/data/source.h"
#include "runtime/files/hash.h"

#include <string.h>

#define LINE_LIMIT (64 << 20)         /* bytes of one JSONL line */
#define PART       ((size_t)1 << 20)  /* bytes of text that are tokenised at once */
#define PIECE      ((size_t)16 << 20) /* bytes read between two signs of life */
#define TOLD       10                 /* records that are left out with their reason in the log */
/* Raised when the same text and tokenizer make other ids than before. */
#define MAKE       1

enum record { RECORD_NONE, RECORD_TEXT, RECORD_MESSAGES, RECORD_COMPLETION, RECORD_PAIR };

struct making {
    const struct corpus *c;
    enum data_format format;
    enum record kind; /* of all records; NONE: none was read */
    int64_t skipped, bytes;
    struct tokens_writer *out;
    struct tok_ids ids; /* not yet given to it */
    /* of the file in hand */
    const char *path;
    const struct io_map *map;
    const char *text;       /* without a byte order mark */
    size_t size, forgotten; /* forgotten: bytes of the map */
};

/* -- what there is -- */

static int format_of(const char *path, enum data_format *format, struct err *e)
{
    bool guessed = *format == FORMAT_AUTO;
    int rc = source_check(path, NULL, 0, e);
    if (rc)
        return rc;
    *format = guessed ? source_format(path) : *format;
    if (guessed && (*format == FORMAT_CSV || *format == FORMAT_TSV))
        *format = FORMAT_AUTO; /* of labels */
    if (*format == FORMAT_AUTO)
        return err_set(e, ERR_USER,
            "%s: format Auto knows .txt, .text, .md, .jsonl and .ndjson, also with .gz or .zst: "
            "set the field format beside it to Text or JSONL",
            path);
    if (*format == FORMAT_CONLL)
        return err_set(e, ERR_USER,
            "%s: sentences with labels are for spec.train.objective TokenClassification", path);
    return 0;
}

/* Of all files, which are of one format. */
static int find_format(
    const struct corpus *c, const struct source *s, enum data_format *format, struct err *e)
{
    *format = c->format;
    int rc = format_of(s->paths[0], format, e);
    for (int i = 1; !rc && i < s->count; i++) {
        enum data_format other = c->format;
        rc = format_of(s->paths[i], &other, e);
        if (!rc && other != *format)
            rc = err_set(e, ERR_USER, "%s: not of the same format as %s, which a corpus has",
                s->paths[i], s->paths[0]);
    }
    if (!rc && c->pairs && *format != FORMAT_JSONL)
        rc = err_set(e, ERR_USER,
            "%s: spec.train.objective: DPO learns from pairs of answers, which are JSONL", c->path);
    if (!rc && c->skip && *format != FORMAT_JSONL)
        rc = err_set(e, ERR_USER,
            "%s: spec.train.data.skipBadRecords: text is one stream, without records", c->path);
    return rc;
}

/* As it stands on storage, packed or not. */
static int add_content(
    const struct corpus *c, const char *path, struct hash_stream *s, struct err *e)
{
    struct io_map map;
    int rc = io_map(path, &map, e);
    if (rc)
        return rc;
    uint64_t size = map.size;
    hash_stream_add(s, &size, sizeof size);
    for (size_t at = 0, n; !rc && at < map.size; at += n) {
        n = map.size - at < PIECE ? map.size - at : PIECE;
        hash_stream_add(s, map.data + at, n);
        io_map_forget(&map, at, at + n);
        rc = tokens_go_on(&c->progress, e);
    }
    io_unmap(&map);
    return rc;
}

static int find_key(const struct corpus *c, const struct source *files, enum data_format format,
    uint64_t *key, struct err *e)
{
    uint64_t chat = format == FORMAT_JSONL && c->chat ? chat_digest(c->chat) : 0;
    const uint64_t how[] = {MAKE, format | (uint64_t)c->pairs << 32, tok_digest(c->tok), chat};
    struct hash_stream *s = NULL;
    int rc = hash_stream_create(&s, e);
    if (rc)
        return rc;
    hash_stream_add(s, how, sizeof how);
    for (int i = 0; i < files->count && !rc; i++) {
        size_t stem = source_stem(files->paths[i]);
        hash_stream_add(s, files->paths[i] + stem, strlen(files->paths[i] + stem) + 1);
        rc = add_content(c, files->paths[i], s, e);
    }
    if (!rc)
        *key = hash_stream_xxh3(s);
    hash_stream_destroy(s);
    return rc;
}

/* 1: it stands there whole; 0: not, or no longer. */
static int find_tokens(const struct corpus *c, uint64_t key, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    struct tokens t;
    struct err why = {0};
    int rc = tokens_path(c->folder, key, path, e);
    if (rc || !io_exists(path))
        return rc;
    rc = tokens_open(path, &t, &why);
    if (!rc) {
        bool ours = t.header.key == key, fewer = t.header.skipped <= c->skip;
        rc = ours ? tokens_verify(&t, tok_vocab(c->tok), &c->progress, &why)
                  : err_set(&why, ERR_CORRUPT, "made of something else");
        tokens_close(&t);
        if (!rc && !fewer) /* reading it again tells which record is bad */
            return 0;
    }
    if (rc == -ERR_CORRUPT) {
        log_warn("tokens are made anew", LOG_S("file", path), LOG_ERR(&why));
        return 0;
    }
    if (rc && e)
        *e = why;
    return rc ? rc : 1;
}

/* -- making -- */

static int64_t line_of(const char *text, size_t offset)
{
    int64_t line = 1;
    for (const char *p = text, *end = text + offset; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        line++;
    return line;
}

/* What was tokenised goes to the file, and text before `at` is not looked at again. */
static int end_part(void *context, const char *at, struct err *e)
{
    struct making *m = context;
    size_t used = (size_t)(at - (const char *)m->map->data);
    int rc = tokens_add(m->out, m->ids.id, m->ids.count, e);
    m->ids.count = 0;
    if (rc || used < m->forgotten + PART / 2)
        return rc;
    io_map_forget(m->map, m->forgotten, used);
    m->forgotten = used;
    return tokens_go_on(&m->c->progress, e);
}

static int check_text(struct making *m, struct err *e)
{
    for (size_t at = 0, n; at < m->size; at += n) {
        size_t have = m->size - at < PIECE ? m->size - at : PIECE;
        n = utf8_valid_prefix(m->text + at, have);
        /* the last character of a piece may go on behind it */
        if (n < have && (at + have == m->size || have - n > 3))
            return err_set(e, ERR_DATA, "%s: line %lld: invalid UTF-8", m->path,
                (long long)line_of(m->text, at + n));
        io_map_forget(m->map, at, at + n);
        int rc = tokens_go_on(&m->c->progress, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* Between two documents of a stream. */
static int add_eos(struct making *m, struct err *e)
{
    int32_t eos = tok_eos(m->c->tok);
    bool ended = m->ids.count && m->ids.id[m->ids.count - 1] == eos;
    return eos < 0 || ended ? 0 : tok_ids_add(&m->ids, eos, e);
}

static int make_text(struct making *m, bool alone, struct err *e)
{
    int rc = check_text(m, e);
    if (rc)
        return rc;
    if (tok_encode_parts(m->c->tok, m->text, (int64_t)m->size, PART, &m->ids, end_part, m, e))
        return err_wrap(e, "%s", m->path);
    rc = alone ? 0 : add_eos(m, e);
    return rc ? rc : end_part(m, m->text + m->size, e);
}

static const char *const record_names[] = {
    [RECORD_TEXT] = "\"text\"",
    [RECORD_MESSAGES] = "\"messages\"",
    [RECORD_COMPLETION] = "\"prompt\" and \"completion\"",
    [RECORD_PAIR] = "\"chosen\" and \"rejected\"",
};

static enum record kind_of(const struct making *m, const struct json *v)
{
    if (m->c->pairs)
        return pair_is(v) ? RECORD_PAIR : RECORD_NONE;
    if (json_str(v, "text", NULL))
        return RECORD_TEXT;
    if (json_get(v, "messages"))
        return RECORD_MESSAGES;
    return json_str(v, "prompt", NULL) && json_str(v, "completion", NULL) ? RECORD_COMPLETION
                                                                          : RECORD_NONE;
}

static int add_text(struct making *m, const char *text, struct err *e)
{
    int rc = tok_encode_document(m->c->tok, text, (int64_t)strlen(text), &m->ids, e);
    return rc ? rc : add_eos(m, e);
}

/* A document with a row of its own. */
static int add_row(struct making *m, enum record kind, const struct json *v, struct err *e)
{
    const struct corpus *c = m->c;
    int64_t learnt = 0;
    int rc;
    if (kind == RECORD_MESSAGES && !c->chat)
        rc = pair_refuse_chat(c->no_chat, e);
    else if (kind == RECORD_MESSAGES)
        rc = dialogue_messages(c->tok, c->chat, json_get(v, "messages"), &m->ids, &learnt, e);
    else
        rc = dialogue_completion(
            c->tok, json_str(v, "prompt", ""), json_str(v, "completion", ""), &m->ids, &learnt, e);
    if (rc)
        return rc;
    rc = tokens_add(m->out, m->ids.id, m->ids.count, e);
    m->ids.count = 0;
    return rc ? rc : tokens_end_row(m->out, learnt, e);
}

/* Either both rows or none. */
static int add_pair(struct making *m, const struct json *v, struct err *e)
{
    const struct corpus *c = m->c;
    struct pair p;
    const int32_t *at;
    int rc = pair_encode(c->tok, c->chat, c->no_chat, v, &m->ids, &p, e);
    if (rc)
        return rc;
    at = m->ids.id;
    m->ids.count = 0;
    for (int i = 0; i < 2 && !rc; at += p.count[i++]) {
        rc = tokens_add(m->out, at, p.count[i], e);
        rc = rc ? rc : tokens_end_row(m->out, p.learnt[i], e);
    }
    return rc;
}

static int refuse_record(const struct making *m, const struct json *v, struct err *e)
{
    if (m->c->pairs)
        return err_set(e, ERR_DATA,
            "no object with \"chosen\" and \"rejected\", which objective DPO learns from");
    if (pair_is(v))
        return err_set(e, ERR_DATA,
            "has \"chosen\" and \"rejected\", from which spec.train.objective DPO learns");
    return err_set(e, ERR_DATA,
        "no object with a string \"text\", with \"messages\", or with strings \"prompt\" and "
        "\"completion\"");
}

static int add_record(struct making *m, const char *line, size_t len, struct err *e)
{
    if (utf8_valid_prefix(line, len) < len)
        return err_set(e, ERR_DATA, "invalid UTF-8");
    json_auto struct json *v = NULL;
    int rc = json_parse(line, len, &v, e);
    if (rc)
        return rc;
    enum record kind = kind_of(m, v);
    if (kind == RECORD_NONE)
        return refuse_record(m, v, e);
    if (m->kind != RECORD_NONE && kind != m->kind)
        return err_set(e, ERR_DATA, "has %s, but lines before it %s: a corpus has one of them",
            record_names[kind], record_names[m->kind]);
    m->kind = kind;
    if (kind == RECORD_PAIR)
        return add_pair(m, v, e);
    return kind == RECORD_TEXT ? add_text(m, json_str(v, "text", ""), e) : add_row(m, kind, v, e);
}

/* A bad record counts against what may be left out. */
static int take_line(struct making *m, const char *text, size_t len, int64_t line, struct err *e)
{
    struct err why = {0};
    int rc = add_record(m, text, len, &why);
    if (!rc)
        return 0;
    err_wrap(&why, "%s: line %lld", m->path, (long long)line);
    m->ids.count = 0;
    if (rc == -ERR_DATA && m->skipped < m->c->skip) {
        if (m->skipped++ < TOLD)
            log_warn("a record is left out", LOG_ERR(&why));
        return 0;
    }
    if (e)
        *e = why;
    return rc;
}

static bool blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r')
            return false;
    return true;
}

static int make_jsonl(struct making *m, struct err *e)
{
    const char *path = m->path, *text = m->text;
    int64_t line = 1;
    size_t first = 0;
    while (first < m->size && strchr(" \t\r\n", text[first]))
        first++;
    if (first < m->size && text[first] == '[')
        return err_set(e, ERR_DATA,
            "%s: a JSON array, not JSONL: put each document on a line of its "
            "own, {\"text\": \"...\"}",
            path);
    for (size_t at = 0; at < m->size; line++) {
        const char *end = memchr(text + at, '\n', m->size - at);
        size_t len = end ? (size_t)(end - text) - at : m->size - at;
        if (len > LINE_LIMIT)
            return err_set(e, ERR_DATA, "%s: line %lld: longer than %d bytes", path,
                (long long)line, LINE_LIMIT);
        int rc = blank(text + at, len) ? 0 : take_line(m, text + at, len, line, e);
        if (rc || (rc = end_part(m, text + at + len, e)))
            return rc;
        at += len + 1;
    }
    return 0;
}

static int make_file(struct making *m, const char *path, bool alone, struct err *e)
{
    struct io_map map;
    int rc = source_map(path, m->c->folder, &m->c->progress, &map, e);
    if (rc)
        return rc;
    m->path = path;
    m->map = &map;
    m->forgotten = 0;
    m->bytes += (int64_t)map.size;
    data_skip_mark(&map, &m->text, &m->size);
    rc = !m->size                   ? err_set(e, ERR_DATA, "%s: empty file", path)
        : m->format == FORMAT_JSONL ? make_jsonl(m, e)
                                    : make_text(m, alone, e);
    io_unmap(&map);
    return rc;
}

static int make_tokens(const struct corpus *c, const struct source *files, enum data_format format,
    uint64_t key, struct err *e)
{
    struct making m = {.c = c, .format = format};
    int64_t start_ms = clock_ms(), count;
    int rc = tokens_create(c->folder, key, &m.out, e);
    if (rc)
        return rc;
    for (int i = 0; i < files->count && !rc; i++)
        rc = make_file(&m, files->paths[i], files->count == 1, e);
    tok_ids_done(&m.ids);
    count = tokens_written(m.out);
    if (rc) {
        tokens_abandon(m.out);
        return rc;
    }
    rc = tokens_commit(m.out, m.skipped, e);
    if (rc)
        return rc;
    log_info("tokenised", LOG_S("path", c->path), LOG_I("files", files->count),
        LOG_I("bytes", m.bytes), LOG_I("tokens", count),
        LOG_F("seconds", (double)(clock_ms() - start_ms) * 1e-3));
    if (m.skipped)
        log_warn("bad records are left out", LOG_S("path", c->path), LOG_I("records", m.skipped),
            LOG_I("allowed", c->skip));
    return 0;
}

static int tokenize(
    const struct corpus *c, const struct source *files, uint64_t *out, struct err *e)
{
    enum data_format format;
    uint64_t key;
    int rc;
    if ((rc = find_format(c, files, &format, e)) || (rc = find_key(c, files, format, &key, e)) ||
        (rc = find_tokens(c, key, e)) < 0)
        return rc;
    if (!rc && (rc = make_tokens(c, files, format, key, e)))
        return rc;
    *out = key;
    return 0;
}

int corpus_tokenize(const struct corpus *c, uint64_t *key, struct err *e)
{
    struct source files;
    int rc = source_list(c->path, &files, e);
    if (rc)
        return rc;
    rc = tokenize(c, &files, key, e);
    source_done(&files);
    return rc;
}
