/*
 * jobspecs: the documents, and one change to one of them: a copy of the tree in which one value is
 * another.
 */
#include "tests/api/jobspecs.h"

#include "base/yaml.h"

#include <check.h>
#include <string.h>

struct arena *jobspecs_arena;

const char jobspecs_train[] = JOBSPECS_HEAD
    "{replicas: 2, suspend: true, managedBy: a.dev/b, image: i:1, device: {resource: "
    "a.com/gpu, perReplica: 2}, "
    "resources: {requests: {cpu: 1, memory: 2Gi}, limits: {a.com/gpu: '2', cpu: 1500m}}, "
    "placement: {nodeSelector: {zone: a, empty: ''}, priorityClassName: p, "
    "runtimeClassName: nvidia, "
    "tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute, "
    "tolerationSeconds: 5}], topology: {key: topology.kubernetes.io/zone, required: true}}, "
    "storage: [{name: d, claimName: c, mountPath: /data, readOnly: false}, {name: s, "
    "scratch: 10Gi, mountPath: /s}], "
    "model: {source: /data/m, init: Random, config: /data/c.json, "
    "sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}, "
    "parallelism: {data: 4, tensor: 1, pipeline: 1, context: 1, expert: 1, zeroStage: 0, "
    "virtualStages: 1}, "
    "precision: FP32, elastic: {minReplicas: 2, waitSeconds: 7}, "
    "checkpoint: {path: /data/ckpt, everySteps: 5, everySeconds: 60, keep: 3, "
    "asynchronous: false, inMemoryEverySteps: 3}, restart: {maxRestarts: 3, windowSeconds: 60}, "
    "health: {hangSeconds: 20, stragglerFactor: 3}, "
    "activeDeadlineSeconds: 1000, ttlSecondsAfterFinished: 0, "
    "train: {method: LoRA, dropout: 0.25, attentionDropout: 0.125, modelDropout: false, "
    "lora: {rank: 4, alpha: 8, dropout: 0.1, rankStabilized: true, "
    "dora: false, quantizedBase: None, targets: [q_proj, k_proj]}, "
    "data: {train: /data/t.txt, validation: /data/v.txt, format: Text, skipBadRecords: 3, "
    "packing: true}, "
    "sequenceLength: 32, batchSequences: 12, "
    "steps: 100, seed: 9007199254740991, optimizer: {name: AdamW, state: BF16, "
    "learningRate: 0.5, lrScaling: SquareRoot, lrBatchSequences: 3, "
    "schedule: Linear, minLearningRate: 0.25, warmupSteps: 3, "
    "layerDecay: 0.75, weightDecay: 0, "
    "beta1: 0.8, beta2: 0.95, epsilon: 1e-6, clipNorm: 0}, "
    "distill: {teacher: /data/z, temperature: 3, weight: 0.25}, "
    "communication: {gradients: Int8, localSteps: 1, outerLearningRate: 0.5, outerMomentum: "
    "0.25}, "
    "recompute: Selective, evaluateEverySteps: 4, tensorboard: /data/tb, histogramEverySteps: 6, "
    "trace: {fromStep: 3, steps: 1}, "
    "generate: {everySteps: 5, prompts: [Once, ''], tokens: 9}, output: /data/out}}}";
const char jobspecs_epochs[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
                  "train: {objective: TokenClassification, data: {train: /data/t.CoNLL, test: "
                  "/data/s.conll}, epochs: 1.5, optimizer: {name: SGD, momentum: 0.5, schedule: "
                  "WSD, decaySteps: 7}, sparsity: {pattern: Unstructured, target: 0.75, "
                  "startStep: 3, endStep: 9, everySteps: 2}, output: /data/o}}}";
const char jobspecs_texts[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
                  "train: {objective: SequenceClassification, data: {train: /data/t.JSONL, test: "
                  "/data/s.csv}, epochs: 1.5, output: /data/o}}}";
const char jobspecs_search[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
                  "train: {data: {train: /data/t.txt}, steps: 100, optimizer: {schedule: "
                  "Constant}, output: /data/o}, search: {algorithm: SuccessiveHalving, metric: "
                  "validationLoss, goal: Minimize, maxTrials: 9, parallelTrials: 2, seed: 5, "
                  "parameters: [{name: optimizer.learningRate, min: 0.001, max: 1, scale: Log}, "
                  "{name: optimizer.weightDecay, values: [0, 0.1]}], halving: {factor: 3, "
                  "minSteps: 10}, earlyStopTrials: 0}}}";
const char jobspecs_dpo[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
    "train: {objective: DPO, method: LoRA, lora: {rank: 4, rankStabilized: "
    "false, adalora: {initialRank: 6, initialSteps: 1, finalSteps: 1, interval: 2, beta1: 0.5, "
    "beta2: 0.75, orthogonalWeight: 0.25}}, dpo: {beta: 0.25, labelSmoothing: 0.125, loss: "
    "Sigmoid}, data: {train: /data/t.jsonl}, steps: 3, output: /data/o, exportedBy: b}}}";
const char jobspecs_adapter[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
    "parallelism: {zeroStage: 3}, "
    "train: {method: Adapter, adapter: {kind: Pfeiffer, reductionFactor: 8, activation: GELU}, "
    "data: {train: /data/t.txt}, steps: 3, optimizer: {offload: /data/s}, output: /data/o}}}";
const char jobspecs_masked[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
                  "parallelism: {zeroStage: 1, balance: Measured}, train: {objective: MaskedLM, "
                  "data: {train: /data/t.txt, skipBadRecords: 1}, masking: {share: "
                  "0.25, wholeWord: true}, epochs: 1.5, output: /data/o}}}";
const char jobspecs_pairs[] =
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, "
                  "train: {objective: PairMatching, pair: {loss: InBatchNegatives, temperature: "
                  "0.5}, data: {train: /data/t.tsv, test: /data/s.ndjson}, epochs: 1.5, output: "
                  "/data/o}}}";
const char jobspecs_serve[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, serve: {modelName: m, contextLength: 64, "
    "maxSequences: 3, maxQueue: 2, maxQueueTokens: 900, drainSeconds: 1, apiKeySecret: s, "
    "kvCache: Q8_0, embeddingCache: /data/e, "
    "adapters: [{name: x, path: /data/x}, {name: z, path: /data/z}], adapterMemory: 64Mi, "
    "speculation: {method: Draft, tokens: 3, model: {source: /data/d}}, "
    "retrieval: {documents: /data/d, encoder: {source: /data/n}, chunkTokens: 64, overlapTokens: "
    "8, maxChunks: 9, results: 2, minScore: 0.5, answers: Cited, notFound: none, "
    "scanSeconds: 3}}}}";
const char jobspecs_classify[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, serve: {modelName: m, "
    "classify: {file: /data/f, directory: null, state: /data/s, caFile: /data/c, "
    "webhookSecret: w, alerts: [{name: "
    "a, label: spam, windowSeconds: 60, share: 0.5, clearShare: 0.25, forSeconds: 5, minItems: 3, "
    "webhook: 'http://h:1/x', webhookKey: k}, {name: b, label: ham, share: 1}]}}}}";
const char jobspecs_recommend[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, serve: {modelName: m, "
    "recommend: {items: /data/i.jsonl, textWeight: 2, halfLife: 0, features: "
    "[{name: year, use: Near, weight: 0.5}, {name: liked, use: LogValue, weight: -1}]}}}}";
const char jobspecs_ensemble[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, serve: {modelName: m, ensemble: {members: "
    "[{name: a, source: /data/a, adapter: /data/x}, {name: b}], average: Probabilities, "
    "allowMissing: true, ranks: 1}, routing: {prefixAffinity: true, maxAhead: 5}}}}";
const char jobspecs_run[] = JOBSPECS_HEAD "{run: {command: [a, b], args: [c], env: {A: b}}}}";
const char jobspecs_convert[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, convert: {format: GGUF, quantize: "
    "Q4_K_M, mergeAdapter: /data/a, calibration: /data/k, "
    "evaluate: {data: /data/t.txt, format: Text, "
    "sequenceLength: 64, sequences: 4}, output: /data/o}}}";
const char jobspecs_prune[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, convert: {format: HuggingFace, calibration: "
    "/data/k, prune: {pattern: Unstructured, target: 0.75}, output: /data/o}}}";
const char jobspecs_evaluate[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", model: {source: /data/m}, evaluate: {objective: MultipleChoice, data: "
    "/data/q.jsonl, format: JSONL, sequenceLength: 64, samples: 9, chat: true, adapter: /data/a, "
    "output: /data/o}}}";

void jobspecs_begin(void)
{
    jobspecs_arena = arena_create(1 << 20);
    ck_assert_ptr_nonnull(jobspecs_arena);
}

void jobspecs_end(void)
{
    arena_destroy(jobspecs_arena);
}

struct json *jobspecs_parse(const char *yaml)
{
    struct json *documents;
    struct err e = {.text = ""};
    ck_assert_msg(!yaml_parse(yaml, strlen(yaml), &documents, &e), "%s: %s", yaml, e.text);
    return documents;
}

/* A copy of base, where what stands at `target` is replaced by (or, when absent, added as)
 * value. */
static struct json *with(
    const struct json *base, const char *at, const char *target, const char *value)
{
    struct json *copy, *documents;
    if (!strcmp(at, target)) {
        documents = jobspecs_parse(value);
        copy = with(json_first(documents), "", "-", "");
        json_destroy(documents);
        return copy;
    }
    if (json_is_array(base) || json_is_object(base)) {
        bool list = json_is_array(base), found = false;
        int i = 0;
        copy = list ? json_new_array() : json_new_object();
        json_each (child, base) {
            char path[256];
            if (list)
                snprintf(path, sizeof path, "%s[%d]", at, i++);
            else
                snprintf(path, sizeof path, "%s%s%s", at, *at ? "." : "", json_key(child));
            found |= !strncmp(path, target, strlen(path));
            struct json *c = with(child, path, target, value);
            ck_assert_int_eq(list ? json_push(copy, c) : json_put(copy, json_key(child), c), 0);
        }
        const char *last = strrchr(target, '.');
        size_t n = last ? (size_t)(last - target) : 0;
        if (!list && !found && strlen(at) == n && !strncmp(at, target, n) && *target != '-')
            json_put(copy, last ? last + 1 : target, with(NULL, target, target, value));
        return copy;
    }
    if (json_is_string(base))
        return json_new_string(json_string_value(base));
    if (json_is_bool(base))
        return json_new_bool(json_bool_value(base));
    return json_is_number(base) ? json_new_number(json_number_value(base)) : json_new_null();
}

int jobspecs_decode(
    const char *document, const char *target, const char *value, struct jobspec *out, struct err *e)
{
    struct json *documents = jobspecs_parse(document);
    char path[256];
    snprintf(path, sizeof path, "spec.%s", target);
    struct json *changed = with(json_first(documents), "", path, value);
    int rc = jobspec_decode(changed, jobspecs_arena, out, e);
    json_destroy(changed);
    json_destroy(documents);
    return rc;
}

const char *jobspecs_verdict(const char *document, const char *target, const char *value)
{
    static struct err e;
    struct jobspec spec;
    memset(&spec, 0x5a, sizeof spec);
    struct jobspec before = spec;
    e = (struct err){.text = ""};
    int rc = jobspecs_decode(document, target, value, &spec, &e);
    ck_assert_int_eq(rc, -(int)e.code);
    if (rc) {
        ck_assert_msg(e.code == ERR_USER, "%s: %s: class %s", target, value, err_code_name(e.code));
        ck_assert_msg(
            !memcmp(&spec, &before, sizeof spec), "%s: output changed on failure", target);
    }
    arena_reset(jobspecs_arena);
    return e.text;
}
