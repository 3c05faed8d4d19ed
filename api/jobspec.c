/*
 * jobspec: the tables that describe an LLMJob's spec for base/field; what its texts may be is
 * jobspec_text's, rules that cross fields are jobspec_check's. Decoding fills a temporary and
 * copies it out at the end, so *out is unchanged on failure. It must not do I/O except in
 * jobspec_read_file, and knows nothing of immutability, which only the API server can judge.
 */
#include "api/jobspec.h"

#include "api/jobspec_check.h"
#include "api/jobspec_text.h"
#include "api/names.h"
#include "api/rows.h"
#include "api/search.h"
#include "base/yaml.h"

#define STEPS_MAX       1e9
#define LOCAL_STEPS_MAX 1e6

#define MASKING_SHARE "0.15" /* of the tokens, where nothing is said */

static const char *const task_names[] = {"Train", "Serve", "Run", "Convert", "Evaluate", NULL};
static const char *const average_names[] = {"Logits", "Probabilities", NULL};
static const char *const precision_names[] = {"FP32", "BF16", "FP16", NULL};
static const char *const init_names[] = {"Pretrained", "Random", NULL};
static const char *const method_names[] = {"Full", "LoRA", "Adapter", NULL};
static const char *const adapter_kind_names[] = {"Houlsby", "Pfeiffer", NULL};
static const char *const adapter_activation_names[] = {"ReLU", "GELU", "SiLU", NULL};
static const char *const objective_names[] = {"CausalLM", "MaskedLM", "TokenClassification",
    "SequenceClassification", "DPO", "PairMatching", NULL};
static const char *const dpo_loss_names[] = {"Sigmoid", "IPO", NULL};
static const char *const retrieval_answers_names[] = {"Any", "Cited", NULL};
static const char *const evaluated_names[] = {
    "CausalLM", "TokenClassification", "SequenceClassification", "MultipleChoice", NULL};
static const char *const pair_loss_names[] = {"InBatchNegatives", "Cosine", NULL};
static const char *const format_names[] = {"Auto", "Text", "JSONL", "CoNLL", "CSV", "TSV", NULL};
static const char *const text_format_names[] = {"Auto", "Text", "JSONL", NULL};
static const char *const recompute_names[] = {"None", "Selective", "Full", NULL};
static const char *const optimizer_names[] = {"AdamW", "SGD", "Lion", "Adafactor", "Muon", NULL};
static const char *const optimizer_state_names[] = {"FP32", "BF16", "Int8", NULL};
static const char *const kv_cache_names[] = {"Auto", "FP32", "BF16", "FP16", "Q8_0", NULL};
static const char *const gradients_names[] = {"FP32", "BF16", "Int8", NULL};
static const char *const balance_names[] = {"Equal", "Measured", NULL};
static const char *const lr_scaling_names[] = {"None", "Linear", "SquareRoot", NULL};
static const char *const schedule_names[] = {"Cosine", "Linear", "Constant", "WSD", NULL};
static const char *const sparsity_names[] = {"None", "Unstructured", "2:4", "Source", NULL};
static const char *const prune_names[] = {"None", "Unstructured", "2:4", NULL};
static const char *const convert_format_names[] = {"GGUF", "HuggingFace", NULL};
static const char *const feature_use_names[] = {"Value", "LogValue", "Near", "Shared", NULL};
static const char *const quantize_names[] = {
    "None", "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", NULL};
static const char *const speculation_names[] = {"None", "NGram", "Draft", NULL};
static const char *const quantized_base_names[] = {
    "None", "Stored", "Q8_0", "Q4_0", "Q4_K_M", NULL};
const char *task_name(enum task t)
{
    return task_names[t];
}

const char *device_kind(const char *resource)
{
    if (!strcmp(resource, "cpu"))
        return "cpu";
    if (!strcmp(resource, "nvidia.com/gpu") || !strncmp(resource, "nvidia.com/mig-", 15))
        return "cuda";
    return NULL;
}

const char *recompute_name(enum recompute r)
{
    return recompute_names[r];
}

const char *convert_format_name(enum convert_format f)
{
    return convert_format_names[f];
}

const char *quantize_name(enum quantize q)
{
    return quantize_names[q];
}

const char *evaluated_name(enum evaluated e)
{
    return evaluated_names[e];
}

const char *sparsity_name(enum sparsity_pattern p)
{
    return sparsity_names[p];
}

/* -- the spec, a row a leaf, in the CRD's order -- */

/* Is there anything to print of a group? */
#define PRESENT(group, is) \
    static bool has_##group(const void *spec_) \
    { \
        const struct jobspec *spec = spec_; \
        return is; \
    }
PRESENT(topology, spec->placement.topology_key)
PRESENT(model, spec->model.source)
PRESENT(checkpoint, spec->checkpoint.path)
PRESENT(train, spec->task == TASK_TRAIN)
PRESENT(lora, spec->train.method == METHOD_LORA)
PRESENT(adalora, spec->train.lora.adalora.initial_rank)
PRESENT(adapter, spec->train.method == METHOD_ADAPTER)
PRESENT(sparsity, spec->train.sparsity.pattern != SPARSITY_NONE)
PRESENT(distill, spec->train.distill.teacher)
PRESENT(generate, spec->train.generate.prompt_count)
PRESENT(dpo, spec->train.objective == OBJECTIVE_DPO)
PRESENT(masking, spec->train.objective == OBJECTIVE_MASKED_LM)
PRESENT(pair, spec->train.objective == OBJECTIVE_PAIR_MATCHING)
PRESENT(recommend, spec->serve.recommend.items)
PRESENT(serve, spec->task == TASK_SERVE)
PRESENT(speculation, spec->serve.speculation.method != SPECULATION_NONE)
PRESENT(classify, spec->serve.classify.alert_count)
PRESENT(ensemble, spec->serve.ensemble.member_count)
PRESENT(draft, spec->serve.speculation.model)
PRESENT(routing, spec->serve.routing.prefix_affinity)
PRESENT(retrieval, spec->serve.retrieval.documents)
PRESENT(run, spec->task == TASK_RUN)
PRESENT(convert, spec->task == TASK_CONVERT)
PRESENT(prune, spec->convert.prune.pattern != SPARSITY_NONE)
PRESENT(evaluate, spec->task == TASK_EVALUATE)
PRESENT(evaluation, spec->convert.evaluate.data)
PRESENT(search, search_wanted(spec))
PRESENT(halving, spec->search.algorithm == SEARCH_SUCCESSIVE_HALVING)
#define GROUP(path_, present) .path = (path_), .kind = FIELD_GROUP, .def = "", .info = (present)
#define PATH(path_, member, def_) \
    ROW(path_, STR, member, def_), RANGE(1, LIMIT_PATH_BYTES - 1), .format = &jobspec_path_format
#define AXIS(path_, member) \
    ROW(path_, INT, member, "0"), RANGE(0, LIMIT_REPLICAS *LIMIT_RANKS_PER_REPLICA)
#define OBJECT_NAME(path_, member, def_) \
    ROW(path_, STR, member, def_), RANGE(1, 253), .format = &jobspec_subdomain_format

#define TABLE struct jobspec_toleration
static const struct field toleration_rows[] = {
    {ROW("key", STR, key, field_none), RANGE(1, 317), .format = &jobspec_qualified_format},
    {ROW("operator", STR, operator_, "Equal"), RANGE(1, 16), .format = &jobspec_operator_format},
    {ROW("value", STR, value, field_none), RANGE(0, 63)},
    {ROW("effect", STR, effect, field_none), RANGE(1, 16), .format = &jobspec_effect_format},
    {ROW("tolerationSeconds", I64, seconds, "-1"), RANGE(0, LIMIT_SECONDS)},
};
static const struct field_table toleration_table = TABLE_OF(toleration_rows);
#undef TABLE

#define TABLE struct jobspec_storage
static const struct field storage_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 63), .format = &jobspec_label_format},
    {OBJECT_NAME("claimName", claim, field_none)},
    {ROW("scratch", CUSTOM, scratch_bytes, ""), .info = &jobspec_bytes_field},
    {PATH("mountPath", mount_path, NULL)},
    {ROW("readOnly", BOOL, read_only, "false")},
};
static const struct field_table storage_table = TABLE_OF(storage_rows);
#undef TABLE

#define TABLE struct jobspec_served_adapter
static const struct field served_adapter_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 128), .format = &jobspec_model_format},
    {PATH("path", path, NULL)},
};
static const struct field_table served_adapter_table = TABLE_OF(served_adapter_rows);
#undef TABLE

#define TABLE struct jobspec_alert
static const struct field alert_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 63), .format = &jobspec_label_format},
    {ROW("label", STR, label, NULL), RANGE(1, LIMIT_LABEL_BYTES - 1)},
    {ROW("windowSeconds", INT, window_seconds, "300"), RANGE(1, LIMIT_WAIT_SECONDS)},
    {ROW("share", NUM, share, NULL), RANGE(0, 1), .min_open = true},
    {ROW("clearShare", NUM, clear_share, "-1"), RANGE(0, 1)},
    {ROW("forSeconds", INT, for_seconds, "0"), RANGE(0, LIMIT_WAIT_SECONDS)},
    {ROW("minItems", INT, min_items, "10"), RANGE(1, 1000000)},
    {ROW("webhook", STR, webhook, field_none), RANGE(1, LIMIT_URL_BYTES - 1),
        .format = &jobspec_url_format},
    {ROW("webhookKey", STR, webhook_key, field_none), RANGE(1, 253), .format = &jobspec_key_format},
};
static const struct field_table alert_table = TABLE_OF(alert_rows);
#undef TABLE

#define TABLE struct jobspec_member
static const struct field member_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 63), .format = &jobspec_label_format},
    {PATH("source", source, field_none)},
    {PATH("adapter", adapter, field_none)},
};
static const struct field_table member_table = TABLE_OF(member_rows);
#undef TABLE

#define TABLE struct jobspec_feature
static const struct field feature_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 63), .format = &jobspec_model_format},
    {ROW("use", ENUM, use, "Value"), .info = feature_use_names},
    {ROW("weight", NUM, weight, NULL), RANGE(-LIMIT_FEATURE_WEIGHT, LIMIT_FEATURE_WEIGHT)},
};
static const struct field_table feature_table = TABLE_OF(feature_rows);
#undef TABLE

#define TABLE struct jobspec
static const struct field spec_rows[] = {
    {ROW("replicas", INT, replicas, "1"), RANGE(0, LIMIT_REPLICAS)},
    {ROW("suspend", BOOL, suspend, "false")},
    {ROW("managedBy", STR, managed_by, NAME_CONTROLLER), RANGE(1, 63),
        .format = &jobspec_manager_format},
    {ROW("image", STR, image, ""), RANGE(0, 512)},
    {ROW("device.resource", STR, device.resource, "cpu"), RANGE(1, 253),
        .format = &jobspec_device_format},
    {ROW("device.perReplica", INT, device.per_replica, "1"), RANGE(1, LIMIT_RANKS_PER_REPLICA)},
    {ROW("resources.requests", CUSTOM, requests, ""), .info = &jobspec_quantities_field},
    {ROW("resources.limits", CUSTOM, limits, ""), .info = &jobspec_quantities_field},
    {ROW("placement.nodeSelector", CUSTOM, placement.node_selector, ""),
        .info = &jobspec_labels_field},
    {ROW("placement.tolerations", INLINE, placement.tolerations, ""), RANGE(0, 16),
        COUNTED(placement.toleration_count), .info = &toleration_table},
    {OBJECT_NAME("placement.priorityClassName", placement.priority_class, field_none)},
    {OBJECT_NAME("placement.runtimeClassName", placement.runtime_class, field_none)},
    {GROUP("placement.topology", has_topology)},
    {ROW("placement.topology.key", STR, placement.topology_key, NULL), RANGE(1, 317),
        .format = &jobspec_qualified_format},
    {ROW("placement.topology.required", BOOL, placement.topology_required, "false")},
    {ROW("storage", INLINE, storage, ""), RANGE(0, LIMIT_STORAGE), COUNTED(storage_count),
        .info = &storage_table},
    {GROUP("model", has_model)},
    {PATH("model.source", model.source, NULL)},
    {ROW("model.init", ENUM, model.init, "Pretrained"), .info = init_names},
    {PATH("model.config", model.config, field_none)},
    {ROW("model.sha256", STR, model.sha256, field_none), RANGE(64, 64),
        .format = &jobspec_sha256_format},
    {AXIS("parallelism.data", parallelism.data)},
    {AXIS("parallelism.tensor", parallelism.tensor)},
    {AXIS("parallelism.pipeline", parallelism.pipeline)},
    {AXIS("parallelism.context", parallelism.context)},
    {AXIS("parallelism.expert", parallelism.expert)},
    {ROW("parallelism.virtualStages", INT, parallelism.virtual_stages, "1"), RANGE(1, 64)},
    {ROW("parallelism.zeroStage", INT, parallelism.zero_stage, "0"), RANGE(0, 3)},
    {ROW("parallelism.balance", ENUM, parallelism.balance, "Equal"), .info = balance_names},
    {ROW("precision", ENUM, precision, "BF16"), .info = precision_names},
    {MIN_REPLICAS},
    {WAIT_SECONDS},
    {GROUP("checkpoint", has_checkpoint)},
    {PATH("checkpoint.path", checkpoint.path, NULL)},
    {ROW("checkpoint.everySteps", I64, checkpoint.every_steps, "0"), RANGE(0, STEPS_MAX)},
    {ROW("checkpoint.everySeconds", I64, checkpoint.every_seconds, "300"), RANGE(0, LIMIT_SECONDS)},
    {ROW("checkpoint.keep", INT, checkpoint.keep, "2"), RANGE(2, 100)},
    {ROW("checkpoint.asynchronous", BOOL, checkpoint.asynchronous, "true")},
    {ROW("checkpoint.inMemoryEverySteps", I64, checkpoint.in_memory_every_steps, "0"),
        RANGE(0, STEPS_MAX)},
    {MAX_RESTARTS},
    {WINDOW_SECONDS},
    {HANG_SECONDS},
    {STRAGGLER_FACTOR},
    {ROW("activeDeadlineSeconds", I64, active_deadline_seconds, "0"), RANGE(1, LIMIT_SECONDS)},
    {ROW("ttlSecondsAfterFinished", I64, ttl_seconds_after_finished, "-1"),
        RANGE(0, LIMIT_SECONDS)},

    {GROUP("train", has_train)},
    {ROW("train.objective", ENUM, train.objective, "CausalLM"), .info = objective_names},
    {ROW("train.method", ENUM, train.method, "Full"), .info = method_names},
    {ROW("train.dropout", NUM, train.dropout, "0"), RANGE(0, 1), .max_open = true},
    {ROW("train.attentionDropout", NUM, train.attention_dropout, "0"), RANGE(0, 1),
        .max_open = true},
    {ROW("train.modelDropout", BOOL, train.model_dropout, "false")},
    {GROUP("train.lora", has_lora)},
    {ROW("train.lora.rank", INT, train.lora.rank, NULL), RANGE(1, 1024)},
    {ROW("train.lora.alpha", NUM, train.lora.alpha, "16"), RANGE(0, 10000)},
    {ROW("train.lora.rankStabilized", BOOL, train.lora.rank_stabilized, "false")},
    {ROW("train.lora.dora", BOOL, train.lora.dora, "false")},
    {ROW("train.lora.quantizedBase", ENUM, train.lora.quantized_base, "None"),
        .info = quantized_base_names},
    {ROW("train.lora.dropout", NUM, train.lora.dropout, "0"), RANGE(0, 1), .max_open = true},
    {ROW("train.lora.targets", STRINGS, train.lora.targets, "q_proj,v_proj"),
        RANGE(1, LIMIT_LORA_TARGETS), COUNTED(train.lora.target_count), .item_max = 63,
        .format = &jobspec_module_format},
    {GROUP("train.lora.adalora", has_adalora)},
    {ROW("train.lora.adalora.initialRank", INT, train.lora.adalora.initial_rank, "12"),
        RANGE(1, 1024)},
    {ROW("train.lora.adalora.initialSteps", I64, train.lora.adalora.initial_steps, "0"),
        RANGE(0, STEPS_MAX)},
    {ROW("train.lora.adalora.finalSteps", I64, train.lora.adalora.final_steps, "0"),
        RANGE(0, STEPS_MAX)},
    {ROW("train.lora.adalora.interval", I64, train.lora.adalora.interval, "1"),
        RANGE(1, STEPS_MAX)},
    {ROW("train.lora.adalora.beta1", NUM, train.lora.adalora.beta1, "0.85"), RANGE(0, 1),
        .min_open = true, .max_open = true},
    {ROW("train.lora.adalora.beta2", NUM, train.lora.adalora.beta2, "0.85"), RANGE(0, 1),
        .min_open = true, .max_open = true},
    {ROW("train.lora.adalora.orthogonalWeight", NUM, train.lora.adalora.orthogonal_weight, "0.5"),
        RANGE(0, 1000)},
    {GROUP("train.adapter", has_adapter)},
    {ROW("train.adapter.kind", ENUM, train.adapter.kind, NULL), .info = adapter_kind_names},
    {ROW("train.adapter.reductionFactor", INT, train.adapter.reduction_factor, "16"),
        RANGE(1, 1024)},
    {ROW("train.adapter.activation", ENUM, train.adapter.activation, "ReLU"),
        .info = adapter_activation_names},
    {GROUP("train.dpo", has_dpo)},
    {ROW("train.dpo.beta", NUM, train.dpo.beta, "0.1"), RANGE(0, 1000), .min_open = true},
    {ROW("train.dpo.labelSmoothing", NUM, train.dpo.label_smoothing, "0"), RANGE(0, 1),
        .max_open = true},
    {ROW("train.dpo.loss", ENUM, train.dpo.loss, "Sigmoid"), .info = dpo_loss_names},
    {GROUP("train.pair", has_pair)},
    {ROW("train.pair.loss", ENUM, train.pair.loss, "InBatchNegatives"), .info = pair_loss_names},
    {ROW("train.pair.temperature", NUM, train.pair.temperature, "-1"), RANGE(0, 10),
        .min_open = true},
    {PATH("train.data.train", train.data.train, NULL)},
    {PATH("train.data.validation", train.data.validation, field_none)},
    {PATH("train.data.test", train.data.test, field_none)},
    {ROW("train.data.format", ENUM, train.data.format, "Auto"), .info = format_names},
    {ROW("train.data.skipBadRecords", I64, train.data.skip_bad_records, "0"), RANGE(0, STEPS_MAX)},
    {ROW("train.data.packing", BOOL, train.data.packing, "false")},
    {GROUP("train.masking", has_masking)},
    {ROW("train.masking.share", NUM, train.masking.share, MASKING_SHARE), RANGE(0, 1),
        .min_open = true, .max_open = true},
    {ROW("train.masking.wholeWord", BOOL, train.masking.whole_word, "false")},
    {ROW("train.sequenceLength", INT, train.sequence_length, "512"), RANGE(1, 1048576)},
    {ROW("train.batchSequences", INT, train.batch_sequences, "8"), RANGE(1, 1048576)},
    {ROW("train.steps", I64, train.steps, "0"), RANGE(1, STEPS_MAX)},
    {ROW("train.epochs", NUM, train.epochs, "0"), RANGE(0, 10000), .min_open = true},
    {ROW("train.seed", I64, train.seed, "0"), RANGE(0, INTEGER_MAX)},
    {ROW("train.optimizer.name", ENUM, train.optimizer.name, "AdamW"), .info = optimizer_names},
    {ROW("train.optimizer.state", ENUM, train.optimizer.state, "FP32"),
        .info = optimizer_state_names},
    {ROW("train.optimizer.learningRate", NUM, train.optimizer.learning_rate, "0.0001"),
        RANGE(0, 10)},
    {ROW("train.optimizer.lrScaling", ENUM, train.optimizer.lr_scaling, "None"),
        .info = lr_scaling_names},
    {ROW("train.optimizer.lrBatchSequences", INT, train.optimizer.lr_batch_sequences, "0"),
        RANGE(1, 1048576)},
    {ROW("train.optimizer.schedule", ENUM, train.optimizer.schedule, "Cosine"),
        .info = schedule_names},
    {ROW("train.optimizer.minLearningRate", NUM, train.optimizer.min_learning_rate, "0"),
        RANGE(0, 10)},
    {ROW("train.optimizer.warmupSteps", I64, train.optimizer.warmup_steps, "0"),
        RANGE(0, STEPS_MAX)},
    {ROW("train.optimizer.decaySteps", I64, train.optimizer.decay_steps, "0"), RANGE(1, STEPS_MAX)},
    {ROW("train.optimizer.layerDecay", NUM, train.optimizer.layer_decay, "1"), RANGE(0, 1),
        .min_open = true},
    {ROW("train.optimizer.weightDecay", NUM, train.optimizer.weight_decay, "0.01"), RANGE(0, 10)},
    {ROW("train.optimizer.momentum", NUM, train.optimizer.momentum, "-1"), RANGE(0, 1),
        .max_open = true},
    {ROW("train.optimizer.beta1", NUM, train.optimizer.beta1, "-1"), RANGE(0, 1), .max_open = true},
    {ROW("train.optimizer.beta2", NUM, train.optimizer.beta2, "-1"), RANGE(0, 1), .max_open = true},
    {ROW("train.optimizer.epsilon", NUM, train.optimizer.epsilon, "-1"), RANGE(0, 1),
        .min_open = true},
    {ROW("train.optimizer.clipNorm", NUM, train.optimizer.clip_norm, "1"), RANGE(0, 1e6)},
    {PATH("train.optimizer.offload", train.optimizer.offload, field_none)},
    {GROUP("train.sparsity", has_sparsity)},
    {ROW("train.sparsity.pattern", ENUM, train.sparsity.pattern, NULL), .info = sparsity_names},
    {ROW("train.sparsity.target", NUM, train.sparsity.target, "0"), RANGE(0, 1), .min_open = true,
        .max_open = true},
    {ROW("train.sparsity.startStep", I64, train.sparsity.start_step, "0"), RANGE(0, STEPS_MAX)},
    {ROW("train.sparsity.endStep", I64, train.sparsity.end_step, "0"), RANGE(0, STEPS_MAX)},
    {ROW("train.sparsity.everySteps", I64, train.sparsity.every_steps, "0"), RANGE(1, STEPS_MAX)},
    {GROUP("train.distill", has_distill)},
    {PATH("train.distill.teacher", train.distill.teacher, NULL)},
    {ROW("train.distill.temperature", NUM, train.distill.temperature, "2"), RANGE(0, 100),
        .min_open = true},
    {ROW("train.distill.weight", NUM, train.distill.weight, "0.5"), RANGE(0, 1), .min_open = true},
    {ROW("train.communication.gradients", ENUM, train.communication.gradients, "FP32"),
        .info = gradients_names},
    {ROW("train.communication.localSteps", I64, train.communication.local_steps, "1"),
        RANGE(1, LOCAL_STEPS_MAX)},
    {ROW("train.communication.outerLearningRate", NUM, train.communication.outer_learning_rate,
         "1"),
        RANGE(0, 10), .min_open = true},
    {ROW("train.communication.outerMomentum", NUM, train.communication.outer_momentum, "0"),
        RANGE(0, 1), .max_open = true},
    {ROW("train.recompute", ENUM, train.recompute, "None"), .info = recompute_names},
    {ROW("train.evaluateEverySteps", I64, train.evaluate_every_steps, "0"), RANGE(0, STEPS_MAX)},
    {PATH("train.tensorboard", train.tensorboard, field_none)},
    {ROW("train.histogramEverySteps", I64, train.histogram_every_steps, "0"), RANGE(0, STEPS_MAX)},
    {ROW("train.trace.fromStep", I64, train.trace.from_step, "2"), RANGE(1, STEPS_MAX)},
    {ROW("train.trace.steps", INT, train.trace.steps, "0"), RANGE(0, LIMIT_TRACE_STEPS)},
    {GROUP("train.generate", has_generate)},
    {ROW("train.generate.everySteps", I64, train.generate.every_steps, NULL), RANGE(1, STEPS_MAX)},
    {ROW("train.generate.prompts", STRINGS, train.generate.prompts, NULL),
        RANGE(1, LIMIT_GENERATE_PROMPTS), COUNTED(train.generate.prompt_count),
        .item_max = LIMIT_GENERATE_BYTES},
    {ROW("train.generate.tokens", INT, train.generate.tokens, "32"),
        RANGE(1, LIMIT_GENERATE_TOKENS)},
    {PATH("train.output", train.output, NULL)},
    {ROW("train.exportedBy", STR, train.exported_by, field_none), RANGE(1, 58),
        .format = &jobspec_job_format},

    {GROUP("serve", has_serve)},
    {ROW("serve.modelName", STR, serve.model_name, field_none), RANGE(1, 128),
        .format = &jobspec_model_format},
    {ROW("serve.contextLength", INT, serve.context_length, "0"), RANGE(0, 1048576)},
    {ROW("serve.maxSequences", INT, serve.max_sequences, "16"), RANGE(1, LIMIT_SEQUENCES)},
    {ROW("serve.maxQueue", INT, serve.max_queue, "64"), RANGE(1, LIMIT_QUEUE_REQUESTS)},
    {ROW("serve.maxQueueTokens", INT, serve.max_queue_tokens, "0"), RANGE(0, LIMIT_QUEUE_TOKENS)},
    {ROW("serve.drainSeconds", INT, serve.drain_seconds, "30"), RANGE(0, 3600)},
    {ROW("serve.kvCache", ENUM, serve.kv_cache, "Auto"), .info = kv_cache_names},
    {PATH("serve.embeddingCache", serve.embedding_cache, field_none)},
    {OBJECT_NAME("serve.apiKeySecret", serve.api_key_secret, field_none)},
    {ROW("serve.adapters", ITEMS, serve.adapters, ""), RANGE(0, LIMIT_ADAPTERS),
        COUNTED(serve.adapter_count), .info = &served_adapter_table},
    {ROW("serve.adapterMemory", CUSTOM, serve.adapter_memory, ""), .info = &jobspec_bytes_field},
    {GROUP("serve.speculation", has_speculation)},
    {ROW("serve.speculation.method", ENUM, serve.speculation.method, NULL),
        .info = speculation_names},
    {ROW("serve.speculation.tokens", INT, serve.speculation.tokens, "4"),
        RANGE(1, LIMIT_SPECULATION_TOKENS)},
    {GROUP("serve.speculation.model", has_draft)},
    {PATH("serve.speculation.model.source", serve.speculation.model, NULL)},
    {GROUP("serve.classify", has_classify)},
    {PATH("serve.classify.file", serve.classify.file, field_none)},
    {PATH("serve.classify.directory", serve.classify.directory, field_none)},
    {PATH("serve.classify.state", serve.classify.state, field_none)},
    {PATH("serve.classify.caFile", serve.classify.ca_file, field_none)},
    {OBJECT_NAME("serve.classify.webhookSecret", serve.classify.webhook_secret, field_none)},
    {ROW("serve.classify.alerts", INLINE, serve.classify.alerts, NULL), RANGE(1, LIMIT_ALERTS),
        COUNTED(serve.classify.alert_count), .info = &alert_table},
    {GROUP("serve.ensemble", has_ensemble)},
    {ROW("serve.ensemble.members", INLINE, serve.ensemble.members, NULL), RANGE(2, LIMIT_MEMBERS),
        COUNTED(serve.ensemble.member_count), .info = &member_table},
    {ROW("serve.ensemble.average", ENUM, serve.ensemble.average, "Logits"), .info = average_names},
    {ROW("serve.ensemble.allowMissing", BOOL, serve.ensemble.allow_missing, "false")},
    {ROW("serve.ensemble.ranks", INT, serve.ensemble.ranks, "0"), RANGE(0, LIMIT_MEMBERS)},
    {GROUP("serve.recommend", has_recommend)},
    {PATH("serve.recommend.items", serve.recommend.items, NULL)},
    {ROW("serve.recommend.textWeight", NUM, serve.recommend.text_weight, "1"),
        RANGE(-LIMIT_FEATURE_WEIGHT, LIMIT_FEATURE_WEIGHT)},
    {ROW("serve.recommend.halfLife", NUM, serve.recommend.half_life, "3"), RANGE(0, LIMIT_HISTORY)},
    {ROW("serve.recommend.features", INLINE, serve.recommend.features, ""),
        RANGE(0, LIMIT_FEATURES), COUNTED(serve.recommend.feature_count), .info = &feature_table},
    {GROUP("serve.retrieval", has_retrieval)},
    {PATH("serve.retrieval.documents", serve.retrieval.documents, NULL)},
    {PATH("serve.retrieval.encoder.source", serve.retrieval.encoder.source, NULL)},
    {ROW("serve.retrieval.chunkTokens", INT, serve.retrieval.chunk_tokens, "192"), RANGE(32, 8192)},
    {ROW("serve.retrieval.overlapTokens", INT, serve.retrieval.overlap_tokens, "32"),
        RANGE(0, 2048)},
    {ROW("serve.retrieval.maxChunks", INT, serve.retrieval.max_chunks, "8192"),
        RANGE(1, LIMIT_RETRIEVAL_CHUNKS)},
    {ROW("serve.retrieval.results", INT, serve.retrieval.results, "4"),
        RANGE(1, LIMIT_RETRIEVAL_RESULTS)},
    {ROW("serve.retrieval.minScore", NUM, serve.retrieval.min_score, "0.25"), RANGE(0, 1)},
    {ROW("serve.retrieval.answers", ENUM, serve.retrieval.answers, "Any"),
        .info = retrieval_answers_names},
    {ROW("serve.retrieval.notFound", STR, serve.retrieval.not_found,
         "This is not in the documents."),
        RANGE(1, LIMIT_RETRIEVAL_NOT_FOUND)},
    {ROW("serve.retrieval.scanSeconds", INT, serve.retrieval.scan_seconds, "10"),
        RANGE(1, LIMIT_WAIT_SECONDS)},
    {GROUP("serve.routing", has_routing)},
    {ROW("serve.routing.prefixAffinity", BOOL, serve.routing.prefix_affinity, NULL)},
    {ROW("serve.routing.maxAhead", INT, serve.routing.max_ahead, "2"),
        RANGE(0, LIMIT_QUEUE_REQUESTS)},

    {GROUP("run", has_run)},
    {ROW("run.command", STRINGS, run.command, NULL), RANGE(1, LIMIT_RUN_ARGS),
        COUNTED(run.command_count), .item_max = TEXT_BYTES},
    {ROW("run.args", STRINGS, run.args, ""), RANGE(0, LIMIT_RUN_ARGS), COUNTED(run.arg_count),
        .item_max = TEXT_BYTES},
    {ROW("run.env", CUSTOM, run.env, ""), .info = &jobspec_environment_field},

    {GROUP("convert", has_convert)},
    {ROW("convert.format", ENUM, convert.format, "GGUF"), .info = convert_format_names},
    {ROW("convert.quantize", ENUM, convert.quantize, "None"), .info = quantize_names},
    {PATH("convert.mergeAdapter", convert.merge_adapter, field_none)},
    {PATH("convert.calibration", convert.calibration, field_none)},
    {GROUP("convert.prune", has_prune)},
    {ROW("convert.prune.pattern", ENUM, convert.prune.pattern, NULL), .info = prune_names},
    {ROW("convert.prune.target", NUM, convert.prune.target, "0"), RANGE(0, 1), .min_open = true,
        .max_open = true},
    {GROUP("convert.evaluate", has_evaluation)},
    {PATH("convert.evaluate.data", convert.evaluate.data, NULL)},
    {ROW("convert.evaluate.format", ENUM, convert.evaluate.format, "Auto"),
        .info = text_format_names},
    {ROW("convert.evaluate.sequenceLength", INT, convert.evaluate.sequence_length, "512"),
        RANGE(1, 1048576)},
    {ROW("convert.evaluate.sequences", INT, convert.evaluate.sequences, "16"), RANGE(1, 1048576)},
    {PATH("convert.output", convert.output, NULL)},

    {GROUP("search", has_search)},
    {ROW("search.algorithm", ENUM, search.algorithm, "Random"), .info = search_algorithms},
    {ROW("search.metric", ENUM, search.metric, "validationLoss"), .info = search_metrics},
    {ROW("search.goal", ENUM, search.goal, "Minimize"), .info = search_goals},
    {ROW("search.maxTrials", INT, search.max_trials, "10"), RANGE(1, LIMIT_TRIALS)},
    {ROW("search.parallelTrials", INT, search.parallel_trials, "1"),
        RANGE(1, LIMIT_PARALLEL_TRIALS)},
    {ROW("search.seed", I64, search.seed, "0"), RANGE(0, INTEGER_MAX)},
    {ROW("search.parameters", INLINE, search.parameters, NULL), RANGE(1, LIMIT_SEARCH_PARAMETERS),
        COUNTED(search.parameter_count), .info = &search_parameter_table},
    {GROUP("search.halving", has_halving)},
    {ROW("search.halving.factor", INT, search.halving.factor, "3"), RANGE(2, 10)},
    {ROW("search.halving.minSteps", I64, search.halving.min_steps, NULL), RANGE(1, STEPS_MAX)},
    {ROW("search.earlyStopTrials", INT, search.early_stop_trials, "0"), RANGE(0, LIMIT_TRIALS)},
    {GROUP("evaluate", has_evaluate)},
    {ROW("evaluate.objective", ENUM, evaluate.objective, "CausalLM"), .info = evaluated_names},
    {PATH("evaluate.data", evaluate.data, NULL)},
    {ROW("evaluate.format", ENUM, evaluate.format, "Auto"), .info = format_names},
    {ROW("evaluate.sequenceLength", INT, evaluate.sequence_length, "512"), RANGE(1, 1048576)},
    {ROW("evaluate.samples", INT, evaluate.samples, "0"), RANGE(1, 1000000000)},
    {ROW("evaluate.chat", BOOL, evaluate.chat, "false")},
    {PATH("evaluate.adapter", evaluate.adapter, field_none)},
    {PATH("evaluate.output", evaluate.output, NULL)},
};
static const struct field_table spec_table = TABLE_OF(spec_rows);

const struct field *jobspec_field(const char *path)
{
    for (size_t i = 0; i < COUNT(spec_rows); i++)
        if (!strcmp(spec_rows[i].path, path))
            return &spec_rows[i];
    return NULL;
}

/* A row for each of job.json's own members and for metadata; name up to 58 bytes: a pod adds
 * "-4999". */
static const struct field identity_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 58), .format = &jobspec_job_format},
    {ROW("namespace", STR, namespace_, "default"), RANGE(1, 63), .format = &jobspec_label_format},
    {ROW("uid", STR, uid, ""), RANGE(0, 63)},
    {ROW("generation", I64, generation, "1"), RANGE(0, INTEGER_MAX)},
};
static const struct field_table identity_table = TABLE_OF(identity_rows);
static const struct field_table nameless_table = {
    identity_rows + 1, COUNT(identity_rows) - 1, sizeof(struct jobspec)};

/* -- decoding and encoding -- */

static int find_task(
    const struct field_source *s, const struct json *spec, enum task *out, struct err *e)
{
    static const char *const keys[] = {"train", "serve", "run", "convert", "evaluate"};
    int found = 0;
    for (int i = 0; i < (int)COUNT(keys); i++) {
        const struct json *v = json_get(spec, keys[i]);
        if (v && !json_is_null(v)) {
            *out = (enum task)i;
            found++;
        }
    }
    if (found == 1)
        return 0;
    return field_refuse(s, "", e, "set exactly one of train, evaluate, convert, serve and run");
}

/* As the API server makes a name of metadata.generateName, but always with the same five characters
 * behind it, so that a job that is run here a second time is the same one. */
static int decode_generated(
    const struct field_source *s, const struct json *metadata, struct jobspec *out, struct err *e)
{
    int rc = field_decode(&nameless_table, s, metadata, out, e);
    if (rc)
        return rc;
    out->name = arena_printf(s->arena, "%.58sxxxxx", json_str(metadata, "generateName", ""));
    if (!out->name)
        return err_set(e, ERR_MEMORY, "out of memory reading metadata");
    if (strlen(out->name) > 58 || !jobspec_job_format.ok(out->name))
        return field_refuse(s, "generateName", e,
            "with the five characters that are added to it, it must be a DNS label that begins "
            "with a letter, of at most 58");
    return 0;
}

static int decode_identity(
    const struct json *object, bool kubernetes, struct arena *a, struct jobspec *out, struct err *e)
{
    struct field_source s = {kubernetes ? "metadata" : "", false, ERR_USER, a};
    const char *version = json_str(object, "apiVersion", ""), *kind = json_str(object, "kind", "");
    if (!kubernetes)
        return field_decode(&identity_table, &s, object, out, e);
    if (strcmp(version, NAME_API_VERSION) != 0)
        return err_set(e, ERR_USER, "apiVersion: \"%.60s\" is not %s", version, NAME_API_VERSION);
    if (strcmp(kind, NAME_KIND) != 0)
        return err_set(e, ERR_USER, "kind: \"%.60s\" is not %s", kind, NAME_KIND);
    const struct json *metadata = json_get(object, "metadata");
    if (!json_is_object(metadata))
        return err_set(e, ERR_USER, "metadata: required");
    if (!*json_str(metadata, "name", "") && *json_str(metadata, "generateName", ""))
        return decode_generated(&s, metadata, out, e);
    return field_decode(&identity_table, &s, metadata, out, e);
}

/* What is not given is the optimizer's own, as its authors have it; -1: it has none. */
static void fill_optimizer(struct jobspec_train *t)
{
    static const struct {
        double momentum, beta1, beta2, epsilon;
    } own[] = {
        [OPTIMIZER_ADAMW] = {-1, 0.9, 0.999, 1e-8},
        [OPTIMIZER_SGD] = {0.9, -1, -1, -1},
        [OPTIMIZER_LION] = {-1, 0.9, 0.99, -1},
        [OPTIMIZER_ADAFACTOR] = {-1, -1, -1, -1},
        [OPTIMIZER_MUON] = {0.95, 0.9, 0.999, 1e-8},
    };
    enum optimizer_name name = t->optimizer.name;
    double *const fields[] = {
        &t->optimizer.momentum, &t->optimizer.beta1, &t->optimizer.beta2, &t->optimizer.epsilon};
    const double values[] = {
        own[name].momentum, own[name].beta1, own[name].beta2, own[name].epsilon};
    for (size_t i = 0; i < COUNT(fields); i++)
        *fields[i] = *fields[i] < 0 ? values[i] : *fields[i];
}

/* A group that is not there says nothing of its fields. */
static void fill_masking(struct jobspec_train *t)
{
    if (t->objective == OBJECTIVE_MASKED_LM && !(t->masking.share > 0))
        t->masking.share = strtod(MASKING_SHARE, NULL);
}

/* Scales cosines by 20, as sentence-transformers does where nothing else is said. */
static void fill_pair(struct jobspec_train *t)
{
    if (t->objective == OBJECTIVE_PAIR_MATCHING && t->pair.loss == PAIR_IN_BATCH_NEGATIVES &&
        t->pair.temperature <= 0)
        t->pair.temperature = 0.05;
}

static int decode(
    const struct json *object, bool strict, struct arena *a, struct jobspec *out, struct err *e)
{
    struct field_source source = {"spec", strict, ERR_USER, a};
    struct jobspec identity, spec;
    size_t used = arena_used(a);
    if (!json_is_object(object))
        return err_set(e, ERR_USER, "an LLMJob must be an object");
    int rc = decode_identity(
        object, json_get(object, "kind") || json_get(object, "metadata"), a, &identity, e);
    if (rc)
        return rc;
    const struct json *body = json_get(object, "spec");
    if (!json_is_object(body))
        return err_set(e, ERR_USER, "spec: required");
    enum task task = TASK_RUN;
    if ((rc = find_task(&source, body, &task, e)) ||
        (rc = field_decode(&spec_table, &source, body, &spec, e)))
        return rc;
    spec.task = task;
    spec.name = identity.name;
    spec.namespace_ = identity.namespace_;
    spec.uid = identity.uid;
    spec.generation = identity.generation;
    if ((rc = jobspec_check(&source, &spec, body, e)))
        return rc;
    if (task == TASK_TRAIN) {
        fill_optimizer(&spec.train);
        fill_masking(&spec.train);
        fill_pair(&spec.train);
    }
    if (task == TASK_SERVE && !spec.serve.model_name)
        spec.serve.model_name = spec.name;
    if ((rc = jobspec_check_size(&source, &spec, arena_used(a) - used, e)))
        return rc;
    *out = spec;
    return 0;
}

int jobspec_decode(const struct json *object, struct arena *a, struct jobspec *out, struct err *e)
{
    return decode(object, false, a, out, e);
}

int jobspec_load(const char *path, struct arena *a, struct jobspec *out, struct err *e)
{
    json_auto struct json *job = NULL;
    int rc = json_read_file(path, LIMIT_JOB_FILE_BYTES, &job, e);
    return rc ? rc : jobspec_decode(job, a, out, e);
}

int jobspec_read_file(const char *path, struct arena *a, struct jobspec *out, struct err *e)
{
    json_auto struct json *documents = NULL;
    int rc = yaml_read_file(path, LIMIT_JOB_FILE_BYTES, &documents, e);
    if (rc) /* a person wrote it */
        return rc == -ERR_DATA && e ? -(int)(e->code = ERR_USER) : rc;
    const struct json *job = NULL;
    json_each (document, documents) {
        const char *kind = json_str(document, "kind", NULL);
        bool ours = kind ? !strcmp(kind, NAME_KIND) : json_get(document, "spec") != NULL;
        if (!ours)
            continue;
        if (job)
            return err_set(e, ERR_USER, "%s: more than one " NAME_KIND, path);
        job = document;
    }
    if (!job)
        return err_set(e, ERR_USER, "%s: no " NAME_KIND " in it", path);
    rc = decode(job, true, a, out, e);
    return rc ? err_wrap(e, "%s", path) : 0;
}

void jobspec_write(const struct jobspec *spec, const struct json *body, struct jsonw *w)
{
    jsonw_open(w, "spec", '{');
    field_encode_given(&spec_table, spec, body, w);
    jsonw_close(w);
}

int jobspec_encode(const struct jobspec *spec, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    field_encode(&identity_table, spec, &w);
    jobspec_write(spec, NULL, &w);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "out of memory writing %s", NAME_JOB_FILE) : 0;
}

bool jobspec_replicated(const struct jobspec *spec)
{
    return spec->task == TASK_SERVE && spec->parallelism.tensor <= 1 &&
        spec->parallelism.pipeline <= 1 && spec->serve.ensemble.ranks <= 1;
}
