/*
 * identity: the job file's own encoding, flattened to dotted names, less what `ignored` lists, plus
 * digests of what the ignored paths lead to. Since the encoder writes defaults out, a default and
 * the same value given by hand are one. It must not decide what a difference leads to.
 */
#include "runtime/train/identity.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/files/hash.h"

#include <inttypes.h>

#define CONFIG_LIMIT   (16 << 20) /* bytes of a config.json */
#define NAME_BYTES     160
#define DEFAULTS_ARENA (1 << 20)

/* What counts of a job: the arithmetic and the order of samples, not where and with how many. */
static const char *const counted[] = {"model", "train", "precision"};

static const char *const ignored[] = {
    /* what they lead to counts */
    "spec.model.source", "spec.model.config", "spec.train.data.train", "spec.train.data.validation",
    "spec.train.data.format", "spec.train.data.skipBadRecords", "spec.train.steps",
    "spec.train.epochs", "spec.train.distill.teacher",
    /* looked at when all is done */
    "spec.train.data.test",
    /* where results go, how often one looks, and memory for time: no bit changes */
    "spec.train.output", "spec.train.exportedBy", "spec.train.tensorboard",
    "spec.train.evaluateEverySteps", "spec.train.recompute", "spec.train.histogramEverySteps",
    "spec.train.generate", "spec.train.trace", "spec.train.optimizer.offload"};

#define LABELS_OF_ALL "labels of spec.train.data (train, validation, test)"

/* No change where only one side says it: the file was checked against its hash when it was opened,
   and older checkpoints have labels in the digest of the data alone. */
static const char *const pinned[] = {"spec.model.sha256", LABELS_OF_ALL};

static bool is_one_of(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

static bool is_ignored(const char *name)
{
    return is_one_of(ignored, sizeof ignored / sizeof *ignored, name);
}

static bool is_pinned(const char *name)
{
    return is_one_of(pinned, sizeof pinned / sizeof *pinned, name);
}

/* -- writing -- */

static int write_value(struct jsonw *w, const char *name, const struct json *v, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, CKPT_IDENTITY_BYTES);
    const char *string = json_string_value(v);
    if (!string && json_print(v, &text))
        return err_set(e, ERR_MEMORY, "no memory to describe the job");
    jsonw_str(w, name, string ? string : buf_cstr(&text));
    return 0;
}

static int write_fields(struct jsonw *w, const char *name, const struct json *v, struct err *e)
{
    if (is_ignored(name))
        return 0;
    if (!json_is_object(v))
        return write_value(w, name, v, e);
    json_each (member, v) {
        char inner[NAME_BYTES];
        if (snprintf(inner, sizeof inner, "%s.%s", name, json_key(member)) >= NAME_BYTES)
            return err_set(e, ERR_BUG, "%s: a field's name is too long", inner);
        int rc = write_fields(w, inner, member, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int write_spec(struct jsonw *w, const struct jobspec *spec, struct err *e)
{
    buf_auto struct buf text;
    json_auto struct json *job = NULL;
    buf_init(&text, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(spec, &text, e);
    if (rc || (rc = json_parse(buf_cstr(&text), text.len, &job, e)))
        return rc;
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        char name[32];
        const struct json *v = json_get(json_get(job, "spec"), counted[i]);
        snprintf(name, sizeof name, "spec.%s", counted[i]);
        if (v && (rc = write_fields(w, name, v, e)))
            return rc;
    }
    return 0;
}

static void write_digest(struct jsonw *w, const char *name, uint64_t digest)
{
    char text[32];
    snprintf(text, sizeof text, "content %016" PRIx64, digest);
    jsonw_str(w, name, text);
}

static int write_file_digest(struct jsonw *w, const char *name, const char *path, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, CONFIG_LIMIT);
    int rc = io_read_file(path, CONFIG_LIMIT, &text, e);
    if (!rc)
        write_digest(w, name, hash_xxh3(buf_cstr(&text), text.len));
    return rc;
}

static void write_number(struct jsonw *w, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, n);
    jsonw_str(w, name, text);
}

/* Before the data, whose digests a name that is new, or gone, changes as well. */
static void write_labels(struct jsonw *w, const struct data_labels *l)
{
    char text[48];
    snprintf(text, sizeof text, "%d, content %016" PRIx64, l->count, data_labels_digest(l));
    jsonw_str(w, LABELS_OF_ALL, text);
}

static int write_contents(struct jsonw *w, const struct identity_source *s, struct err *e)
{
    const struct jobspec *spec = s->spec;
    char config[LIMIT_PATH_BYTES + 16];
    int rc = 0;
    write_digest(w, "spec.model.source", weights_digest(s->weights));
    if (s->teacher)
        write_digest(w, "spec.train.distill.teacher", weights_digest(s->teacher));
    if (!weights_gguf(s->weights)) {
        snprintf(config, sizeof config, "%s/config.json", weights_path(s->weights));
        rc = write_file_digest(w, "spec.model.source: config.json", config, e);
    }
    if (!rc && spec->model.config)
        rc = write_file_digest(w, "spec.model.config", spec->model.config, e);
    if (s->labels)
        write_labels(w, s->labels);
    write_digest(w, "spec.train.data.train", data_digest(s->data));
    if (s->validation)
        write_digest(w, "spec.train.data.validation", data_digest(s->validation));
    write_number(w, "sequences to train on", s->train_samples);
    /* Cosine and Linear fall towards the last step, and so do ranks: another one changes every
       step. */
    if (spec->train.optimizer.schedule != SCHEDULE_CONSTANT ||
        spec->train.lora.adalora.initial_rank)
        write_number(w, "spec.train.steps", s->steps);
    return rc;
}

int identity_write(const struct identity_source *s, char out[CKPT_IDENTITY_BYTES], struct err *e)
{
    buf_auto struct buf text;
    struct jsonw w;
    buf_init(&text, CKPT_IDENTITY_BYTES - 1);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    int rc;
    if ((rc = write_spec(&w, s->spec, e)) || (rc = write_contents(&w, s, e)))
        return rc;
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory to describe the job");
    memcpy(out, text.data, text.len + 1);
    return 0;
}

/* -- comparing -- */

/* Fields by their defaults, as of a job with LoRA that says no more than it must. A checkpoint that
 * does not know a field was made before there was one: its default is then what it was made
 * with. */
static int read_defaults(struct json **out, struct err *e)
{
    static const char least[] =
        "{\"name\":\"j\",\"spec\":{\"storage\":[{\"name\":\"s\",\"mountPath\":\"/s\","
        "\"scratch\":\"1Mi\"}],\"model\":{\"source\":\"/s/m\"},\"checkpoint\":{\"path\":\"/"
        "s/c\"},"
        "\"train\":{\"method\":\"LoRA\",\"lora\":{\"rank\":1},"
        "\"data\":{\"train\":\"/s/d\"},\"steps\":1,\"output\":\"/s/o\"}}}";
    json_auto struct json *job = NULL;
    int rc = json_parse(least, sizeof least - 1, &job, e);
    if (rc)
        return rc;
    arena_auto struct arena *a = arena_create(DEFAULTS_ARENA);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory to compare two jobs");
    buf_auto struct buf text;
    struct jobspec spec;
    struct jsonw w;
    buf_init(&text, CKPT_IDENTITY_BYTES);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    if ((rc = jobspec_decode(job, a, &spec, e)) || (rc = write_spec(&w, &spec, e)))
        return rc;
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory to compare two jobs");
    return json_parse(text.data, text.len, out, e);
}

static void add_difference(
    struct identity_difference *d, const char *key, const char *was, const char *is)
{
    if (d->count++)
        return;
    snprintf(d->key, sizeof d->key, "%s", key);
    snprintf(d->was, sizeof d->was, "%s", was ? was : "absent");
    snprintf(d->is, sizeof d->is, "%s", is ? is : "absent");
}

int identity_compare(
    const char *was, const char *is, struct identity_difference *out, struct err *e)
{
    json_auto struct json *a = NULL, *b = NULL, *defaults = NULL;
    struct identity_difference d = {.count = 0};
    int rc;
    if ((rc = json_parse(was, strlen(was), &a, e)) || (rc = json_parse(is, strlen(is), &b, e)) ||
        (rc = read_defaults(&defaults, e)))
        return rc;
    json_each (v, b) {
        const char *key = json_key(v);
        const char *then = json_str(a, key, json_str(defaults, key, NULL));
        const char *now = json_string_value(v);
        if (then ? strcmp(then, now) != 0 : !is_pinned(key))
            add_difference(&d, key, then, now);
    }
    json_each (v, a)
        if (!json_get(b, json_key(v)) && !is_pinned(json_key(v)))
            add_difference(&d, json_key(v), json_string_value(v), NULL);
    *out = d;
    return 0;
}

/* -- version 1 -- */

int identity_hash_v1(const struct identity_source *s, char out[65], struct err *e)
{
    const struct jobspec_train *t = &s->spec->train;
    buf_auto struct buf b;
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    buf_printf(
        &b, "%d %d %d %.17g", (int)t->method, (int)s->spec->precision, t->lora.rank, t->lora.alpha);
    for (int i = 0; i < t->lora.target_count; i++)
        buf_printf(&b, " %s", t->lora.targets[i]);
    buf_printf(&b, " %lld %lld %d %d %llu %.17g %d %lld", (long long)data_tokens(s->data),
        (long long)s->train_samples, t->sequence_length, t->batch_sequences,
        (unsigned long long)t->seed, t->optimizer.learning_rate, (int)t->optimizer.schedule,
        (long long)s->steps);
    if (t->lora.dropout > 0)
        buf_printf(&b, " %.17g", t->lora.dropout);
    if (t->dropout > 0)
        buf_printf(&b, " dropout %.17g", t->dropout);
    if (t->attention_dropout > 0 || t->model_dropout)
        buf_printf(&b, " attention %.17g %d", t->attention_dropout, t->model_dropout);
    if (t->optimizer.name != OPTIMIZER_ADAMW)
        buf_printf(&b, " optimizer %d", (int)t->optimizer.name);
    if (t->optimizer.state != OPTIMIZER_STATE_FP32)
        buf_printf(&b, " state %d", (int)t->optimizer.state);
    if (!buf_ok(&b))
        return err_set(e, ERR_MEMORY, "no memory to hash the job");
    return hash_sha256_hex(b.data, b.len, out, e);
}
