/*
 * jobspec_check: one function a part of the spec, in the CRD's order; the first rule that is broken
 * is the one that is told. It must not change the spec.
 */
#include "api/jobspec_check.h"

#include "api/classify.h"
#include "api/jobpath.h"
#include "api/limits.h"
#include "api/names.h"
#include "api/search.h"
#include "base/utf8.h"

#include <string.h>
#include <strings.h>

#define FIXED_BYTES 32768 /* of a job file: field names, numbers, brackets */

static bool under(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (!path[n] || path[n] == '/');
}

static int check_storage(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    static const char *const reserved[] = {
        NAME_JOB_DIR, NAME_RUN_DIR, NAME_LIB_DIR, "/dev", "/proc", "/sys"};
    for (int i = 0; i < spec->storage_count; i++) {
        const struct jobspec_storage *at = &spec->storage[i];
        char path[48];
        snprintf(path, sizeof path, "storage[%d]", i);
        if (!at->claim == !at->scratch_bytes)
            return field_refuse(s, path, e, "set exactly one of claimName and scratch");
        for (int j = 0; j < i; j++)
            if (!strcmp(at->name, spec->storage[j].name) ||
                !strcmp(at->mount_path, spec->storage[j].mount_path))
                return field_refuse(
                    s, path, e, "names and mountPaths must differ from one another");
        snprintf(path, sizeof path, "storage[%d].mountPath", i);
        for (size_t j = 0; j < sizeof reserved / sizeof *reserved; j++)
            if (under(at->mount_path, reserved[j]) || under(reserved[j], at->mount_path))
                return field_refuse(s, path, e, "must not cover or lie in %s", reserved[j]);
    }
    return 0;
}

static int check_tolerations(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    for (int i = 0; i < spec->placement.toleration_count; i++) {
        const struct jobspec_toleration *t = &spec->placement.tolerations[i];
        char path[48];
        snprintf(path, sizeof path, "placement.tolerations[%d]", i);
        if (!strcmp(t->operator_, "Exists") ? t->value && *t->value : !t->key)
            return field_refuse(s, path, e, "Exists takes no value, and Equal needs a key");
        if (t->seconds >= 0 && (!t->effect || strcmp(t->effect, "NoExecute") != 0))
            return field_refuse(s, path, e, "tolerationSeconds needs effect NoExecute");
    }
    return 0;
}

/* Does it end in one of these, of whatever case? */
static bool ends_in(const char *file, const char *const *endings)
{
    size_t n = strlen(file);
    for (const char *const *x = endings; *x; x++)
        if (n >= strlen(*x) && !strcasecmp(file + n - strlen(*x), *x))
            return true;
    return false;
}

/* Do all files that are there? */
static bool files_end_in(const struct jobspec_train *t, const char *const *endings)
{
    const char *const files[] = {t->data.train, t->data.validation, t->data.test};
    for (int i = 0; i < 3; i++)
        if (files[i] && !ends_in(files[i], endings))
            return false;
    return true;
}

static int check_objective(
    const struct field_source *s, const struct jobspec_train *t, struct err *e)
{
    static const char *const words[] = {".conll", NULL};
    static const char *const texts[] = {".jsonl", ".ndjson", ".csv", ".tsv", NULL};
    enum data_format f = t->data.format;
    bool causal = t->objective == OBJECTIVE_CAUSAL_LM, dpo = t->objective == OBJECTIVE_DPO;
    bool masked = t->objective == OBJECTIVE_MASKED_LM;
    if ((causal || dpo || masked) && t->data.test)
        return field_refuse(s, "train.data.test", e,
            "only allowed with objective TokenClassification, SequenceClassification or "
            "PairMatching");
    if (t->objective != OBJECTIVE_TOKEN_CLASSIFICATION && f == FORMAT_CONLL)
        return field_refuse(
            s, "train.data.format", e, "CoNLL is only allowed with TokenClassification");
    if (t->objective == OBJECTIVE_TOKEN_CLASSIFICATION && f != FORMAT_CONLL &&
        !(f == FORMAT_AUTO && files_end_in(t, words)))
        return field_refuse(s, "train.data.format", e,
            "must be CoNLL with TokenClassification, or Auto with files that end in .conll");
    if (!causal && !dpo && !masked && t->data.skip_bad_records)
        return field_refuse(s, "train.data.skipBadRecords", e,
            "only allowed with objective CausalLM, MaskedLM or DPO");
    bool of_texts = t->objective == OBJECTIVE_SEQUENCE_CLASSIFICATION ||
        t->objective == OBJECTIVE_PAIR_MATCHING;
    if (!of_texts && (f == FORMAT_CSV || f == FORMAT_TSV))
        return field_refuse(s, "train.data.format", e,
            "CSV and TSV are only allowed with SequenceClassification and PairMatching");
    if (of_texts && f != FORMAT_JSONL && f != FORMAT_CSV && f != FORMAT_TSV &&
        !(f == FORMAT_AUTO && files_end_in(t, texts)))
        return field_refuse(s, "train.data.format", e,
            "must be JSONL, CSV or TSV with SequenceClassification and PairMatching, or Auto with "
            "files that end in .jsonl, .ndjson, .csv or .tsv");
    if (!causal && t->data.packing)
        return field_refuse(s, "train.data.packing", e, "only allowed with objective CausalLM");
    return 0;
}

static int check_dpo(const struct field_source *s, const struct jobspec_train *t,
    const struct json *dpo, struct err *e)
{
    if (t->objective != OBJECTIVE_DPO)
        return dpo && !json_is_null(dpo)
            ? field_refuse(s, "train.dpo", e, "only allowed with objective DPO")
            : 0;
    if (t->data.format != FORMAT_AUTO && t->data.format != FORMAT_JSONL)
        return field_refuse(s, "train.data.format", e, "must be JSONL or Auto with DPO");
    if (t->dpo.loss == DPO_IPO && t->dpo.label_smoothing > 0)
        return field_refuse(s, "train.dpo.labelSmoothing", e, "only allowed with loss Sigmoid");
    if (t->dpo.label_smoothing >= 0.5)
        return field_refuse(s, "train.dpo.labelSmoothing", e, "must be less than 0.5");
    return 0;
}

static int check_pair(const struct field_source *s, const struct jobspec_train *t,
    const struct json *body, struct err *e)
{
    const struct json *pair = json_path(body, "train.pair");
    bool matching = t->objective == OBJECTIVE_PAIR_MATCHING;
    if (!matching && pair && !json_is_null(pair))
        return field_refuse(s, "train.pair", e, "only allowed with objective PairMatching");
    if (matching && t->pair.loss == PAIR_COSINE && t->pair.temperature > 0)
        return field_refuse(
            s, "train.pair.temperature", e, "only allowed with loss InBatchNegatives");
    if (matching && (t->batch_sequences < 2 || t->batch_sequences > LIMIT_PAIRS))
        return field_refuse(s, "train.batchSequences", e,
            "from 2 to %d with PairMatching, for each text is compared with the others",
            LIMIT_PAIRS);
    return 0;
}

/* What does not go over the state from end to end, element by element, or has little. */
static const char *not_of_offload(const struct jobspec_train *t)
{
    return t->optimizer.name == OPTIMIZER_ADAFACTOR ? "Adafactor"
        : t->optimizer.name == OPTIMIZER_MUON       ? "Muon"
        : t->lora.adalora.initial_rank              ? "lora.adalora"
        : t->sparsity.pattern != SPARSITY_NONE      ? "sparsity"
                                                    : NULL;
}

static int check_optimizer(
    const struct field_source *s, const struct jobspec_train *t, struct err *e)
{
    enum optimizer_name name = t->optimizer.name;
    bool adamw = name == OPTIMIZER_ADAMW || name == OPTIMIZER_MUON;
    if (name == OPTIMIZER_MUON && t->method != METHOD_FULL)
        return field_refuse(s, "train.optimizer.name", e, "Muon is only allowed with method Full");
    if (t->optimizer.momentum >= 0 && name != OPTIMIZER_SGD && name != OPTIMIZER_MUON)
        return field_refuse(s, "train.optimizer.momentum", e, "only allowed with SGD and Muon");
    if (t->optimizer.beta1 >= 0 && !adamw && name != OPTIMIZER_LION)
        return field_refuse(
            s, "train.optimizer.beta1", e, "only allowed with AdamW, Lion and Muon");
    if (t->optimizer.beta2 >= 0 && !adamw && name != OPTIMIZER_LION)
        return field_refuse(
            s, "train.optimizer.beta2", e, "only allowed with AdamW, Lion and Muon");
    if (t->optimizer.epsilon >= 0 && !adamw)
        return field_refuse(s, "train.optimizer.epsilon", e, "only allowed with AdamW and Muon");
    if (t->optimizer.min_learning_rate > 0 && t->optimizer.schedule == SCHEDULE_CONSTANT)
        return field_refuse(
            s, "train.optimizer.minLearningRate", e, "not allowed with schedule Constant");
    if (t->optimizer.min_learning_rate > t->optimizer.learning_rate)
        return field_refuse(
            s, "train.optimizer.minLearningRate", e, "must not exceed learningRate");
    if (t->optimizer.decay_steps && t->optimizer.schedule != SCHEDULE_WSD)
        return field_refuse(s, "train.optimizer.decaySteps", e, "only allowed with schedule WSD");
    if (t->steps > 0 && t->optimizer.warmup_steps > t->steps)
        return field_refuse(s, "train.optimizer.warmupSteps", e, "must not exceed steps");
    if (t->steps > 0 && t->optimizer.warmup_steps + t->optimizer.decay_steps > t->steps)
        return field_refuse(
            s, "train.optimizer.decaySteps", e, "must not exceed steps, together with warmupSteps");
    const char *what = t->optimizer.offload ? not_of_offload(t) : NULL;
    if (what)
        return field_refuse(s, "train.optimizer.offload", e, "not with %s", what);
    if (t->optimizer.state != OPTIMIZER_STATE_FP32 && name == OPTIMIZER_ADAFACTOR)
        return field_refuse(s, "train.optimizer.state", e,
            "must be FP32 with Adafactor, which keeps a row and a column of each matrix");
    return 0;
}

static int check_sparsity(
    const struct field_source *s, const struct jobspec_train *t, struct err *e)
{
    enum sparsity_pattern p = t->sparsity.pattern;
    int64_t start = t->sparsity.start_step, end = t->sparsity.end_step;
    if (p != SPARSITY_NONE && t->method != METHOD_FULL)
        return field_refuse(s, "train.sparsity", e, "only allowed with method Full");
    if ((p == SPARSITY_UNSTRUCTURED) != (t->sparsity.target > 0))
        return field_refuse(s, "train.sparsity.target", e,
            "required with pattern Unstructured, and only allowed there");
    if ((start || end) && p != SPARSITY_UNSTRUCTURED && p != SPARSITY_2_4)
        return field_refuse(
            s, "train.sparsity.endStep", e, "only allowed with patterns Unstructured and 2:4");
    if (end < start)
        return field_refuse(s, "train.sparsity.endStep", e, "must not be below startStep");
    if (t->steps > 0 && end > t->steps)
        return field_refuse(s, "train.sparsity.endStep", e, "must not exceed steps");
    if (t->sparsity.every_steps && end == start)
        return field_refuse(
            s, "train.sparsity.everySteps", e, "only allowed with endStep above startStep");
    if (p != SPARSITY_NONE && t->optimizer.state != OPTIMIZER_STATE_FP32)
        return field_refuse(s, "train.optimizer.state", e, "must be FP32 with sparsity");
    return 0;
}

static int check_lora(const struct field_source *s, const struct jobspec_train *t, struct err *e)
{
    int64_t together = t->lora.adalora.initial_steps + t->lora.adalora.final_steps;
    if (t->method != METHOD_LORA)
        return 0;
    if (t->lora.dora && t->lora.dropout > 0)
        return field_refuse(s, "train.lora.dropout", e, "not allowed with dora");
    if (!t->lora.adalora.initial_rank)
        return 0;
    if (t->lora.dora)
        return field_refuse(s, "train.lora.dora", e, "not allowed with adalora");
    if (t->lora.rank_stabilized)
        return field_refuse(s, "train.lora.rankStabilized", e, "not allowed with adalora");
    if (t->lora.adalora.initial_rank <= t->lora.rank)
        return field_refuse(s, "train.lora.adalora.initialRank", e, "must be above lora.rank");
    if (t->steps > 0 && together >= t->steps)
        return field_refuse(s, "train.lora.adalora.finalSteps", e,
            "must be less than steps, together with initialSteps");
    return 0;
}

/* What needs the sum of each gradient as it is; NULL: nothing. */
static const char *not_of_communication(const struct jobspec *spec)
{
    return spec->precision == PRECISION_FP16 ? "precision FP16"
        : spec->parallelism.tensor > 1       ? "parallelism.tensor above 1"
        : spec->parallelism.pipeline > 1     ? "parallelism.pipeline above 1"
        : spec->parallelism.expert > 1       ? "parallelism.expert above 1"
        : spec->parallelism.context > 1      ? "parallelism.context above 1"
        : spec->parallelism.zero_stage       ? "parallelism.zeroStage above 0"
                                             : NULL;
}

/* What is decided for all ranks from the weights at a step, or looks at them by epochs. */
static const char *not_of_local_steps(const struct jobspec_train *t)
{
    bool tells_tokens = t->objective == OBJECTIVE_CAUSAL_LM || t->objective == OBJECTIVE_MASKED_LM;
    return t->sparsity.pattern != SPARSITY_NONE ? "train.sparsity"
        : t->lora.adalora.initial_rank          ? "train.lora.adalora"
        : !tells_tokens                         ? "objectives other than CausalLM and MaskedLM"
                                                : NULL;
}

/* Checkpoints and evaluations are of the weights that all ranks have. */
static int check_communication(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_train *t = &spec->train;
    int64_t local = t->communication.local_steps;
    if (t->communication.gradients == GRADIENTS_FP32 && local <= 1)
        return 0;
    const char *what = not_of_communication(spec);
    if (what)
        return field_refuse(s, "train.communication", e,
            "BF16 and Int8 gradients, and localSteps above 1, not with %s", what);
    what = not_of_local_steps(t);
    if (local > 1 && what)
        return field_refuse(s, "train.communication.localSteps", e, "above 1 not with %s", what);
    if (local > 1 && spec->checkpoint.every_steps % local)
        return field_refuse(s, "checkpoint.everySteps", e,
            "must be a multiple of train.communication.localSteps, %lld", (long long)local);
    if (local > 1 && t->evaluate_every_steps % local)
        return field_refuse(s, "train.evaluateEverySteps", e,
            "must be a multiple of train.communication.localSteps, %lld", (long long)local);
    return 0;
}

static int64_t ways(int told)
{
    return told > 1 ? told : 1;
}

static int check_train(const struct field_source *s, const struct jobspec *spec,
    const struct json *body, struct err *e)
{
    const struct jobspec_train *t = &spec->train;
    const struct json *lora = json_path(body, "train.lora");
    const struct json *adapter = json_path(body, "train.adapter");
    const struct json *masking = json_path(body, "train.masking");
    if (!spec->checkpoint.path)
        return field_refuse(s, "checkpoint", e, "required with train");
    if ((t->steps > 0) == (t->epochs > 0))
        return field_refuse(s, "train", e, "set exactly one of steps and epochs");
    if ((t->method == METHOD_LORA) != (lora && !json_is_null(lora)))
        return field_refuse(
            s, "train.lora", e, "required with method LoRA, and only allowed there");
    if ((t->method == METHOD_ADAPTER) != (adapter && !json_is_null(adapter)))
        return field_refuse(
            s, "train.adapter", e, "required with method Adapter, and only allowed there");
    if (t->method == METHOD_LORA && t->lora.quantized_base && spec->model.init == INIT_RANDOM)
        return field_refuse(s, "train.lora.quantizedBase", e, "not allowed with model.init Random");
    if (t->objective != OBJECTIVE_MASKED_LM && masking && !json_is_null(masking))
        return field_refuse(s, "train.masking", e, "only allowed with objective MaskedLM");
    int rc;
    if ((rc = check_lora(s, t, e)) || (rc = check_objective(s, t, e)) ||
        (rc = check_dpo(s, t, json_path(body, "train.dpo"), e)) ||
        (rc = check_pair(s, t, body, e)) || (rc = check_optimizer(s, t, e)) ||
        (rc = check_sparsity(s, t, e)) || (rc = check_communication(s, spec, e)))
        return rc;
    if (t->distill.teacher && t->objective != OBJECTIVE_CAUSAL_LM &&
        t->objective != OBJECTIVE_TOKEN_CLASSIFICATION &&
        t->objective != OBJECTIVE_SEQUENCE_CLASSIFICATION)
        return field_refuse(s, "train.distill", e,
            "only allowed with objective CausalLM, TokenClassification or SequenceClassification");
    const struct json *search = json_get(body, "search");
    if (t->exported_by && search && !json_is_null(search))
        return field_refuse(s, "train.exportedBy", e, "not allowed with search, which sets it");
    if (t->histogram_every_steps && !t->tensorboard)
        return field_refuse(s, "train.histogramEverySteps", e, "needs train.tensorboard");
    if (t->generate.prompt_count && t->objective != OBJECTIVE_CAUSAL_LM &&
        t->objective != OBJECTIVE_DPO)
        return field_refuse(s, "train.generate", e, "only allowed with objective CausalLM or DPO");
    int64_t same = ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline) *
        ways(spec->parallelism.context); /* ranks that see the same sequences */
    int64_t ranks = (int64_t)spec->replicas * spec->device.per_replica;
    if ((ranks - 1) / same >= t->batch_sequences)
        return field_refuse(s, "train.batchSequences", e,
            "must be at least replicas x device.perReplica / "
            "(parallelism.tensor x pipeline x context)");
    return 0;
}

/* What is computed from whole tensors, or from all layers, is not of shares. */
const char *jobspec_not_of_shares(const struct jobspec *spec, bool pipeline)
{
    const struct jobspec_train *t = &spec->train;
    const struct {
        const char *what;
        bool is;
    } whole[] = {{"precision FP16", spec->precision == PRECISION_FP16},
        {"train.method Adapter", t->method == METHOD_ADAPTER}, {"train.lora.dora", t->lora.dora},
        {"train.lora.adalora", t->lora.adalora.initial_rank}, {"train.dropout", t->dropout > 0},
        {"train.lora.dropout", t->lora.dropout > 0},
        {"train.lora.quantizedBase", t->lora.quantized_base != BASE_NONE},
        {"train.histogramEverySteps", t->histogram_every_steps},
        {"train.distill", t->distill.teacher},
        {"train.sparsity", t->sparsity.pattern != SPARSITY_NONE},
        {"train.optimizer.name Adafactor", t->optimizer.name == OPTIMIZER_ADAFACTOR},
        {"train.optimizer.name Muon", t->optimizer.name == OPTIMIZER_MUON},
        {"train.optimizer.state Int8", t->optimizer.state == OPTIMIZER_STATE_INT8},
        {"train.optimizer.state BF16", t->optimizer.state == OPTIMIZER_STATE_BF16},
        {"train.generate", spec->parallelism.expert > 1 && t->generate.prompt_count},
        {"objectives other than CausalLM",
            spec->parallelism.expert > 1 && t->objective != OBJECTIVE_CAUSAL_LM}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (whole[i].is)
            return whole[i].what;
    bool tells_tokens = t->objective == OBJECTIVE_CAUSAL_LM || t->objective == OBJECTIVE_MASKED_LM;
    return pipeline && !tells_tokens ? "objectives other than CausalLM and MaskedLM" : NULL;
}

/* What needs a whole sequence on one rank, or counts its tokens. */
static const char *not_of_chunks(const struct jobspec *spec)
{
    const struct jobspec_train *t = &spec->train;
    if (t->objective != OBJECTIVE_CAUSAL_LM)
        return "objectives other than CausalLM";
    if (spec->precision == PRECISION_FP16)
        return "precision FP16";
    if (t->dropout > 0)
        return "train.dropout";
    if (t->lora.dropout > 0)
        return "train.lora.dropout";
    if (t->generate.prompt_count)
        return "train.generate";
    return t->distill.teacher ? "train.distill" : NULL;
}

/* What of an evaluation is a training's forward half, over micro-batches. */
static const char *not_of_forward_shares(const struct jobspec *spec)
{
    enum evaluated o = spec->evaluate.objective;
    return spec->task == TASK_EVALUATE && o != EVALUATED_CAUSAL_LM && o != EVALUATED_MULTIPLE_CHOICE
        ? "objectives other than CausalLM and MultipleChoice"
        : NULL;
}

static int check_shares(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct {
        const char *path;
        int ways;
    } axes[] = {{"parallelism.tensor", spec->parallelism.tensor},
        {"parallelism.pipeline", spec->parallelism.pipeline},
        {"parallelism.expert", spec->parallelism.expert},
        {"parallelism.context", spec->parallelism.context}};
    enum { FORWARD = 2, SHARES = 3 }; /* the first so many are of the model */
    bool trains = spec->task == TASK_TRAIN;
    bool pipeline = spec->parallelism.pipeline > 1;
    int64_t together = 1;
    if (spec->parallelism.expert > 1 &&
        (pipeline || spec->parallelism.tensor > 1 || spec->parallelism.context > 1))
        return field_refuse(
            s, "parallelism.expert", e, "above 1 not with tensor, pipeline or context above 1");
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) {
        if (axes[i].ways <= 1)
            continue;
        if (i < FORWARD && (spec->task == TASK_CONVERT || spec->task == TASK_RUN))
            return field_refuse(
                s, axes[i].path, e, "above 1 only with train, evaluate and serve so far");
        if (i >= FORWARD && !trains)
            return field_refuse(s, axes[i].path, e, "above 1 only with train so far");
        const char *what = !trains ? not_of_forward_shares(spec)
            : i < SHARES           ? jobspec_not_of_shares(spec, pipeline)
                                   : not_of_chunks(spec);
        if (what)
            return field_refuse(s, axes[i].path, e, "above 1 not with %s", what);
        together *= axes[i].ways;
    }
    if ((int64_t)spec->replicas * spec->device.per_replica % together)
        return field_refuse(s, "parallelism", e,
            "tensor x pipeline x expert x context must divide replicas x device.perReplica");
    if (spec->parallelism.context > 1 &&
        spec->train.sequence_length % (2 * (int64_t)spec->parallelism.context))
        return field_refuse(
            s, "train.sequenceLength", e, "must be a multiple of 2 x parallelism.context");
    return 0;
}

/* A model that ranks share is served once, by all ranks there are. */
static int check_serving_ranks(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    int64_t together = ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline);
    if (together > 1 && spec->replicas &&
        (int64_t)spec->replicas * spec->device.per_replica != together)
        return field_refuse(s, "parallelism", e,
            "tensor x pipeline must be replicas x device.perReplica with serve: a model that ranks "
            "share is served once");
    return 0;
}

static int check_served_cache(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    if (spec->serve.kv_cache != KV_CACHE_Q8_0 || !strcmp(spec->device.resource, "cpu"))
        return 0;
    return field_refuse(s, "serve.kvCache", e, "Q8_0 only with device.resource cpu so far");
}

/* Names that a request may give, the model's own among them, tell one from another. */
static int check_served_adapters(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_serve *v = &spec->serve;
    if (v->adapter_count && ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline) > 1)
        return field_refuse(s, "serve.adapters", e,
            "not with parallelism.tensor or pipeline above 1 so far: one rank has them");
    for (int i = 0; i < v->adapter_count; i++) {
        char path[48];
        snprintf(path, sizeof path, "serve.adapters[%d].name", i);
        bool taken = v->model_name && !strcmp(v->adapters[i].name, v->model_name);
        for (int j = 0; j < i; j++)
            taken |= !strcmp(v->adapters[i].name, v->adapters[j].name);
        if (taken)
            return field_refuse(
                s, path, e, "must differ from serve.modelName and the other adapters' names");
    }
    return 0;
}

/* Members tell by their names which of them an error or an answer is about. */
static int check_ensemble(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_serve *v = &spec->serve;
    if (!v->ensemble.member_count)
        return 0;
    if (ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline) > 1)
        return field_refuse(s, "serve.ensemble", e,
            "not with parallelism.tensor or pipeline above 1 so far: a rank has members whole");
    if (v->adapter_count)
        return field_refuse(
            s, "serve.ensemble", e, "not with serve.adapters so far: an adapter is a member's");
    if (v->recommend.items)
        return field_refuse(s, "serve.ensemble", e,
            "not with serve.recommend: models that embed texts are not averaged");
    if (v->ensemble.ranks > v->ensemble.member_count)
        return field_refuse(s, "serve.ensemble.ranks", e, "must not exceed the members");
    if (v->ensemble.ranks > 1 && spec->replicas &&
        (int64_t)spec->replicas * spec->device.per_replica != v->ensemble.ranks)
        return field_refuse(s, "serve.ensemble.ranks", e,
            "above 1 must be replicas x device.perReplica: ranks that have members each serve "
            "once");
    if (v->ensemble.ranks > 1 && v->ensemble.allow_missing)
        return field_refuse(s, "serve.ensemble.allowMissing", e, "not with ranks above 1 so far");
    for (int i = 1; i < v->ensemble.member_count; i++)
        for (int j = 0; j < i; j++) {
            char path[48];
            snprintf(path, sizeof path, "serve.ensemble.members[%d].name", i);
            if (!strcmp(v->ensemble.members[i].name, v->ensemble.members[j].name))
                return field_refuse(s, path, e, "must differ from the other members' names");
        }
    return 0;
}

static int check_speculation(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    bool drafts = spec->serve.speculation.method == SPECULATION_DRAFT;
    if (drafts != (spec->serve.speculation.model != NULL))
        return field_refuse(
            s, "serve.speculation.model", e, "required with method Draft, and only allowed there");
    if (drafts && ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline) > 1)
        return field_refuse(s, "serve.speculation.method", e,
            "Draft not with parallelism.tensor or pipeline above 1 so far: one rank has it");
    if (drafts && spec->serve.ensemble.member_count)
        return field_refuse(s, "serve.speculation.method", e,
            "Draft not with serve.ensemble so far: NGram guesses for several models, too");
    return 0;
}

/* The parts of a score are told by names. */
static int check_recommended(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_feature *f = spec->serve.recommend.features;
    for (int i = 0; i < spec->serve.recommend.feature_count; i++) {
        char path[56];
        snprintf(path, sizeof path, "serve.recommend.features[%d].name", i);
        bool taken = !strcmp(f[i].name, "id") || !strcmp(f[i].name, "text");
        for (int j = 0; j < i; j++)
            taken |= !strcmp(f[i].name, f[j].name);
        if (taken)
            return field_refuse(
                s, path, e, "must differ from id, text and the other features' names");
    }
    return 0;
}

/* What chunks may be; one rank has documents. */
static int check_retrieval(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_retrieval *v = &spec->serve.retrieval;
    if (!v->documents)
        return 0;
    if (ways(spec->parallelism.tensor) * ways(spec->parallelism.pipeline) > 1)
        return field_refuse(s, "serve.retrieval", e,
            "not with parallelism.tensor or pipeline above 1 so far: one rank has it");
    if (v->overlap_tokens > v->chunk_tokens / 4)
        return field_refuse(
            s, "serve.retrieval.overlapTokens", e, "must be at most a quarter of chunkTokens");
    return 0;
}

static int check_virtual_stages(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    if (spec->parallelism.virtual_stages <= 1)
        return 0;
    if (spec->task != TASK_TRAIN)
        return field_refuse(s, "parallelism.virtualStages", e, "above 1 only with train");
    if (spec->parallelism.pipeline <= 1)
        return field_refuse(
            s, "parallelism.virtualStages", e, "above 1 needs pipeline to be told, above 1");
    if (spec->parallelism.balance != BALANCE_EQUAL)
        return field_refuse(s, "parallelism.virtualStages", e, "above 1 not with balance Measured");
    return 0;
}

/* What computes with whole gradients or, from stage 3 on, weights, or has a loop of its own. */
static const char *not_of_slices(const struct jobspec *spec, int stage)
{
    const struct jobspec_train *t = &spec->train;
    const struct {
        const char *what;
        bool is;
    } whole[] = {{"parallelism.tensor above 1", spec->parallelism.tensor > 1},
        {"parallelism.pipeline above 1", spec->parallelism.pipeline > 1},
        {"parallelism.expert above 1", spec->parallelism.expert > 1},
        {"parallelism.context above 1", spec->parallelism.context > 1},
        {"parallelism.balance Measured", spec->parallelism.balance == BALANCE_MEASURED},
        {"objective DPO", t->objective == OBJECTIVE_DPO},
        {"objective PairMatching", t->objective == OBJECTIVE_PAIR_MATCHING},
        {"train.lora.dora", t->lora.dora}, {"train.lora.adalora", t->lora.adalora.initial_rank},
        {"train.lora.quantizedBase", t->lora.quantized_base != BASE_NONE},
        {"train.distill", t->distill.teacher},
        {"train.sparsity", t->sparsity.pattern != SPARSITY_NONE},
        {"train.generate", stage > 2 && t->generate.prompt_count}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole && stage > 1; i++)
        if (whole[i].is)
            return whole[i].what;
    return NULL;
}

/* What has ranks wait for each other within a share, or takes shares to be equal. */
static int check_balance(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_train *t = &spec->train;
    if (spec->parallelism.balance == BALANCE_EQUAL)
        return 0;
    if (spec->task != TASK_TRAIN)
        return field_refuse(s, "parallelism.balance", e, "Measured is only allowed with train");
    const char *what = spec->parallelism.expert > 1 ? "parallelism.expert above 1"
        : t->communication.local_steps > 1          ? "train.communication.localSteps above 1"
        : t->objective == OBJECTIVE_PAIR_MATCHING   ? "objective PairMatching"
                                                    : NULL;
    return what ? field_refuse(s, "parallelism.balance", e, "Measured not with %s", what) : 0;
}

int jobspec_most_zero(const struct jobspec *spec)
{
    int stage = spec->train.histogram_every_steps ? 0 : 3;
    while (not_of_slices(spec, stage))
        stage--;
    return stage;
}

static int check_parallelism(
    const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    int rc = check_shares(s, spec, e);
    rc = rc ? rc : check_virtual_stages(s, spec, e);
    if (rc)
        return rc;
    if (spec->parallelism.zero_stage && spec->train.histogram_every_steps)
        return field_refuse(s, "parallelism.zeroStage", e,
            "not with train.histogramEverySteps: no rank has the whole gradient");
    if (spec->task != TASK_TRAIN && spec->task != TASK_EVALUATE && spec->parallelism.data)
        return field_refuse(s, "parallelism.data", e, "only allowed with train and evaluate");
    if (spec->task != TASK_TRAIN && spec->parallelism.zero_stage)
        return field_refuse(s, "parallelism.zeroStage", e, "only allowed with train");
    const char *what = not_of_slices(spec, spec->parallelism.zero_stage);
    if (what)
        return field_refuse(
            s, "parallelism.zeroStage", e, "%d not with %s", spec->parallelism.zero_stage, what);
    return check_balance(s, spec, e);
}

static int check_search(const struct field_source *s, const struct jobspec *spec,
    const struct json *body, struct err *e)
{
    const struct json *search = json_get(body, "search");
    if (!search || json_is_null(search))
        return 0;
    if (spec->task != TASK_TRAIN)
        return field_refuse(s, "search", e, "only allowed with train");
    return search_check(s, spec, body, check_train, e);
}

static int check_convert(
    const struct field_source *s, const struct jobspec_convert *c, struct err *e)
{
    if (c->format == CONVERT_HUGGING_FACE && c->quantize > QUANTIZE_BF16)
        return field_refuse(
            s, "convert.quantize", e, "only None, F32, F16 and BF16 with format HuggingFace");
    bool prunes = c->prune.pattern != SPARSITY_NONE;
    bool weighs = c->quantize == QUANTIZE_Q4_0 || c->quantize == QUANTIZE_Q4_K_M;
    if (c->calibration && !weighs && !prunes)
        return field_refuse(s, "convert.calibration", e,
            "only allowed with quantize Q4_0 and Q4_K_M, and with prune");
    if (prunes && c->quantize == QUANTIZE_Q4_K_M)
        return field_refuse(s, "convert.quantize", e,
            "Q4_K_M is not allowed with prune: its blocks hold no exact zeros");
    if ((c->prune.pattern == SPARSITY_UNSTRUCTURED) != (c->prune.target > 0))
        return field_refuse(s, "convert.prune.target", e,
            "required with pattern Unstructured, and only allowed there");
    return 0;
}

/* As check_objective has it of a training's files. */
static int check_evaluated_format(
    const struct field_source *s, const struct jobspec_evaluate *v, struct err *e)
{
    static const char *const words[] = {".conll", NULL};
    static const char *const texts[] = {".jsonl", ".ndjson", ".csv", ".tsv", NULL};
    static const char *const lines[] = {".jsonl", ".ndjson", NULL};
    enum data_format f = v->format;
    bool any = f == FORMAT_AUTO;
    switch (v->objective) {
    case EVALUATED_CAUSAL_LM:
        if (any || f == FORMAT_TEXT || f == FORMAT_JSONL)
            return 0;
        return field_refuse(s, "evaluate.format", e, "must be Auto, Text or JSONL with CausalLM");
    case EVALUATED_TOKEN_CLASSIFICATION:
        if (f == FORMAT_CONLL || (any && ends_in(v->data, words)))
            return 0;
        return field_refuse(s, "evaluate.format", e,
            "must be CoNLL with TokenClassification, or Auto with a file that ends in .conll");
    case EVALUATED_SEQUENCE_CLASSIFICATION:
        if (f == FORMAT_JSONL || f == FORMAT_CSV || f == FORMAT_TSV ||
            (any && ends_in(v->data, texts)))
            return 0;
        return field_refuse(s, "evaluate.format", e,
            "must be JSONL, CSV or TSV with SequenceClassification, or Auto with a file that ends "
            "in .jsonl, .ndjson, .csv or .tsv");
    case EVALUATED_MULTIPLE_CHOICE:
        if (f == FORMAT_JSONL || (any && ends_in(v->data, lines)))
            return 0;
        return field_refuse(s, "evaluate.format", e,
            "must be JSONL with MultipleChoice, or Auto with a file that ends in .jsonl or "
            ".ndjson");
    }
    return 0;
}

static int check_evaluate(
    const struct field_source *s, const struct jobspec_evaluate *v, struct err *e)
{
    bool generates =
        v->objective == EVALUATED_CAUSAL_LM || v->objective == EVALUATED_MULTIPLE_CHOICE;
    if (v->chat && v->objective != EVALUATED_MULTIPLE_CHOICE)
        return field_refuse(s, "evaluate.chat", e, "only allowed with MultipleChoice");
    if (v->adapter && !generates)
        return field_refuse(
            s, "evaluate.adapter", e, "only allowed with CausalLM and MultipleChoice");
    return check_evaluated_format(s, v, e);
}

static int check_run(const struct field_source *s, const struct jobspec_run *run, struct err *e)
{
    size_t n = 0; /* as CEL counts: characters */
    for (int i = 0; i < run->command_count; i++)
        n += utf8_count(run->command[i]);
    for (int i = 0; i < run->arg_count; i++)
        n += utf8_count(run->args[i]);
    for (int i = 0; i < run->env.count; i++)
        n += utf8_count(run->env.keys[i]) + utf8_count(run->env.values[i]);
    return n <= LIMIT_RUN_CHARACTERS
        ? 0
        : field_refuse(s, "run", e,
              "command, args and env hold %zu characters together, and %d are allowed", n,
              LIMIT_RUN_CHARACTERS);
}

int jobspec_check(const struct field_source *s, const struct jobspec *spec, const struct json *body,
    struct err *e)
{
    int rc = check_storage(s, spec, e);
    if (rc || (rc = check_tolerations(s, spec, e)))
        return rc;
    if (spec->replicas && spec->elastic.min_replicas > spec->replicas)
        return field_refuse(s, "elastic.minReplicas", e, "must not exceed replicas");
    if (spec->task == TASK_SERVE &&
        ((rc = check_serving_ranks(s, spec, e)) || (rc = check_served_cache(s, spec, e)) ||
            (rc = check_served_adapters(s, spec, e)) || (rc = check_speculation(s, spec, e)) ||
            (rc = check_ensemble(s, spec, e)) || (rc = classify_check(s, spec, e)) ||
            (rc = check_recommended(s, spec, e)) || (rc = check_retrieval(s, spec, e))))
        return rc;
    if (spec->task == TASK_CONVERT && spec->replicas > 1)
        return field_refuse(s, "replicas", e, "a converting job has at most 1");
    if (spec->task != TASK_RUN && !spec->model.source)
        return field_refuse(s, "model", e, "required with train, evaluate, convert and serve");
    if (spec->model.config && spec->model.init != INIT_RANDOM)
        return field_refuse(s, "model.config", e, "only allowed with init Random");
    if ((rc = check_parallelism(s, spec, e)))
        return rc;
    bool only_read = spec->task != TASK_RUN && spec->task != TASK_TRAIN;
    if (only_read && spec->model.init == INIT_RANDOM)
        return field_refuse(s, "model.init", e, "Random is only allowed with train");
    if (spec->task == TASK_TRAIN)
        rc = check_train(s, spec, body, e);
    if (!rc && (rc = check_search(s, spec, body, e)))
        return rc;
    if (spec->task == TASK_CONVERT)
        rc = check_convert(s, &spec->convert, e);
    if (spec->task == TASK_EVALUATE)
        rc = check_evaluate(s, &spec->evaluate, e);
    if (spec->task == TASK_RUN)
        rc = check_run(s, &spec->run, e);
    return rc ? rc : jobpath_check(s, spec, e);
}

/* Measured only where it could be too much: a byte is at most six in JSON, and all that is no text
 * or name fits into FIXED_BYTES. */
int jobspec_check_size(
    const struct field_source *s, const struct jobspec *spec, size_t used, struct err *e)
{
    buf_auto struct buf b;
    buf_init(&b, used * 6 + FIXED_BYTES);
    if (b.limit <= LIMIT_JOB_FILE_BYTES)
        return 0;
    int rc = jobspec_encode(spec, &b, e);
    if (rc || b.len <= LIMIT_JOB_FILE_BYTES)
        return rc;
    return field_refuse(s, "", e, "%zu bytes as " NAME_JOB_FILE ", and %d are allowed", b.len,
        LIMIT_JOB_FILE_BYTES);
}
