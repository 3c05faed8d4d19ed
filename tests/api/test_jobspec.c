/*
 * Goal: api/jobspec reads exactly what manifests/crd.yaml describes, and names the field at fault.
 * Method: the CRD's schema is walked leaf by leaf. Documents (jobspecs) hold every leaf; for
 * each leaf the test swaps in a value of a wrong type, at and beyond each bound, outside the enum,
 * and strings on which the CRD's own pattern (run by regexec) must agree with the decoder. Defaults
 * are compared by decoding the least documents. Then: round trips of the samples, unknown fields,
 * and each allocation failed in turn.
 * needs: faults
 */
#include "api/jobspec.h"

#include "base/io.h"
#include "base/yaml.h"
#include "tests/api/jobspecs.h"
#include "tests/unit.h"

#include <dirent.h>
#include <regex.h>

#define CRD_FILE "manifests/crd.yaml"

static const char *const full[] = {jobspecs_train, jobspecs_epochs, jobspecs_texts, jobspecs_dpo,
    jobspecs_adapter, jobspecs_serve, jobspecs_classify, jobspecs_recommend, jobspecs_ensemble,
    jobspecs_run, jobspecs_convert, jobspecs_search, jobspecs_prune, jobspecs_evaluate,
    jobspecs_masked, jobspecs_pairs};

static const char least_train[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
    "train: {method: LoRA, lora: {rank: 2}, data: {train: /data/t}, steps: 3, output: "
    "/data/o}}}";
static const char least_serve[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, serve: {}}}";
static const char least_run[] = JOBSPECS_HEAD "{run: {command: [a]}}}";
static const char least_convert[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, convert: {evaluate: {data: "
                  "/data/t}, output: /data/o}}}";
static const char least_evaluate[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, evaluate: {data: /data/t, "
                  "output: /data/o}}}";
static const char *const least[] = {
    least_train, least_serve, least_run, least_convert, least_evaluate};

static struct json *crd_tree;
static const struct json *schema; /* of spec */

static void setup(void)
{
    struct err e;
    jobspecs_begin();
    ck_assert_int_eq(yaml_read_file(CRD_FILE, 1 << 20, &crd_tree, &e), 0);
    const struct json *version = json_first(json_path(json_first(crd_tree), "spec.versions"));
    schema = json_path(version, "schema.openAPIV3Schema.properties.spec");
    ck_assert_ptr_nonnull(schema);
}

static void teardown(void)
{
    json_destroy(crd_tree);
    jobspecs_end();
}

static void refused(const char *document, const char *target, const char *value, const char *why)
{
    char path[256];
    const char *text = jobspecs_verdict(document, target, value);
    snprintf(path, sizeof path, "spec.%s", target);
    ck_assert_msg(strstr(text, path) && strstr(text, why), "%s: %.40s gave \"%s\", not \"%s: %s\"",
        target, value, text, path, why);
}

/* Accepted, or at least not refused for this reason (a rule that crosses fields may still
 * object). */
static void not_refused(
    const char *document, const char *target, const char *value, const char *why)
{
    const char *text = jobspecs_verdict(document, target, value);
    ck_assert_msg(
        !strstr(text, target) || !strstr(text, why), "%s: %.40s gave \"%s\"", target, value, text);
}

/* -- walking the schema -- */

typedef void leaf_fn(const char *path, const struct json *leaf);

static int walk(const struct json *node, const char *path, leaf_fn *fn)
{
    const struct json *properties = json_get(node, "properties");
    const struct json *items = json_get(node, "items");
    char below[256];
    int leaves = 0;
    if (json_get(items, "properties")) {
        ck_assert_int_lt(snprintf(below, sizeof below, "%s[0]", path), (int)sizeof below);
        fn(path, node); /* the list's own bounds */
        return 1 + walk(items, below, fn);
    }
    if (!properties) {
        fn(path, node);
        return 1;
    }
    json_each (child, properties) {
        int n = snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", json_key(child));
        ck_assert_int_lt(n, (int)sizeof below);
        leaves += walk(child, below, fn);
    }
    return leaves;
}

static const struct json *find(const struct json *root, const char *path)
{
    while (root && *path) {
        char key[128];
        size_t n = strcspn(path, ".[");
        memcpy(key, path, n);
        key[n] = 0;
        root = json_get(root, key);
        path += n;
        if (*path == '[') {
            root = json_first(root);
            path += 3;
        }
        path += *path == '.';
    }
    return root;
}

/* The document that holds this leaf. */
static const char *document_of(const char **path_in_it, const char *path)
{
    static char other[256];
    for (size_t i = 0; i < sizeof full / sizeof *full; i++) {
        struct json *documents = jobspecs_parse(full[i]);
        bool has = find(json_get(json_first(documents), "spec"), path);
        json_destroy(documents);
        *path_in_it = path;
        if (has)
            return full[i];
    }
    /* claimName and scratch exclude one another: the second entry has the other. */
    if (!strcmp(path, "storage[0].scratch")) {
        snprintf(other, sizeof other, "storage[1].scratch");
        *path_in_it = other;
        return jobspecs_train;
    }
    /* Likewise values, and min and max. */
    if (!strcmp(path, "search.parameters[0].values")) {
        snprintf(other, sizeof other, "search.parameters[1].values");
        *path_in_it = other;
        return jobspecs_search;
    }
    ck_abort_msg("the documents of this test lack %s", path);
}

static const char *repeat(char c, int n, char first)
{
    static char text[8192];
    ck_assert_int_lt(n, (int)sizeof text - 4);
    memset(text, c, (size_t)n + 2);
    text[0] = text[n + 1] = '"';
    text[1] = first;
    text[n + 2] = 0;
    return text;
}

static const char *list_of(const char *item, int n)
{
    static struct buf b;
    buf_done(&b);
    buf_init(&b, 1 << 20);
    for (int i = 0; i < n; i++)
        buf_printf(&b, "%s%s", i ? ", " : "[", item);
    buf_str(&b, "]");
    ck_assert(buf_ok(&b));
    return b.data;
}

static const char *map_of(const char *value, int n)
{
    static struct buf b;
    buf_done(&b);
    buf_init(&b, 1 << 20);
    for (int i = 0; i < n; i++)
        buf_printf(&b, "%sk%d: %s", i ? ", " : "{", i, value);
    buf_str(&b, "}");
    ck_assert(buf_ok(&b));
    return b.data;
}

static void check_type(const char *path, const struct json *leaf)
{
    const char *type = json_str(leaf, "type", "int-or-string");
    const char *document = document_of(&path, path);
    refused(document, path, !strcmp(type, "object") ? "7" : "{x: 1}", "must be");
    if (!strcmp(type, "integer"))
        refused(document, path, "1.5", "must be an integer");
    if (!strcmp(type, "string"))
        refused(document, path, "12", "must be a string");
    if (!strcmp(type, "boolean"))
        refused(document, path, "\"true\"", "must be true or false");
}

static void number_text(double v, char *out, size_t size)
{
    snprintf(out, size, "%.17g", v);
}

static void check_bounds(const char *path, const struct json *leaf)
{
    static const char entry[] = "{name: x, claimName: c, mountPath: /x}";
    const char *type = json_str(leaf, "type", "int-or-string");
    const char *document = document_of(&path, path);
    bool whole = !strcmp(type, "integer");
    char text[64];
    if (whole || !strcmp(type, "number")) {
        ck_assert_msg(
            json_get(leaf, "minimum") && json_get(leaf, "maximum"), "%s: no bounds", path);
        double min = json_num(leaf, "minimum", 0), max = json_num(leaf, "maximum", 0);
        bool min_open = json_bool(leaf, "exclusiveMinimum", false);
        bool max_open = json_bool(leaf, "exclusiveMaximum", false);
        /* The API server cuts a fractional bound when the value is a whole number. */
        ck_assert_msg(
            (double)(int64_t)min == min && (double)(int64_t)max == max, "%s: bounds", path);
        number_text(whole ? min - 1 : min_open ? min : min - 0.5, text, sizeof text);
        refused(document, path, text, "outside");
        number_text(whole ? max + 1 : max_open ? max : max * 1.01, text, sizeof text);
        refused(document, path, text, max < 9e15 ? "outside" : "");
        number_text(min_open ? min + 1e-7 : min, text, sizeof text);
        not_refused(document, path, text, "outside");
        number_text(max_open ? max - 1e-7 : max, text, sizeof text);
        not_refused(document, path, text, "outside");
    } else if (!strcmp(type, "string") && !json_get(leaf, "enum")) {
        int max = (int)json_int(leaf, "maxLength", 0);
        ck_assert_msg(max > 0, "%s: no maxLength", path);
        refused(document, path, repeat('a', max + 1, '/'), "longer");
        not_refused(document, path, repeat('a', max, '/'), "longer");
        if (json_int(leaf, "minLength", 0) > 0)
            refused(document, path, "\"\"", "empty");
        else
            not_refused(document, path, "\"\"", "empty");
    } else if (!strcmp(type, "array")) {
        int max = (int)json_int(leaf, "maxItems", 0), min = (int)json_int(leaf, "minItems", 0);
        const char *item = json_path(leaf, "items.properties.mountPath") ? entry
            : json_path(leaf, "items.properties.scale") ? "{name: seed, values: [1]}"
            : json_path(leaf, "items.properties")       ? "{operator: Exists}"
                                                        : "x";
        ck_assert_msg(max > 0, "%s: no maxItems", path);
        refused(document, path, list_of(item, max + 1), "more than");
        not_refused(document, path, list_of(item, max), "more than");
        if (min)
            refused(document, path, "[]", "at least");
        int length = (int)json_int(json_get(leaf, "items"), "maxLength", 0);
        if (length) {
            snprintf(text, sizeof text, "%s[0]", path);
            refused(document, text, repeat('a', length + 1, 'a'), "longer");
            not_refused(document, text, repeat('a', length, 'a'), "longer");
        }
    } else if (!strcmp(type, "object")) {
        int max = (int)json_int(leaf, "maxProperties", 0);
        ck_assert_msg(max > 0, "%s: no maxProperties", path);
        refused(document, path, map_of("'1'", max + 1), "more than");
        not_refused(document, path, map_of("'1'", max), "more than");
    }
}

static void check_enum(const char *path, const struct json *leaf)
{
    const struct json *values = json_get(leaf, "enum");
    if (!values)
        return;
    const char *document = document_of(&path, path);
    refused(document, path, "Nonsense", "is not");
    json_each (v, values)
        not_refused(document, path, json_string_value(v), "is not");
}

static const char *const awkward[] = {
    "a",
    "A",
    "-",
    "0",
    "a-b",
    "a.b",
    "a..b",
    "a/b",
    "a/b/c",
    "/a",
    "/a/",
    "//a",
    "/a//b",
    "/",
    "/.",
    "/..",
    "/...",
    "/a/..",
    "/a/../b",
    "/a/./b",
    "/.a",
    "/a b",
    "/..a/b",
    "-a",
    "a-",
    "a_b",
    "A.B",
    "1a",
    "a1",
    "a.b/c",
    "a.b/C_d",
    "a.b/-c",
    "A.b/c",
    "/c",
    "a/",
    "cpu",
    "cpus",
    "nvidia.com/gpu",
    "nvidia.com/",
    "x:y@z",
    "a b",
    "q_proj",
    "q-proj",
    "1",
    "10Gi",
    "0",
    "01",
    "1.5Gi",
    "999999Gi",
    "1000000Gi",
    "999Ti",
    "1000Ti",
    "1Q",
    "-1",
    "1e3",
    "500m",
    "Gi",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    "1234567890123456",
    "0.1234567890",
    "1.",
};

static void compare_pattern(const char *document, const char *path, const char *pattern, size_t max,
    const char *field, const char *why)
{
    regex_t re;
    ck_assert_msg(!regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), "%s: %s", path, pattern);
    for (size_t i = 0; i < sizeof awkward / sizeof *awkward; i++) {
        char value[160];
        snprintf(value, sizeof value, "\"%s\"", awkward[i]);
        if (strlen(awkward[i]) > max)
            continue;
        bool match = !regexec(&re, awkward[i], 0, NULL, 0);
        const char *text = jobspecs_verdict(document, path, value);
        bool bad = strstr(text, field) && strstr(text, why);
        ck_assert_msg(match != bad, "%s: %s: the CRD's pattern %s, the decoder says \"%s\"", path,
            awkward[i], match ? "matches" : "does not match", text);
    }
    regfree(&re);
}

static void check_pattern(const char *path, const struct json *leaf)
{
    const struct json *holder = leaf;
    const char *document = document_of(&path, path);
    char target[256];
    snprintf(target, sizeof target, "%s", path);
    if (json_get(leaf, "additionalProperties")) {
        holder = json_get(leaf, "additionalProperties");
        snprintf(target, sizeof target, "%s.k", path);
    } else if (json_get(leaf, "items")) {
        holder = json_get(leaf, "items");
        snprintf(target, sizeof target, "%s[0]", path);
    }
    const char *pattern = json_str(holder, "pattern", NULL);
    if (!pattern)
        return;
    /* Of fixed length: the length is checked before the form. */
    if (json_int(holder, "minLength", 0) == 64)
        return;
    const char *why = json_get(leaf, "additionalProperties") || !json_get(leaf, "type")
        ? "must be a"
        : "\" is not ";
    compare_pattern(document, target, pattern, (size_t)json_int(holder, "maxLength", 0), path, why);
}

START_TEST(test_every_leaf_has_a_type)
{
    ck_assert_int_gt(walk(schema, "", check_type), 60);
}
END_TEST

START_TEST(test_bounds_equal_the_crds)
{
    walk(schema, "", check_bounds);
}
END_TEST

START_TEST(test_enums_equal_the_crds)
{
    walk(schema, "", check_enum);
}
END_TEST

START_TEST(test_patterns_equal_the_crds)
{
    walk(schema, "", check_pattern);
    refused(jobspecs_train, "model.sha256", "abc", "shorter");
    refused(jobspecs_train, "model.sha256", repeat('G', 64, 'G'), "is not");
}
END_TEST

/* -- defaults -- */

static struct json *encoded(const char *document, struct jobspec *spec)
{
    struct err e = {.text = ""};
    struct json *documents = jobspecs_parse(document), *out;
    ck_assert_msg(!jobspec_decode(json_first(documents), jobspecs_arena, spec, &e), "%s", e.text);
    buf_auto struct buf b;
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    ck_assert_int_eq(jobspec_encode(spec, &b, &e), 0);
    ck_assert_int_eq(json_parse(b.data, b.len, &out, &e), 0);
    json_destroy(documents);
    return out;
}

static void assert_same(const char *path, const struct json *a, const struct json *b)
{
    struct buf x buf_auto, y buf_auto;
    buf_init(&x, 1 << 16);
    buf_init(&y, 1 << 16);
    ck_assert(!json_print(a, &x) && !json_print(b, &y));
    ck_assert_msg(
        !strcmp(buf_cstr(&x), buf_cstr(&y)), "%s: %s, but %s", path, buf_cstr(&x), buf_cstr(&y));
}

static const struct json *given_spec, *decoded_spec; /* of the document in hand */

/* Whose default depends on another field. */
static bool depends(const char *path)
{
    static const char *const paths[] = {"serve.modelName", "train.optimizer.beta1",
        "train.optimizer.beta2", "train.optimizer.epsilon"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (!strcmp(path, paths[i]))
            return true;
    return false;
}

static void check_default(const char *path, const struct json *leaf)
{
    const struct json *given = find(given_spec, path), *got = find(decoded_spec, path);
    const struct json *def = json_get(leaf, "default");
    char parent[256];
    snprintf(parent, sizeof parent, "%s", path);
    char *dot = strrchr(parent, '.');
    if (dot)
        *dot = 0;
    if (given || depends(path) || strchr(path, '['))
        return;
    if (!def || json_count(def) + (size_t)!json_is_array(def) == 0)
        ck_assert_msg(!got, "%s: decoded to a value, but the CRD has no default", path);
    else if (!dot || find(decoded_spec, parent))
        assert_same(path, got ? got : json_new_null(), def);
    if (got && dot && !find(given_spec, parent)) {
        /* A default inside an absent object only works when the object has a default itself. */
        char in_schema[512] = "";
        for (const char *p = parent; p;) {
            size_t n = strlen(in_schema), len = strcspn(p, ".");
            snprintf(in_schema + n, sizeof in_schema - n, "%sproperties.%.*s", n ? "." : "",
                (int)len, p);
            p = p[len] ? p + len + 1 : NULL;
        }
        ck_assert_msg(
            json_get(json_path(schema, in_schema), "default"), "%s: no default {}", parent);
    }
}

START_TEST(test_defaults_equal_the_crds)
{
    struct json *documents = jobspecs_parse(least[_i]);
    struct jobspec spec;
    struct json *out = encoded(least[_i], &spec);
    given_spec = json_get(json_first(documents), "spec");
    decoded_spec = json_get(out, "spec");
    walk(schema, "", check_default);
    ck_assert_int_eq(spec.replicas, 1);
    ck_assert_int_eq(spec.ttl_seconds_after_finished, -1);
    ck_assert_str_eq(spec.namespace_, "default");
    json_destroy(out);
    json_destroy(documents);
}
END_TEST

/* -- whole documents -- */

static void round_trip(const struct json *document, const char *name)
{
    struct err e = {.text = ""};
    struct jobspec a, b;
    struct buf x buf_auto, y buf_auto;
    buf_init(&x, LIMIT_JOB_FILE_BYTES);
    buf_init(&y, LIMIT_JOB_FILE_BYTES);
    ck_assert_msg(!jobspec_decode(document, jobspecs_arena, &a, &e), "%s: %s", name, e.text);
    ck_assert_int_eq(jobspec_encode(&a, &x, &e), 0);
    struct json *again;
    ck_assert_int_eq(json_parse(x.data, x.len, &again, &e), 0);
    ck_assert_msg(!jobspec_decode(again, jobspecs_arena, &b, &e), "%s: %s", name, e.text);
    ck_assert_int_eq(jobspec_encode(&b, &y, &e), 0);
    ck_assert_str_eq(x.data, y.data);
    json_destroy(again);
}

START_TEST(test_round_trip)
{
    struct json *documents = jobspecs_parse(full[_i]);
    round_trip(json_first(documents), full[_i]);
    json_destroy(documents);
}
END_TEST

START_TEST(test_full_document_field_by_field)
{
    struct jobspec s;
    json_destroy(encoded(jobspecs_train, &s));
    ck_assert_int_eq(s.task, TASK_TRAIN);
    ck_assert_str_eq(task_name(s.task), "Train");
    ck_assert_int_eq(s.replicas, 2);
    ck_assert(s.suspend);
    ck_assert_str_eq(s.device.resource, "a.com/gpu");
    ck_assert_int_eq(s.requests.count, 2);
    ck_assert(!strcmp(s.requests.keys[0], "cpu") && !strcmp(s.requests.values[0], "1"));
    ck_assert_str_eq(s.limits.values[1], "1500m");
    ck_assert_int_eq(s.placement.tolerations[0].seconds, 5);
    ck_assert(s.placement.topology_required);
    ck_assert_int_eq(s.storage_count, 2);
    ck_assert_int_eq(s.storage[1].scratch_bytes, 10ll << 30);
    ck_assert_ptr_null(s.storage[1].claim);
    ck_assert_int_eq(s.model.init, INIT_RANDOM);
    ck_assert_int_eq(s.precision, PRECISION_FP32);
    ck_assert_int_eq(s.checkpoint.every_steps, 5);
    ck_assert_int_eq(s.ttl_seconds_after_finished, 0);
}
END_TEST

START_TEST(test_full_training_field_by_field)
{
    struct jobspec s;
    json_destroy(encoded(jobspecs_train, &s));
    ck_assert_int_eq(s.train.method, METHOD_LORA);
    ck_assert_int_eq(s.train.lora.target_count, 2);
    ck_assert_str_eq(s.train.lora.targets[1], "k_proj");
    ck_assert_double_eq(s.train.dropout, 0.25);
    ck_assert_double_eq(s.train.attention_dropout, 0.125);
    ck_assert(!s.train.model_dropout);
    ck_assert_double_eq(s.train.lora.dropout, 0.1);
    ck_assert_uint_eq(s.train.seed, 9007199254740991u);
    ck_assert_double_eq(s.train.optimizer.epsilon, 1e-6);
    ck_assert_int_eq(s.train.optimizer.schedule, SCHEDULE_LINEAR);
    ck_assert_int_eq(s.train.optimizer.lr_scaling, LR_SCALING_SQUARE_ROOT);
    ck_assert_int_eq(s.train.optimizer.lr_batch_sequences, 3);
    ck_assert_double_eq(s.train.optimizer.min_learning_rate, 0.25);
    ck_assert_double_eq(s.train.optimizer.layer_decay, 0.75);
    ck_assert_double_eq(s.train.optimizer.momentum, -1);
    ck_assert_str_eq(s.train.distill.teacher, "/data/z");
    ck_assert_double_eq(s.train.distill.weight, 0.25);
    ck_assert_int_eq(s.train.communication.gradients, GRADIENTS_INT8);
    ck_assert_double_eq(s.train.communication.outer_momentum, 0.25);
    ck_assert_int_eq(s.train.recompute, RECOMPUTE_SELECTIVE);
    ck_assert_str_eq(recompute_name(s.train.recompute), "Selective");
    json_destroy(encoded(jobspecs_dpo, &s));
    ck_assert(s.train.objective == OBJECTIVE_DPO && s.train.dpo.loss == DPO_SIGMOID);
    ck_assert_double_eq(s.train.dpo.beta, 0.25);
    ck_assert_double_eq(s.train.dpo.label_smoothing, 0.125);
    json_destroy(encoded(jobspecs_serve, &s));
    ck_assert_int_eq(s.task, TASK_SERVE);
    ck_assert_str_eq(s.serve.api_key_secret, "s");
    json_destroy(encoded(jobspecs_convert, &s));
    ck_assert_int_eq(s.task, TASK_CONVERT);
    ck_assert_str_eq(task_name(s.task), "Convert");
    ck_assert_str_eq(quantize_name(s.convert.quantize), "Q4_K_M");
    ck_assert_str_eq(convert_format_name(s.convert.format), "GGUF");
    ck_assert_str_eq(s.convert.merge_adapter, "/data/a");
    ck_assert_int_eq(s.convert.evaluate.sequences, 4);
    ck_assert_int_eq(s.convert.prune.pattern, SPARSITY_NONE);
    json_destroy(encoded(jobspecs_prune, &s));
    ck_assert_int_eq(s.convert.prune.pattern, SPARSITY_UNSTRUCTURED);
    ck_assert_double_eq(s.convert.prune.target, 0.75);
    json_destroy(encoded(jobspecs_epochs, &s));
    ck_assert_str_eq(sparsity_name(s.train.sparsity.pattern), "Unstructured");
    ck_assert_int_eq(s.train.sparsity.every_steps, 2);
    json_destroy(encoded(jobspecs_evaluate, &s));
    ck_assert_int_eq(s.task, TASK_EVALUATE);
    ck_assert_str_eq(task_name(s.task), "Evaluate");
    ck_assert_str_eq(evaluated_name(s.evaluate.objective), "MultipleChoice");
    ck_assert_str_eq(s.evaluate.adapter, "/data/a");
    ck_assert_int_eq(s.evaluate.samples, 9);
    ck_assert(s.evaluate.chat);
    json_destroy(encoded(jobspecs_run, &s));
    ck_assert_int_eq(s.task, TASK_RUN);
    ck_assert_str_eq(s.run.command[1], "b");
    ck_assert_str_eq(s.run.env.keys[0], "A");
    json_destroy(encoded(least_serve, &s));
    ck_assert_str_eq(s.serve.model_name, "j");
}
END_TEST

START_TEST(test_who_serves_a_whole_model)
{
    struct jobspec s;
    json_destroy(encoded(jobspecs_serve, &s));
    ck_assert_str_eq(s.serve.retrieval.encoder.source, "/data/n");
    ck_assert_int_eq(s.serve.retrieval.answers, ANSWERS_CITED);
    ck_assert_str_eq(s.serve.embedding_cache, "/data/e");
    ck_assert(jobspec_replicated(&s));
    s.parallelism.pipeline = 2; /* they share it */
    ck_assert(!jobspec_replicated(&s));
    json_destroy(encoded(jobspecs_convert, &s));
    ck_assert(!jobspec_replicated(&s));
}
END_TEST

/* Each as its authors have it: torch.optim's AdamW and Muon, and Lion's paper. */
START_TEST(test_optimizers_have_their_own_defaults)
{
    static const struct {
        const char *name;
        double momentum, beta1, beta2, epsilon;
    } own[] = {{"AdamW", -1, 0.9, 0.999, 1e-8}, {"SGD", 0.9, -1, -1, -1},
        {"Lion", -1, 0.9, 0.99, -1}, {"Adafactor", -1, -1, -1, -1},
        {"Muon", 0.95, 0.9, 0.999, 1e-8}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        struct jobspec s;
        char document[600];
        snprintf(document, sizeof document,
            JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: "
                          "/data/c}, train: {data: {train: /data/t}, steps: 3, output: /data/o, "
                          "optimizer: {name: %s}}}}",
            own[i].name);
        json_destroy(encoded(document, &s));
        ck_assert_int_eq(s.train.optimizer.name, i);
        ck_assert_double_eq(s.train.optimizer.momentum, own[i].momentum);
        ck_assert_double_eq(s.train.optimizer.beta1, own[i].beta1);
        ck_assert_double_eq(s.train.optimizer.beta2, own[i].beta2);
        ck_assert_double_eq(s.train.optimizer.epsilon, own[i].epsilon);
        ck_assert_double_eq(s.train.optimizer.layer_decay, 1);
        ck_assert_int_eq(s.train.optimizer.decay_steps, 0);
    }
}
END_TEST

/* -- samples, and memory -- */

#define SAMPLES "manifests/samples"

static struct dirent **samples;

static int is_sample(const struct dirent *d)
{
    const char *end = strrchr(d->d_name, '.');
    return end && !strcmp(end, ".yaml");
}

/* All that are shipped. */
static int list_samples(void)
{
    int n = scandir(SAMPLES, &samples, is_sample, alphasort);
    if (n < 1) {
        fprintf(stderr, "no job in " SAMPLES "\n");
        exit(1);
    }
    return n;
}

START_TEST(test_samples)
{
    struct err e = {.text = ""};
    struct jobspec spec;
    char path[sizeof SAMPLES + sizeof samples[0]->d_name];
    snprintf(path, sizeof path, SAMPLES "/%s", samples[_i]->d_name);
    ck_assert_msg(!jobspec_read_file(path, jobspecs_arena, &spec, &e), "%s", e.text);
    struct json *documents;
    ck_assert_int_eq(yaml_read_file(path, LIMIT_JOB_FILE_BYTES, &documents, &e), 0);
    round_trip(json_first(documents), path);
    json_destroy(documents);
}
END_TEST

static int decode_and_encode(void *user)
{
    struct jobspec spec;
    struct err e;
    buf_auto struct buf b;
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    struct arena *a = arena_create(1 << 20);
    int rc = a ? jobspec_decode(user, a, &spec, &e) : -ERR_MEMORY;
    if (!rc)
        rc = jobspec_encode(&spec, &b, &e);
    ck_assert_msg(!rc || rc == -ERR_MEMORY, "%d: %s", rc, e.text);
    arena_destroy(a);
    return rc;
}

START_TEST(test_allocation_failures)
{
    struct json *documents = jobspecs_parse(jobspecs_train);
    fault_each(FAULT_MEM, decode_and_encode, (void *)json_first(documents));
    json_destroy(documents);
}
END_TEST

/* An arena that is too small for the spec: refused as memory, at every size. */
START_TEST(test_small_arena)
{
    struct json *documents = jobspecs_parse(jobspecs_train);
    struct err e = {.text = ""};
    struct jobspec spec;
    int rc = -ERR_MEMORY;
    for (size_t size = 64; rc; size += 64) {
        struct arena *a = arena_create(size);
        rc = jobspec_decode(json_first(documents), a, &spec, &e);
        ck_assert_msg(!rc || rc == -ERR_MEMORY, "%s", e.text);
        ck_assert_uint_lt(size, 1 << 20);
        arena_destroy(a);
    }
    ck_assert_int_eq(e.code, ERR_MEMORY);
    json_destroy(documents);
}
END_TEST

#define COUNT(a) (int)(sizeof a / sizeof *(a))

int main(void)
{
    Suite *s = suite_create("jobspec");
    TCase *t = tcase_create("jobspec");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_every_leaf_has_a_type);
    tcase_add_test(t, test_bounds_equal_the_crds);
    tcase_add_test(t, test_enums_equal_the_crds);
    tcase_add_test(t, test_patterns_equal_the_crds);
    tcase_add_loop_test(t, test_defaults_equal_the_crds, 0, COUNT(least));
    tcase_add_loop_test(t, test_round_trip, 0, COUNT(full));
    tcase_add_test(t, test_full_document_field_by_field);
    tcase_add_test(t, test_full_training_field_by_field);
    tcase_add_test(t, test_who_serves_a_whole_model);
    tcase_add_test(t, test_optimizers_have_their_own_defaults);
    tcase_add_loop_test(t, test_samples, 0, list_samples());
    tcase_add_test(t, test_small_arena);
    tcase_add_test(t, test_allocation_failures);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
