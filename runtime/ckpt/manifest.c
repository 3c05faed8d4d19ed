/*
 * ckpt_manifest: the hash is the first field, computed over the text with zeros in its place.
 * Numbers that may pass 2^53 (the seed) are written as hexadecimal text; a loss that is not known
 * is null.
 */
#include "runtime/ckpt/manifest.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/files/hash.h"

#include <inttypes.h>
#include <math.h>

#define MANIFEST_LIMIT (16 << 20)
#define FILES_LIMIT    65536
/* 1, of llmjob 0.1.0, had specHash in place of identity; 2 had no rectangles in its files, which
 * its readers would take for damage, and neither layout, source nor written. */
#define VERSION        3

static const char head[] = "{\"xxh3\":\"0000000000000000\",";
#define HASH_AT 9 /* of the digits in head */

void ckpt_file_name(int rank, const char hash[17], char out[64])
{
    snprintf(out, 64, "rank-%05d-%.16s.safetensors", rank, hash);
}

int ckpt_file_rank(const char *name)
{
    int64_t rank;
    if (strncmp(name, "rank-", 5) != 0 || strlen(name) < 10 ||
        !number_whole(name + 5, 5, FILES_LIMIT, &rank))
        return -1;
    return (int)rank;
}

static const char *const scores[] = {[CKPT_SCORE_F1] = "f1", [CKPT_SCORE_MATCH] = "match"};

static void write_epochs(struct jsonw *w, const struct ckpt_state *s)
{
    jsonw_num(w, "epochLoss", s->epoch_loss);
    jsonw_int(w, "epochLabels", s->epoch_labels);
    jsonw_open(w, "epochs", '[');
    for (int i = 0; i < s->epoch_count; i++) {
        jsonw_open(w, NULL, '{');
        jsonw_int(w, "epoch", s->epochs[i].epoch);
        jsonw_int(w, "step", s->epochs[i].step);
        jsonw_num(w, "loss", s->epochs[i].loss);
        jsonw_num(w, "validationLoss", s->epochs[i].validation_loss);
        for (int k = 0; k < CKPT_SCORES; k++)
            jsonw_num(w, scores[k], s->epochs[i].scores[k]);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_scale(struct jsonw *w, const struct ckpt_scale *s)
{
    if (!(s->scale > 0))
        return;
    jsonw_open(w, "lossScale", '{');
    jsonw_num(w, "scale", s->scale);
    jsonw_int(w, "cleanSteps", s->clean);
    jsonw_int(w, "skippedSteps", s->skipped);
    jsonw_close(w);
}

static void write_fields(struct jsonw *w, const struct ckpt_manifest *m)
{
    const struct ckpt_state *s = &m->state;
    char seed[17];
    snprintf(seed, sizeof seed, "%016" PRIx64, s->seed);
    jsonw_str(w, "xxh3", "0000000000000000");
    jsonw_int(w, "version", VERSION);
    jsonw_int(w, "step", s->step);
    jsonw_int(w, "samples", s->samples);
    jsonw_int(w, "tokens", s->tokens);
    jsonw_str(w, "seed", seed);
    jsonw_int(w, "incarnation", s->incarnation);
    jsonw_int(w, "world", s->world);
    jsonw_str(w, "layout", s->layout);
    jsonw_str(w, "source", s->source);
    jsonw_int(w, "written", s->written_ms);
    jsonw_num(w, "firstLoss", s->first_loss);
    jsonw_num(w, "loss", s->loss);
    jsonw_num(w, "firstValidationLoss", s->first_validation_loss);
    jsonw_num(w, "validationLoss", s->validation_loss);
    write_epochs(w, s);
    write_scale(w, &s->scale);
    jsonw_raw(w, "identity", s->identity[0] ? s->identity : "{}");
    jsonw_open(w, "files", '[');
    for (int i = 0; i < m->file_count; i++) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "name", m->files[i].name);
        jsonw_int(w, "bytes", m->files[i].bytes);
        jsonw_str(w, "xxh3", m->files[i].hash);
        jsonw_close(w);
    }
    jsonw_close(w);
}

int ckpt_manifest_print(const struct ckpt_manifest *m, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    write_fields(&w, m);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory to write it");
    if (out->len < sizeof head || memcmp(out->data, head, sizeof head - 1))
        return err_set(e, ERR_BUG, "the writer's form has changed");
    char hash[HASH_XXH3_HEX];
    hash_xxh3_hex(out->data, out->len, hash);
    memcpy(out->data + HASH_AT, hash, 16);
    return 0;
}

int ckpt_manifest_write(const char *path, const struct ckpt_manifest *m, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, MANIFEST_LIMIT);
    if (ckpt_manifest_print(m, &text, e))
        return err_wrap(e, "%s", path);
    return io_write_file(path, text.data, text.len, 0644, e);
}

static int read_number(
    const struct json *v, const char *key, int64_t low, int64_t high, int64_t *out, struct err *e)
{
    int64_t n = 0;
    if (json_i64(v, key, &n, NULL) || n < low || n > high)
        return err_set(e, ERR_CORRUPT, "%s is no whole number from %lld to %lld", key,
            (long long)low, (long long)high);
    *out = n;
    return 0;
}

static int read_hex(const struct json *v, const char *key, char out[17], struct err *e)
{
    const char *text = json_str(v, key, "");
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return err_set(e, ERR_CORRUPT, "%s is not 16 hexadecimal digits", key);
    memcpy(out, text, 17);
    return 0;
}

static int read_file(const struct json *v, struct ckpt_file *f, struct err *e)
{
    const char *name = json_str(v, "name", "");
    if (!*name || strchr(name, '/') || *name == '.' || strlen(name) >= sizeof f->name)
        return err_set(e, ERR_CORRUPT, "name is no file's");
    memcpy(f->name, name, strlen(name) + 1);
    int rc = read_number(v, "bytes", 0, NUMBER_EXACT, &f->bytes, e);
    return rc ? rc : read_hex(v, "xxh3", f->hash, e);
}

static int read_files(const struct json *list, struct ckpt_manifest *m, struct err *e)
{
    size_t count = json_count(list);
    if (!json_is_array(list) || !count || count > FILES_LIMIT)
        return err_set(e, ERR_CORRUPT, "files are no list of 1 to %d", FILES_LIMIT);
    m->files = mem_array(count, sizeof *m->files);
    if (!m->files)
        return err_set(e, ERR_MEMORY, "no memory for %zu files", count);
    json_each (v, list) {
        if (read_file(v, &m->files[m->file_count], e))
            return err_wrap(e, "file %d", m->file_count);
        m->file_count++;
    }
    return 0;
}

static int read_numbers(const struct json *v, struct ckpt_state *s, struct err *e)
{
    const struct {
        const char *key;
        int64_t low, high, *to;
    } numbers[] = {
        {"step", 0, NUMBER_EXACT, &s->step},
        {"samples", 0, NUMBER_EXACT, &s->samples},
        {"tokens", 0, NUMBER_EXACT, &s->tokens},
        {"incarnation", 1, NUMBER_EXACT, &s->incarnation},
    };
    int64_t world = 0;
    int rc = read_number(v, "world", 1, INT32_MAX, &world, e);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !rc; i++)
        rc = read_number(v, numbers[i].key, numbers[i].low, numbers[i].high, numbers[i].to, e);
    s->world = (int)world;
    return rc;
}

/* Kept as text, for runtime/train/identity.c to compare. */
static int read_identity(const struct json *v, char out[CKPT_IDENTITY_BYTES], struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, CKPT_IDENTITY_BYTES - 1);
    bool strings = json_is_object(v);
    json_each (member, v)
        strings = strings && json_is_string(member);
    if (!strings || json_print(v, &text))
        return err_set(
            e, ERR_CORRUPT, "identity is no list of up to %d bytes", CKPT_IDENTITY_BYTES);
    memcpy(out, buf_cstr(&text), text.len + 1);
    return 0;
}

static int read_training(const struct json *v, int64_t version, struct ckpt_state *s, struct err *e)
{
    const char *hash = json_str(v, "specHash", "");
    if (version > 1)
        return read_identity(json_get(v, "identity"), s->identity, e);
    if (strlen(hash) >= sizeof s->spec_hash)
        return err_set(e, ERR_CORRUPT, "specHash is too long");
    memcpy(s->spec_hash, hash, strlen(hash) + 1);
    return 0;
}

/* What is only told, and what older manifests do not say. */
static int read_told(const struct json *v, int64_t version, struct ckpt_state *s, struct err *e)
{
    if (version < 3)
        return 0;
    const char *layout = json_str(v, "layout", ""), *source = json_str(v, "source", "");
    if (strlen(layout) >= sizeof s->layout || strlen(source) >= sizeof s->source)
        return err_set(e, ERR_CORRUPT, "layout or source is too long");
    memcpy(s->layout, layout, strlen(layout) + 1);
    memcpy(s->source, source, strlen(source) + 1);
    return read_number(v, "written", 0, NUMBER_EXACT, &s->written_ms, e);
}

/* Older manifests have none. */
static int read_epochs(const struct json *v, struct ckpt_state *s, struct err *e)
{
    const struct json *list = json_get(v, "epochs");
    if (!list)
        return 0;
    if (!json_is_array(list) || json_count(list) > CKPT_EPOCHS)
        return err_set(e, ERR_CORRUPT, "epochs are no list of up to %d", CKPT_EPOCHS);
    int rc = read_number(v, "epochLabels", 0, NUMBER_EXACT, &s->epoch_labels, e);
    s->epoch_loss = json_num(v, "epochLoss", 0);
    json_each (item, list) {
        struct ckpt_epoch *x = &s->epochs[s->epoch_count++];
        if (rc || (rc = read_number(item, "epoch", 0, NUMBER_EXACT, &x->epoch, e)) ||
            (rc = read_number(item, "step", 0, NUMBER_EXACT, &x->step, e)))
            return rc;
        x->loss = json_num(item, "loss", NAN);
        x->validation_loss = json_num(item, "validationLoss", NAN);
        for (int k = 0; k < CKPT_SCORES; k++)
            x->scores[k] = json_num(item, scores[k], NAN);
    }
    return rc;
}

/* Only of FP16. */
static int read_scale(const struct json *v, struct ckpt_scale *s, struct err *e)
{
    if (!v)
        return 0;
    double scale = json_num(v, "scale", 0);
    if (!(scale >= 1) || !isfinite(scale))
        return err_set(e, ERR_CORRUPT, "lossScale.scale is no number from 1");
    s->scale = scale;
    int rc = read_number(v, "cleanSteps", 0, NUMBER_EXACT, &s->clean, e);
    return rc ? rc : read_number(v, "skippedSteps", 0, NUMBER_EXACT, &s->skipped, e);
}

static int read_state(const struct json *v, struct ckpt_state *s, struct err *e)
{
    char seed[17];
    int64_t version = 0;
    int rc = read_number(v, "version", 1, NUMBER_EXACT, &version, e);
    if (rc)
        return rc;
    /* To go on from an older one would lose what the newer program did. */
    if (version > VERSION)
        return err_set(e, ERR_USER, "version %lld: a newer llmjob wrote it", (long long)version);
    if ((rc = read_numbers(v, s, e)) || (rc = read_hex(v, "seed", seed, e)) ||
        (rc = read_training(v, version, s, e)) || (rc = read_told(v, version, s, e)) ||
        (rc = read_epochs(v, s, e)) || (rc = read_scale(json_get(v, "lossScale"), &s->scale, e)))
        return rc;
    s->seed = strtoull(seed, NULL, 16);
    s->first_loss = json_num(v, "firstLoss", NAN);
    s->loss = json_num(v, "loss", NAN);
    s->first_validation_loss = json_num(v, "firstValidationLoss", NAN);
    s->validation_loss = json_num(v, "validationLoss", NAN);
    return 0;
}

static int parse_text(struct buf *text, struct ckpt_manifest *m, struct err *e)
{
    char said[17] = "", hash[HASH_XXH3_HEX];
    if (text->len < sizeof head)
        return err_set(e, ERR_CORRUPT, "cut off");
    memcpy(said, text->data + HASH_AT, 16);
    memcpy(text->data + HASH_AT, head + HASH_AT, 16);
    hash_xxh3_hex(text->data, text->len, hash);
    if (memcmp(text->data, head, sizeof head - 1) || strcmp(said, hash))
        return err_set(e, ERR_CORRUPT, "its hash does not match");
    json_auto struct json *v = NULL;
    int rc = json_parse_within(text->data, text->len, JSON_FILE_VALUES, &v, e);
    if (rc == -ERR_MEMORY)
        return rc;
    if (rc)
        return err_set(e, ERR_CORRUPT, "not JSON");
    rc = read_state(v, &m->state, e);
    return rc ? rc : read_files(json_get(v, "files"), m, e);
}

int ckpt_manifest_parse(struct buf *text, struct ckpt_manifest *out, struct err *e)
{
    struct ckpt_manifest m = {0};
    int rc = parse_text(text, &m, e);
    if (rc)
        ckpt_manifest_done(&m);
    else
        *out = m;
    return rc;
}

int ckpt_manifest_read(const char *path, struct ckpt_manifest *out, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, MANIFEST_LIMIT);
    int rc = io_read_file(path, MANIFEST_LIMIT, &text, e);
    if (rc)
        return rc;
    return ckpt_manifest_parse(&text, out, e) ? err_wrap(e, "%s", path) : 0;
}

void ckpt_manifest_done(struct ckpt_manifest *m)
{
    mem_free(m->files);
    m->files = NULL;
    m->file_count = 0;
}
