/*
 * rules: a rule's place is a path of the schema, "spec.storage[].mountPath"; it is asked of every
 * node of the job that lies there, and of none that is absent, as the API server does.
 */
#include "api/rules.h"

#include "base/cel.h"

#include <stdio.h>
#include <string.h>

#define SUBJECT_BYTES (1 << 20)
#define PATH_BYTES    128

const struct rule rules_table[] = {
#include RULES_TABLE
};
const int rules_count = sizeof rules_table / sizeof *rules_table;

int rules_subject(
    const struct jobspec *spec, const struct json *body, struct json **out, struct err *e)
{
    buf_auto struct buf b;
    struct jsonw w;
    buf_init(&b, SUBJECT_BYTES);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "metadata", '{');
    jsonw_str(&w, "name", spec->name);
    jsonw_close(&w);
    jobspec_write(spec, body, &w);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "out of memory checking the job");
    return json_parse(b.data, b.len, out, e);
}

struct rules_place { /* of the node that a rule is asked of */
    const struct field_source *source;
    char path[PATH_BYTES]; /* below the subject */
    struct err *e;
};

static int refuse(const struct rules_place *p, const char *field, const struct rule *r)
{
    char path[PATH_BYTES * 2];
    snprintf(path, sizeof path, "%s%s", p->path, field + (!*p->path && *field == '.'));
    return field_refuse(
        p->source, path + strcspn(path, ".") + !!strchr(path, '.'), p->e, "%s", r->message);
}

static int differ(const struct rules_place *p, const struct json *list, const struct rule *r)
{
    int n = 0;
    json_each (item, list) {
        const char *name = json_str(item, r->field, "");
        for (const struct json *other = json_first(list); other != item; other = json_next(other))
            if (!strcmp(name, json_str(other, r->field, ""))) {
                char field[24];
                snprintf(field, sizeof field, "[%d]", n);
                return refuse(p, field, r);
            }
        n++;
    }
    return 0;
}

/* at: what is left of the rule's place. */
static int ask(struct rules_place *p, const struct json *node, const char *at, const struct rule *r)
{
    size_t n = strcspn(at, ".["), len = strlen(p->path);
    bool holds = true;
    int rc = 0, item = 0;
    if (!node || json_is_null(node))
        return 0;
    if (!*at && !r->rule)
        return differ(p, node, r);
    if (!*at && ((rc = cel_holds(r->rule, node, &holds, p->e)) || holds))
        return rc;
    if (!*at)
        return refuse(p, r->field, r);
    if (*at == '[') {
        json_each (child, node) {
            snprintf(p->path + len, sizeof p->path - len, "[%d]", item++);
            if ((rc = ask(p, child, at + 2 + (at[2] == '.'), r)))
                return rc;
        }
    } else {
        char *name = p->path + len;
        snprintf(name, sizeof p->path - len, "%s%.*s", len ? "." : "", (int)n, at);
        rc = ask(p, json_get(node, name + !!len), at + n + (at[n] == '.'), r);
    }
    p->path[len] = 0;
    return rc;
}

/* Of one object is told before what crosses them. */
static bool crosses(const struct rule *r)
{
    return !strchr(r->at, '.');
}

int rules_check(
    const struct field_source *s, const struct json *subject, const char *about, struct err *e)
{
    struct rules_place p = {.source = s, .path = "", .e = e};
    for (int i = 0; i < 2 * rules_count; i++) {
        const struct rule *r = &rules_table[i % rules_count];
        bool asked =
            crosses(r) == (i >= rules_count) && (!about || (r->rule && strstr(r->rule, about)));
        int rc = asked ? ask(&p, subject, r->at, r) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

/* *may: whether no rule about this is against it. */
static int allowed(const struct jobspec *spec, const char *about, bool *may, struct err *e)
{
    const struct field_source source = {.prefix = "spec", .code = ERR_USER};
    struct json *subject json_auto = NULL;
    int rc = rules_subject(spec, NULL, &subject, e);
    rc = rc ? rc : rules_check(&source, subject, about, e);
    *may = !rc;
    return rc == -ERR_USER ? 0 : rc;
}

int rules_most_of_training(
    const struct jobspec *spec, int ranks, struct rules_most *out, struct err *e)
{
    struct jobspec other = *spec;
    struct rules_most most = {.zero_stage = 4};
    bool may;
    int rc;
    do
        other.parallelism.zero_stage = --most.zero_stage;
    while (!(rc = allowed(&other, "zeroStage", &may, e)) && !may && most.zero_stage);
    if (rc)
        return rc;
    /* Two ranks that share the model: how many there are is not what is asked. */
    other.replicas = 2;
    other.device.per_replica = other.elastic.min_replicas = 1;
    other.train.batch_sequences = LIMIT_PAIRS;
    other.parallelism = (typeof(other.parallelism)){.tensor = 2};
    if ((rc = allowed(&other, "tensor", &may, e)))
        return rc;
    most.tensor = may ? ranks : 0;
    other.parallelism = (typeof(other.parallelism)){.pipeline = 2};
    if ((rc = allowed(&other, "pipeline", &may, e)))
        return rc;
    most.pipeline = may ? ranks : 0;
    *out = most;
    return 0;
}
