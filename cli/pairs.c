/*
 * pairs: features are merged into their group's plainest job as trees. How many ranks a feature
 * needs multiplies, so that two ways of sharing a model have ranks for both.
 */
#include "cli/pairs.h"

#include "api/jobspec.h"
#include "base/yaml.h"

#include <string.h>

struct pairs_feature {
    const char *name; /* as it is told, below spec */
    const char *spec; /* what of a spec has it */
    int ranks;        /* 0: any */
};

#define STORAGE    "storage: [{name: d, claimName: c, mountPath: /data}], model: {source: /data/m}"
#define LORA(more) "{train: {method: LoRA, lora: {rank: 2" more "}}}"

static const struct pairs_feature of_training[] = {
    {"parallelism.tensor above 1", "{parallelism: {tensor: 2}}", 2},
    {"parallelism.pipeline above 1", "{parallelism: {pipeline: 2}}", 2},
    {"parallelism.virtualStages above 1", "{parallelism: {pipeline: 2, virtualStages: 2}}", 2},
    {"parallelism.expert above 1", "{parallelism: {expert: 2}}", 2},
    {"parallelism.context above 1", "{parallelism: {context: 2}}", 2},
    {"parallelism.zeroStage 1", "{parallelism: {zeroStage: 1}}", 2},
    {"parallelism.zeroStage 2", "{parallelism: {zeroStage: 2}}", 2},
    {"parallelism.zeroStage 3", "{parallelism: {zeroStage: 3}}", 2},
    {"parallelism.balance Measured", "{parallelism: {balance: Measured}}", 0},
    {"device.resource nvidia.com/gpu", "{device: {resource: nvidia.com/gpu}}", 0},
    {"precision FP16", "{precision: FP16}", 0},
    {"model.init Random", "{model: {init: Random}}", 0},
    {"train.objective MaskedLM", "{train: {objective: MaskedLM}}", 0},
    {"train.objective TokenClassification",
        "{train: {objective: TokenClassification, data: {format: CoNLL}}}", 0},
    {"train.objective SequenceClassification",
        "{train: {objective: SequenceClassification, data: {format: JSONL}}}", 0},
    {"train.objective DPO", "{train: {objective: DPO, data: {format: JSONL}}}", 0},
    {"train.objective PairMatching", "{train: {objective: PairMatching, data: {format: JSONL}}}",
        0},
    {"train.method LoRA", LORA(""), 0},
    {"train.lora.dora", LORA(", dora: true"), 0},
    {"train.lora.rankStabilized", LORA(", rankStabilized: true"), 0},
    {"train.lora.dropout", LORA(", dropout: 0.5"), 0},
    {"train.lora.quantizedBase", LORA(", quantizedBase: Q8_0"), 0},
    {"train.lora.adalora",
        LORA(", adalora: {initialRank: 4, initialSteps: 1, finalSteps: 1, interval: 1}"), 0},
    {"train.method Adapter", "{train: {method: Adapter, adapter: {kind: Houlsby}}}", 0},
    {"train.dropout", "{train: {dropout: 0.5}}", 0},
    {"train.attentionDropout", "{train: {attentionDropout: 0.5}}", 0},
    {"train.modelDropout", "{train: {modelDropout: true}}", 0},
    {"train.sparsity", "{train: {sparsity: {pattern: '2:4'}}}", 0},
    {"train.distill", "{train: {distill: {teacher: /data/z}}}", 0},
    {"train.generate", "{train: {generate: {everySteps: 5, prompts: [Once]}}}", 0},
    {"train.histogramEverySteps", "{train: {tensorboard: /data/b, histogramEverySteps: 1}}", 0},
    {"train.data.packing", "{train: {data: {packing: true}}}", 0},
    {"train.data.skipBadRecords", "{train: {data: {skipBadRecords: 1}}}", 0},
    {"train.optimizer.name SGD", "{train: {optimizer: {name: SGD}}}", 0},
    {"train.optimizer.name Lion", "{train: {optimizer: {name: Lion}}}", 0},
    {"train.optimizer.name Adafactor", "{train: {optimizer: {name: Adafactor}}}", 0},
    {"train.optimizer.name Muon", "{train: {optimizer: {name: Muon}}}", 0},
    {"train.optimizer.state BF16", "{train: {optimizer: {state: BF16}}}", 0},
    {"train.optimizer.state Int8", "{train: {optimizer: {state: Int8}}}", 0},
    {"train.optimizer.offload", "{train: {optimizer: {offload: /data/f}}}", 0},
    {"train.communication.gradients Int8", "{train: {communication: {gradients: Int8}}}", 0},
    {"train.communication.localSteps above 1", "{train: {communication: {localSteps: 2}}}", 0},
    {"search", "{search: {parameters: [{name: seed, values: [1, 2]}]}}", 0},
    {"search.algorithm SuccessiveHalving",
        "{train: {optimizer: {schedule: Constant}}, search: {parameters: [{name: seed, values: [1, "
        "2]}], algorithm: SuccessiveHalving, halving: {minSteps: 4}}}",
        0},
};

static const struct pairs_feature of_serving[] = {
    {"replicas above 1", "{}", 2},
    {"parallelism.tensor above 1", "{parallelism: {tensor: 2}}", 2},
    {"parallelism.pipeline above 1", "{parallelism: {pipeline: 2}}", 2},
    {"device.resource nvidia.com/gpu", "{device: {resource: nvidia.com/gpu}}", 0},
    {"precision FP16", "{precision: FP16}", 0},
    {"serve.kvCache Q8_0", "{serve: {kvCache: Q8_0}}", 0},
    {"serve.adapters", "{serve: {adapters: [{name: x, path: /data/x}]}}", 0},
    {"serve.adapterMemory", "{serve: {adapters: [{name: x, path: /data/x}], adapterMemory: 64Mi}}",
        0},
    {"serve.routing.prefixAffinity", "{serve: {routing: {prefixAffinity: true}}}", 0},
    {"serve.speculation NGram", "{serve: {speculation: {method: NGram}}}", 0},
    {"serve.speculation Draft", "{serve: {speculation: {method: Draft, model: {source: /data/s}}}}",
        0},
    {"serve.ensemble", "{serve: {ensemble: {members: [{name: a}, {name: b}]}}}", 0},
    {"serve.ensemble.ranks above 1",
        "{serve: {ensemble: {members: [{name: a}, {name: b}], ranks: 2}}}", 2},
    {"serve.ensemble.allowMissing",
        "{serve: {ensemble: {members: [{name: a}, {name: b}], allowMissing: true}}}", 0},
    {"serve.classify", "{serve: {classify: {alerts: [{name: a, label: x, share: 0.5}]}}}", 0},
    {"serve.recommend", "{serve: {recommend: {items: /data/i}}}", 0},
    {"serve.retrieval", "{serve: {retrieval: {documents: /data/d, encoder: {source: /data/e}}}}",
        0},
};

static const struct {
    const char *title, *spec;
    const struct pairs_feature *features;
    int count;
} groups[] = {
    {"training",
        "{" STORAGE ", checkpoint: {path: /data/c, everySteps: 4}, train: {data: {train: "
        "/data/t.jsonl}, sequenceLength: 64, batchSequences: 16, steps: 12, output: /data/o}}",
        of_training, sizeof of_training / sizeof *of_training},
    {"served model", "{" STORAGE ", serve: {}}", of_serving,
        sizeof of_serving / sizeof *of_serving},
};
enum { GROUPS = sizeof groups / sizeof *groups };

/* -- one job -- */

static bool same(const struct json *a, const struct json *b)
{
    buf_auto struct buf x, y;
    buf_init(&x, LIMIT_JOB_FILE_BYTES);
    buf_init(&y, LIMIT_JOB_FILE_BYTES);
    return !json_print(a, &x) && !json_print(b, &y) && !strcmp(buf_cstr(&x), buf_cstr(&y));
}

/* A copy of a with what b has beside it, either may be NULL; *differ: of one field they say
 * different things. */
static struct json *merged(const struct json *a, const struct json *b, bool *differ)
{
    const struct json *v = a ? a : b;
    if (json_is_object(v)) {
        struct json *copy = json_new_object();
        json_each (child, a)
            json_put(copy, json_key(child), merged(child, json_get(b, json_key(child)), differ));
        json_each (child, b)
            if (!json_get(a, json_key(child)))
                json_put(copy, json_key(child), merged(NULL, child, differ));
        return copy;
    }
    *differ |= a && b && !same(a, b);
    if (json_is_array(v)) {
        struct json *copy = json_new_array();
        json_each (item, v)
            json_push(copy, merged(item, NULL, differ));
        return copy;
    }
    return json_is_string(v) ? json_new_string(json_string_value(v))
        : json_is_bool(v)    ? json_new_bool(json_bool_value(v))
                             : json_new_number(json_number_value(v));
}

static int parse(const char *text, struct json **out, struct err *e)
{
    return yaml_parse(text, strlen(text), out, e);
}

/* *out: the spec; 1: there is none. */
static int make_spec(int group, int i, int j, struct json **out, struct err *e)
{
    const struct pairs_feature *a = &groups[group].features[i], *b = &groups[group].features[j];
    json_auto struct json *first = NULL, *second = NULL, *base = NULL, *both = NULL;
    bool differ = false, ignored = false;
    int rc;
    if ((rc = parse(a->spec, &first, e)) || (rc = parse(b->spec, &second, e)) ||
        (rc = parse(groups[group].spec, &base, e)))
        return rc;
    both = merged(json_first(first), json_first(second), &differ);
    if (differ)
        return 1;
    struct json *spec = merged(json_first(base), both, &ignored);
    int ranks = (a->ranks ? a->ranks : 1) * (b->ranks && i != j ? b->ranks : 1);
    if (json_put(spec, "replicas", json_new_number(ranks)))
        return err_set(e, ERR_MEMORY, "out of memory");
    *out = spec;
    return 0;
}

int pairs_count(int group)
{
    return group < GROUPS ? groups[group].count : 0;
}

int pairs_try(int group, int i, int j, struct buf *out, char why[PAIRS_WHY_BYTES], struct err *e)
{
    json_auto struct json *spec = NULL, *job = NULL;
    arena_auto struct arena *a = arena_create(1 << 20);
    int rc = make_spec(group, i, j, &spec, e);
    if (rc)
        return rc;
    buf_auto struct buf text;
    buf_init(&text, LIMIT_JOB_FILE_BYTES);
    buf_printf(&text,
        "{\"apiVersion\": \"llmjob.dev/v1alpha1\", \"kind\": \"LLMJob\", \"metadata\": "
        "{\"name\": \"pair-%d-%d-%d\"}, \"spec\": ",
        group, i, j);
    json_print(spec, &text);
    buf_char(&text, '}');
    struct jobspec decoded;
    struct err said = {.text = ""};
    if (!a || !buf_ok(&text))
        return err_set(e, ERR_MEMORY, "out of memory");
    if ((rc = json_parse(text.data, text.len, &job, e)))
        return rc;
    rc = jobspec_decode(job, a, &decoded, &said);
    if (rc && rc != -ERR_USER)
        return err_set(e, said.code, "%s", said.text);
    snprintf(why, PAIRS_WHY_BYTES, "%s", said.text);
    if (out)
        buf_add(out, text.data, text.len);
    return 0;
}

/* -- all of them -- */

/* (count, count) of a group: is the pair refused? */
static int ask_all(int group, bool *refused, struct err *e)
{
    int n = pairs_count(group);
    char why[PAIRS_WHY_BYTES];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            int rc = pairs_try(group, i, j, NULL, why, e);
            if (rc < 0)
                return rc;
            refused[i * n + j] = refused[j * n + i] = !rc && *why;
        }
    return 0;
}

static int render_group(struct buf *out, int group, struct err *e)
{
    int n = pairs_count(group);
    mem_autofree bool *refused = mem_array((size_t)n * (size_t)n, sizeof *refused);
    int rc = refused ? ask_all(group, refused, e) : err_set(e, ERR_MEMORY, "out of memory");
    if (rc)
        return rc;
    buf_printf(out, "\n| of a %s | not with |\n|---|---|\n", groups[group].title);
    for (int i = 0; i < n; i++) {
        const char *comma = "";
        buf_printf(out, "| `%s` |", groups[group].features[i].name);
        for (int j = 0; j < n; j++)
            if (refused[i * n + j]) {
                buf_printf(out, "%s `%s`", comma, groups[group].features[j].name);
                comma = ",";
            }
        buf_str(out, " |\n");
    }
    return 0;
}

int pairs_render(struct buf *out, struct err *e)
{
    static const char text[] =
        "\n## What goes with what\n\nEach two of these go together, but for those that are said, "
        "and for values of one field. `llmjob api-doc --pairs` prints a job with each two.\n";
    buf_str(out, text);
    for (int g = 0; pairs_count(g); g++) {
        int rc = render_group(out, g, e);
        if (rc)
            return rc;
    }
    return buf_ok(out) ? 0 : err_set(e, ERR_MEMORY, "out of memory");
}

int pairs_write(struct buf *out, struct err *e)
{
    char why[PAIRS_WHY_BYTES];
    for (int g = 0; pairs_count(g); g++)
        for (int i = 0; i < pairs_count(g); i++)
            for (int j = i; j < pairs_count(g); j++) {
                buf_auto struct buf job;
                buf_init(&job, LIMIT_JOB_FILE_BYTES);
                int rc = pairs_try(g, i, j, &job, why, e);
                if (rc < 0)
                    return rc;
                if (!rc)
                    buf_printf(out, "---\n# expect: %s\n%s\n", why, buf_cstr(&job));
            }
    return buf_ok(out) ? 0 : err_set(e, ERR_MEMORY, "out of memory");
}
