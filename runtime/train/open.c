/*
 * train/open: all that a training needs is made here, in the order in which a fault is cheapest:
 * the output's place, the model's files, the corpus, the plan, the model on its device, the
 * checkpoint that it goes on from. A step allocates nothing.
 */
#include "runtime/train/internal.h"

#include "api/names.h"
#include "api/search.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/model/carve.h"
#include "runtime/model/group.h"
#include "runtime/text/tok_write.h"
#include "runtime/train/identity.h"
#include "runtime/train/output.h"
#include "runtime/train/resume.h"
#include "runtime/train/world.h"

#include <math.h>

#define BUDGET_SHARE 0.9 /* of the memory: files, libraries and the tokenizer need some */

static int refuse_few(const struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    char of[48];
    snprintf(of, sizeof of, "sequences of %d tokens", s->sequence_length);
    return err_set(e, ERR_USER,
        "spec.train.batchSequences: %d, but spec.train.data.train has only %lld %s to train on; "
        "lower it, or set spec.train.steps to go round them",
        s->batch_sequences, (long long)t->train_samples,
        t->objective->samples ? t->objective->samples : of);
}

/* Which samples are trained on and in how many steps. */
static int share_out(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int64_t all = data_samples(t->data);
    t->held_out = t->validation ? 0 : data_held_out(all);
    t->train_samples = all - t->held_out;
    if (!s->steps && t->train_samples < s->batch_sequences)
        return refuse_few(t, e);
    t->steps = s->steps > 0 ? s->steps
                            : (int64_t)(s->epochs * (double)t->train_samples / s->batch_sequences);
    t->steps = t->steps > 0 ? t->steps : 1;
    if (!train_leads(t))
        return 0;
    log_info("data", LOG_I("sequences", t->train_samples), LOG_I("heldOut", t->held_out),
        LOG_I("steps", t->steps));
    if (!t->validation && !t->held_out)
        log_warn("too few sequences to keep some for a validation loss", LOG_I("sequences", all));
    return 0;
}

/* With steps given the API has refused that; with epochs the steps are known only now. */
static int check_schedule(const struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    if (s->sparsity.end_step > t->steps)
        return err_set(e, ERR_USER,
            "spec.train.sparsity.endStep: %lld, but the training has %lld steps",
            (long long)s->sparsity.end_step, (long long)t->steps);
    int64_t outside = s->lora.adalora.initial_steps + s->lora.adalora.final_steps;
    if (s->lora.adalora.initial_rank && outside >= t->steps)
        return err_set(e, ERR_USER,
            "spec.train.lora.adalora.finalSteps: %lld, together with initialSteps %lld, but the "
            "training has %lld steps",
            (long long)s->lora.adalora.final_steps, (long long)s->lora.adalora.initial_steps,
            (long long)t->steps);
    int64_t together = s->optimizer.warmup_steps + s->optimizer.decay_steps;
    if (!s->optimizer.decay_steps || together <= t->steps)
        return 0;
    return err_set(e, ERR_USER,
        "spec.train.optimizer.decaySteps: %lld, together with warmupSteps %lld, but the training "
        "has %lld steps",
        (long long)s->optimizer.decay_steps, (long long)together, (long long)t->steps);
}

static int open_weights(struct train *t, struct err *e)
{
    const struct jobspec *s = t->spec;
    int rc = weights_open(s->model.source, s->model.sha256, &t->weights, e);
    if (rc)
        return rc;
    t->config = *weights_config(t->weights);
    if (s->model.init == INIT_RANDOM && s->model.config)
        rc = model_config_read(s->model.config, &t->config, e);
    return rc;
}

/* What the model sees must be what the objective shows it. */
static int check_objective(const struct train *t, struct err *e)
{
    const struct objective_model *model = t->objective->model;
    if (model->takes_fn(&t->config))
        return 0;
    return err_set(e, ERR_USER, "spec.train.objective: %s needs a %s, and spec.model is a %s",
        t->objective->name, model->name, t->config.architecture);
}

static int open_files(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    const char *const paths[] = {s->data.train, s->data.validation, s->data.test};
    struct data **const files[] = {&t->data, &t->validation, &t->test};
    int rc = 0;
    for (int i = 0; i < 3 && !rc; i++)
        rc = paths[i] ? t->objective->file_fn(t, paths[i], files[i], e) : 0;
    return rc;
}

/* What stands above the last layer is the objective's, and nothing of the model's own is kept. */
static int shape_head(struct train *t, struct err *e)
{
    t->config.masked = t->config.pooled = t->config.last = t->config.several = false;
    t->config.labels = 0;
    return t->objective->head_fn ? t->objective->head_fn(t, e) : 0;
}

static int open_corpus(struct train *t, struct err *e)
{
    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    const struct objective_loop *loop = t->objective->loop;
    int rc;
    if ((rc = check_objective(t, e)) || (rc = train_check_dropout(t, e)) ||
        (rc = tok_open(t->weights, &t->tok, e)) || (rc = tok_write_check(t->weights, e)) ||
        (rc = shape_head(t, e)) || (rc = train_open_teacher(t, e)) ||
        (rc = train_open_generate(t, e)) || (rc = open_files(t, e)) || (rc = share_out(t, e)) ||
        (rc = check_schedule(t, e)))
        return rc;
    return loop->open_fn ? loop->open_fn(t, e) : 0;
}

static const enum quantize quantize_base_as[] = {[BASE_NONE] = QUANTIZE_NONE,
    [BASE_STORED] = QUANTIZE_NONE,
    [BASE_Q8_0] = QUANTIZE_Q8_0,
    [BASE_Q4_0] = QUANTIZE_Q4_0,
    [BASE_Q4_K_M] = QUANTIZE_Q4_K_M};

static bool takes_local_steps(const struct train *t)
{
    return t->spec->train.communication.local_steps > 1;
}

int train_ranks_of_pods(const struct train *t)
{
    if (!t->orders)
        return t->spec->device.per_replica;
    const struct wire_peer *peers = t->orders->peers;
    int world = t->orders->world, n = 1;
    while (n < world && peers[n].replica == peers[0].replica)
        n++;
    for (int i = 0; i < world; i++)
        if (world % n || peers[i].replica != peers[i / n * n].replica ||
            (i % n == 0 && i && peers[i].replica == peers[i - 1].replica))
            return 1;
    return n;
}

static struct exchange_conf exchange_conf_of(const struct train *t, int replicas, int64_t elements)
{
    return (struct exchange_conf){.type = t->spec->train.communication.gradients,
        .elements = elements,
        .ranks = replicas,
        .rank = t->orders ? t->orders->rank : 0,
        .per_pod = train_ranks_of_pods(t)};
}

/* A model_conf's exchange_fn: what both take beside. */
static int64_t beside_bytes(const struct model_conf *c, int64_t elements)
{
    const struct train *t = c->exchange;
    const struct exchange_conf x = exchange_conf_of(t, c->replicas, elements);
    return carve_plus(exchange_bytes(&x), takes_local_steps(t) ? outer_bytes(elements) : 0);
}

/* A model_conf's snapshot_fn: slices of weights and state, and of what is beside. */
static int64_t saved_bytes(const struct model_conf *c, const struct tensors *trained)
{
    const struct train *t = c->exchange;
    int ranks = c->replicas * c->contexts, rank = c->owner > 0 ? c->owner : 0;
    const struct exchange_conf x = exchange_conf_of(t, c->replicas, trained->elements);
    int64_t first, count;
    shard_range(trained->elements, ranks, rank, &first, &count);
    return carve_plus(shard_bytes(&t->optim_conf, trained, ranks, rank),
        carve_plus(exchange_bytes(&x), takes_local_steps(t) ? carve_times(count, 4) : 0));
}

struct model_conf train_model_conf(struct train *t)
{
    const struct jobspec_train *s = &t->spec->train;
    struct model_conf c = {
        .config = t->config,
        .t = model_type_of(t->spec->precision),
        .train = true,
        .sequence_length = s->sequence_length,
        .recompute = s->recompute,
        .seed = s->seed,
        .page = t->door ? t->door->page : NULL,
        .trace = t->trace,
        .fresh_labels = !t->label_from,
        .label_from = t->label_from,
        .packed = t->data ? data_packed(t->data) : s->data.packing,
        .headless = t->objective->headless,
        .optimizer_fn = optim_bytes,
        .optimizer = &t->optim_conf,
        .slice_fn = optim_owns,
        .whole_masters = s->sparsity.pattern != SPARSITY_NONE,
        .exchange_fn = beside_bytes,
        .exchange = t,
        .snapshot_fn =
            t->spec->checkpoint.asynchronous || train_copy_period(t) ? saved_bytes : NULL,
        .teacher = t->teacher ? weights_config(t->teacher) : NULL,
        .teacher_label_from = t->teacher_label_from,
        .dropout = train_dropout(t),
        .distill_weight = (float)s->distill.weight,
        .distill_temperature = (float)s->distill.temperature,
    };
    if (s->method == METHOD_ADAPTER) {
        int64_t size = t->config.dim / s->adapter.reduction_factor;
        c.adapter_size = size > 0 ? size : 1;
        c.adapter_kind = s->adapter.kind;
        c.adapter_activation = s->adapter.activation;
    }
    if (s->method != METHOD_LORA)
        return c;
    for (int i = 0; i < s->lora.target_count; i++)
        t->targets[i] = s->lora.targets[i];
    c.lora_rank = s->lora.adalora.initial_rank ? s->lora.adalora.initial_rank : s->lora.rank;
    c.lora_adaptive = s->lora.adalora.initial_rank;
    c.lora_alpha = (float)s->lora.alpha;
    c.lora_rank_stabilized = s->lora.rank_stabilized;
    c.lora_dora = s->lora.dora;
    c.lora_dropout = (float)s->lora.dropout;
    c.lora_targets = t->targets;
    c.stored = s->lora.quantized_base == BASE_STORED ? t->weights : NULL;
    c.quantize = quantize_base_as[s->lora.quantized_base];
    return c;
}

static struct adalora_conf adalora_conf_of(const struct train *t)
{
    const struct jobspec_train *s = &t->spec->train;
    return (struct adalora_conf){.rank = s->lora.adalora.initial_rank,
        .target_rank = s->lora.rank,
        .initial_steps = s->lora.adalora.initial_steps,
        .final_steps = s->lora.adalora.final_steps,
        .interval = s->lora.adalora.interval,
        .steps = t->steps,
        .beta1 = s->lora.adalora.beta1,
        .beta2 = s->lora.adalora.beta2,
        .orthogonal_weight = s->lora.adalora.orthogonal_weight};
}

/* By what rates are multiplied (Goyal et al., arXiv:1706.02677; the root, for Adam: Malladi et al.,
 * arXiv:2205.10287). */
static double rate_scale(const struct jobspec_train *s)
{
    if (s->optimizer.lr_scaling == LR_SCALING_NONE)
        return 1;
    double share = (double)s->batch_sequences / s->optimizer.lr_batch_sequences;
    return s->optimizer.lr_scaling == LR_SCALING_LINEAR ? share : sqrt(share);
}

struct optim_conf train_optim_conf(const struct train *t)
{
    const struct jobspec_train *s = &t->spec->train;
    double scale = rate_scale(s);
    return (struct optim_conf){
        .name = s->optimizer.name,
        .learning_rate = scale * s->optimizer.learning_rate,
        .min_learning_rate = scale * s->optimizer.min_learning_rate,
        .weight_decay = s->optimizer.weight_decay,
        .beta1 = s->optimizer.beta1,
        .beta2 = s->optimizer.beta2,
        .epsilon = s->optimizer.epsilon,
        .momentum = s->optimizer.momentum,
        .clip_norm = s->optimizer.clip_norm,
        .schedule = s->optimizer.schedule,
        .warmup_steps = s->optimizer.warmup_steps,
        .decay_steps = s->optimizer.decay_steps,
        .layer_decay = s->optimizer.layer_decay,
        .masks_from = sparsity_masks_from(s),
        .state = s->optimizer.state,
        .seed = s->seed,
        .offload = s->optimizer.offload,
        .own_state = takes_local_steps(t),
        .steps = t->steps,
        .adalora = adalora_conf_of(t),
    };
}

/* The first stage of a pipeline and its last; all ranks call. */
static int open_ends(struct train *t, struct coll **out, struct err *e)
{
    struct layout_group g = layout_group(&t->plan.layout, t->orders->rank, LAYOUT_PIPELINE);
    bool end = g.index == 0 || g.index + 1 == g.size;
    struct layout_group ends = {g.first, g.stride * (g.size - 1), 2, g.index ? 1 : 0};
    struct layout_group alone = {t->orders->rank, 1, 1, 0};
    int rc = coll_group(t->coll, end ? &ends : &alone, out, e);
    if (!end)
        *out = NULL;
    return rc;
}

/* Communicators of the axes; what the model needs of them stands in *conf. */
static int open_groups(struct train *t, struct model_conf *conf, struct err *e)
{
    bool tied = t->config.tied_embeddings && !t->config.labels;
    const struct layout_group same = train_same(t);
    const struct layout *l = &t->plan.layout;
    int rc, rank = t->orders->rank;
    if ((rc = coll_group(t->coll, &same, &t->replicas, e)) ||
        (rc = group_axis(t->coll, l, rank, LAYOUT_CONTEXT, &t->context, e)) ||
        (rc = group_axis(t->coll, l, rank, LAYOUT_TENSOR, &t->tensor, e)) ||
        (rc = group_axis(t->coll, l, rank, LAYOUT_PIPELINE, &t->pipeline, e)) ||
        (rc = group_axis(t->coll, l, rank, LAYOUT_EXPERT, &t->expert, e)) ||
        (t->pipeline && (rc = coll_connect(t->pipeline, e))) ||
        (t->expert && (rc = coll_connect(t->expert, e))) ||
        (t->pipeline && tied && (rc = open_ends(t, &conf->tied, e))))
        return rc;
    conf->coll = t->replicas;
    conf->world = t->coll;
    conf->answers = same.index == 0;
    conf->context = t->context;
    conf->tensor = t->optim_conf.tensor = t->tensor;
    conf->expert = t->optim_conf.expert = t->expert;
    conf->pipeline = t->optim_conf.pipeline = t->pipeline;
    return 0;
}

int train_planner_input(const struct train *t, const struct model_conf *model, int world,
    int64_t budget_bytes, struct planner_input *out, struct err *e)
{
    const struct jobspec *s = t->spec;
    *out = (struct planner_input){
        .model = *model,
        .batch_sequences = s->train.batch_sequences * t->objective->parts,
        .sample_rows = t->objective->rows,
        .world = world,
        .data = s->parallelism.data,
        .tensor = s->parallelism.tensor,
        .pipeline = s->parallelism.pipeline,
        .virtual_stages = s->parallelism.virtual_stages,
        .expert = s->parallelism.expert,
        .context = s->parallelism.context,
        .zero_stage = s->parallelism.zero_stage,
        .budget_bytes = (int64_t)((double)budget_bytes * BUDGET_SHARE) - t->host_bytes,
        .unlike = s->parallelism.balance == BALANCE_MEASURED,
    };
    if (s->train.communication.gradients != GRADIENTS_FP32 || takes_local_steps(t))
        return 0; /* of whole gradients */
    int rc = rules_most_of_training(s, world, &out->most, e);
    /* Pairs are compared across replicas, whose number is counted on before there is a plan. */
    if (s->train.objective == OBJECTIVE_PAIR_MATCHING)
        out->most.tensor = 0;
    return rc;
}

/* For a copy of what is saved, in the host's memory: what the plan leaves of that, or half of this
   rank's part of it where the plan is for another. */
static int64_t snapshot_room(
    const struct train *t, const struct dev_info *info, const struct planner_input *in)
{
    struct dev *host;
    struct dev_info has;
    if (info->host_readable)
        return in->budget_bytes - t->plan.memory.total;
    if (dev_open("cpu", 0, 1, &host, NULL))
        return 0;
    dev_describe(host, &has);
    dev_close(host);
    return has.memory_bytes / t->orders->local_world / 2;
}

/* How the model is laid out and cut up; *conf receives the plan's choices. */
static int plan(struct train *t, struct model_conf *conf, struct err *e)
{
    const struct orders *o = t->orders;
    struct dev_info info;
    dev_describe(t->dev, &info);
    /* The host looks at such sums, and at what a gradient does to its scale. */
    t->runs_ahead = !info.host_readable && t->objective->loop->sums == 1 &&
        t->spec->precision != PRECISION_FP16;
    struct planner_input in;
    int rc = train_planner_input(t, conf, o->world, t->budget_bytes, &in, e);
    if (rc)
        return rc;
    in.rank = o->rank;
    in.rows = info.host_readable ? 0 : TRAIN_GPU_ROWS;
    const struct speed_world w = {t->coll, t->dev, o->rank, o->world, train_ranks_of_pods(t)};
    bool balances = t->spec->parallelism.balance == BALANCE_MEASURED && o->world > 1;
    mem_autofree struct speed_rank *each =
        balances ? mem_array((size_t)o->world, sizeof *each) : NULL;
    if (balances && !each)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", o->world);
    rc = world_plan(&w, &in, each, &t->plan, e);
    if (rc || (balances && (rc = train_open_balance(t, each, e))) ||
        (rc = planner_model(&in, &t->plan, conf, e)) || (rc = open_groups(t, conf, e)))
        return rc;
    t->snapshot_room = snapshot_room(t, &info, &in);
    if (!train_leads(t))
        return 0;
    if (*t->plan.reason)
        log_info("layout chosen", LOG_S("because", t->plan.reason));
    log_info("plan", LOG_I("data", t->plan.layout.dp), LOG_I("tensor", t->plan.layout.tp),
        LOG_I("pipeline", t->plan.layout.pp), LOG_I("virtualStages", t->plan.chunks),
        LOG_I("expert", t->plan.layout.ep), LOG_I("context", t->plan.layout.cp),
        LOG_I("zeroStage", t->plan.zero_stage), LOG_I("microSequences", t->plan.micro_sequences),
        LOG_I("bytes", t->plan.memory.total), LOG_I("snapshotBytes", t->plan.memory.snapshot));
    return 0;
}

/* As model_load does. */
static void say_what_is_fresh(const struct train *t)
{
    const struct model_config *has = weights_config(t->weights);
    bool loads = t->spec->model.init != INIT_RANDOM;
    if (train_leads(t) && t->config.masked && !(loads && has->masked))
        log_info("the head of masked tokens is fresh");
    if (!train_leads(t) || !t->config.labels)
        return;
    if (t->config.pooled && !(loads && has->pooled))
        log_info("the pooler is fresh");
    if (loads && t->label_from)
        log_info("the classifier of spec.model is gone on with", LOG_I("labels", t->config.labels));
    else if (loads && has->labels && has->pooled == t->config.pooled &&
        has->last == t->config.last && has->several == t->config.several)
        log_info("the classifier is fresh: that of spec.model has other labels",
            LOG_I("labels", t->config.labels), LOG_I("itsLabels", has->labels));
    else
        log_info("the classifier is fresh", LOG_I("labels", t->config.labels));
}

/* peft and AdapterHub leave a pooler as it is, and the head of masked tokens: one that was drawn
   would be neither learnt nor in the adapter. */
static int check_frozen(const struct train *t, struct err *e)
{
    const struct model_config *has = weights_config(t->weights);
    bool loads = t->spec->model.init != INIT_RANDOM;
    bool pooler = t->config.pooled && !(loads && has->pooled);
    bool masked = t->config.masked && !(loads && has->masked);
    enum train_method method = t->spec->train.method;
    if (method == METHOD_FULL || (!pooler && !masked))
        return 0;
    return err_set(e, ERR_USER,
        "spec.train.method: %s trains no %s, and spec.model has none to load; use Full",
        method == METHOD_LORA ? "LoRA" : "Adapter", pooler ? "pooler" : "head of masked tokens");
}

/* What crosses between ranks, and when. */
static int open_communication(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int ranks = t->plan.layout.dp, rc = 0;
    const struct exchange_conf x = exchange_conf_of(t, ranks, model_trainable(t->model));
    if (exchange_bytes(&x)) {
        rc = exchange_create(t->dev, t->coll, &x, &t->exchange, e);
        t->extra_count = rc ? 0 : exchange_parts(t->exchange, t->extras);
    }
    /* Every rank must start the same reductions: none may be without a micro-batch. Of what those
       that share experts have all of, the sum over them comes first; on CPUs, where a reduction is
       under way while another is made, likewise of what those that share layers have. */
    t->lots_wanted = s->batch_sequences >= ranks && !t->exchange && !takes_local_steps(t) &&
        !t->expert && !train_meets(t);
    if (!rc && t->lots_wanted && !t->tensor && !t->pipeline)
        rc = coll_overlap(t->replicas, e);
    t->lots_wanted = t->lots_wanted && coll_overlaps(t->replicas);
    if (rc || !takes_local_steps(t))
        return rc;
    const struct outer_conf outer = {.learning_rate = s->communication.outer_learning_rate,
        .momentum = s->communication.outer_momentum,
        .ranks = ranks,
        .coll = t->replicas,
        .exchange = t->exchange};
    rc = outer_create(t->dev, &outer, t->pass, &t->outer, e);
    if (!rc)
        t->extras[t->extra_count++] = outer_part(t->outer);
    return rc;
}

static int open_model(struct train *t, struct err *e)
{
    t->optim_conf = train_optim_conf(t);
    struct model_conf conf = train_model_conf(t);
    int rc;
    if ((rc = check_frozen(t, e)) || (rc = plan(t, &conf, e)) ||
        (rc = model_create(t->dev, &conf, &t->model, e)) ||
        (rc = pass_create(t->model, &t->pass, e)))
        return rc;
    rc = t->spec->model.init == INIT_RANDOM ? model_init_random(t->model, e)
                                            : model_load(t->model, t->weights, e);
    if (rc || (t->teacher && (rc = model_load(pass_teacher(t->pass), t->teacher, e))))
        return rc;
    say_what_is_fresh(t);
    if ((rc = optim_create(t->dev, &t->optim_conf, t->pass, &t->optim, e)) ||
        (rc = open_communication(t, e)))
        return rc;
    return sparsity_create(
        &t->spec->train, t->dev, t->model, t->optim, t->door->page, &t->sparsity, e);
}

/* A source that is pruned already is looked at, to say how much; one that is not has no pattern. */
static int look_at_zeros(struct train *t, struct err *e)
{
    double zeros;
    if (t->spec->train.sparsity.pattern != SPARSITY_SOURCE)
        return 0;
    int rc = sparsity_measure(t->sparsity, &zeros, e);
    if (rc)
        return rc;
    if (train_leads(t))
        log_info("zeros stay", LOG_F("sparsity", zeros));
    return zeros > 0 ? 0
                     : err_set(e, ERR_USER,
                           "spec.train.sparsity.pattern: Source, but no matrix of spec.model's "
                           "layers has a zero");
}

int train_open_batch(struct train *t, struct err *e)
{
    size_t rows = (size_t)(t->plan.micro_sequences * t->objective->rows);
    size_t n = rows * (size_t)t->spec->train.sequence_length;
    t->inputs = mem_array(n, sizeof *t->inputs);
    size_t sets = t->config.several ? rows * (size_t)t->config.labels : 0;
    t->labels = mem_array(n > sets ? n : sets, sizeof *t->labels);
    t->lengths = mem_array(2 * rows, sizeof *t->lengths);
    t->told = t->lengths && t->config.experts ? t->lengths + rows : NULL;
    bool packed = t->data && data_packed(t->data);
    t->first = packed ? mem_array(n, sizeof *t->first) : NULL;
    bool typed = t->config.types && data_paired(t->data ? t->data : t->test);
    t->types = typed ? mem_array(n, sizeof *t->types) : NULL;
    if (!t->inputs || !t->labels || !t->lengths || (packed && !t->first) || (typed && !t->types))
        return err_set(e, ERR_MEMORY, "no memory for a micro-batch");
    return 0;
}

static int open_host(struct train *t, struct err *e)
{
    const struct objective_loop *loop = t->objective->loop;
    int rc = train_open_batch(t, e);
    if (rc)
        return rc;
    return loop->host_fn ? loop->host_fn(t, e) : 0;
}

static int resume(struct train *t, struct err *e)
{
    struct resume c = {.orders = t->orders,
        .dev = t->dev,
        .coll = t->coll,
        .model = t->model,
        .optim = t->optim,
        .extras = t->extras,
        .extra_count = t->extra_count,
        .steps = t->steps,
        .begin_fn = t->objective->loop->begin_fn,
        .user = t};
    const struct identity_source source = {.spec = t->spec,
        .weights = t->weights,
        .teacher = t->teacher,
        .data = t->data,
        .validation = t->validation,
        .labels = t->names.count ? &t->names : NULL,
        .train_samples = t->train_samples,
        .steps = t->steps};
    t->state = (struct ckpt_state){.seed = t->spec->train.seed,
        .first_loss = NAN,
        .loss = NAN,
        .first_validation_loss = NAN,
        .validation_loss = NAN};
    int rc;
    if ((rc = identity_write(&source, c.identity, e)) ||
        (rc = identity_hash_v1(&source, c.hash_v1, e)) || (rc = resume_run(&c, &t->state, e)))
        return rc;
    if (t->spec->precision == PRECISION_FP16 && !(t->state.scale.scale > 0))
        t->state.scale.scale = SCALE_FIRST;
    if (t->outer)
        outer_begin(t->outer);
    t->saved_step = t->state.stored_step;
    t->saved_ms = clock_ms();
    return t->state.step ? 0 : train_prune(t, 0, e);
}

/* Of another training, which this one takes the folder of, nothing stays. */
static int open_metrics(struct train *t, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/" NAME_METRICS_FILE, t->spec->checkpoint.path);
    int rc = t->state.step ? 0 : io_write_file(path, "", 0, 0644, e);
    if (rc)
        return rc;
    t->metrics_fd = io_append(path, 0644, e);
    return t->metrics_fd < 0 ? t->metrics_fd : 0;
}

static int open_trace(struct train *t, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    if (!t->spec->train.trace.steps)
        return 0;
    snprintf(path, sizeof path, "%s/" NAME_TRACE_FILE, t->spec->checkpoint.path, t->orders->rank);
    const struct trace_conf conf = {.path = path,
        .rank = t->orders->rank,
        .from_step = t->spec->train.trace.from_step,
        .steps = t->spec->train.trace.steps};
    return trace_create(&conf, &t->trace, e);
}

static int tell_numbers(struct train *t, struct err *e)
{
    struct tensorboard_number numbers[SEARCH_NUMBERS];
    int n = 0;
    for (int i = 0; i < SEARCH_NUMBERS; i++)
        n += search_number(t->spec, i, &numbers[n].name, &numbers[n].value);
    return tensorboard_numbers(t->board, numbers, n, e);
}

static int open_logs(struct train *t, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/samples", t->spec->checkpoint.path);
    int rc = io_mkdirs(path, 0755, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/samples/%lld-%d.log", t->spec->checkpoint.path,
        (long long)t->orders->incarnation, t->orders->rank);
    t->log_fd = io_append(path, 0644, e);
    if (t->log_fd < 0)
        return t->log_fd;
    if (!train_leads(t))
        return 0;
    if ((rc = open_metrics(t, e)) || !t->spec->train.tensorboard)
        return rc;
    rc = tensorboard_create(t->spec->train.tensorboard, t->orders->incarnation,
        t->state.step ? t->state.step + 1 : 0, &t->board, e);
    if (rc || (rc = train_open_spread(t, e)))
        return rc;
    return t->state.step ? 0 : tell_numbers(t, e);
}

static int tell_loaded(struct train *t, struct err *e)
{
    struct dev_info info;
    dev_describe(t->dev, &info);
    beat_step(t->door->page, t->state.step);
    bool copies = t->saver && info.host_readable; /* in the same memory */
    int64_t bytes = t->plan.memory.total + t->host_bytes + (copies ? t->plan.memory.snapshot : 0) +
        (info.host_readable ? train_copy_bytes(t) : 0);
    return door_send_fields(t->door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)model_parameters(t->model), NULL},
            {"memory_bytes", (double)bytes, NULL}, {"resumed_step", (double)t->state.step, NULL},
            {"steps", (double)t->steps, NULL}, {"held_out", (double)t->held_out, NULL},
            {"tensor", t->plan.layout.tp, NULL}, {"pipeline", t->plan.layout.pp, NULL},
            {"zero_stage", t->plan.zero_stage, NULL}, {"layout_reason", 0, t->plan.reason},
            {"device", 0, info.name}, {"damaged", 0, t->state.aside},
            {"damaged_bytes", (double)t->state.aside_bytes, NULL}, {"copies", 0, t->copies_told},
            {NULL, 0, NULL}},
        e);
}

int train_open(struct train *t, struct err *e)
{
    buf_init(&t->line, LIMIT_FRAME_BYTES);
    buf_init(&t->report, LIMIT_FRAME_BYTES);
    t->objective = objective_of(&t->spec->train);
    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    int rc;
    if ((train_leads(t) && (rc = output_check(t->spec, e))) || /* not after the last step */
        (rc = open_trace(t, e)) || (rc = open_weights(t, e)) || (rc = open_corpus(t, e)))
        return rc;
    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    if ((rc = open_model(t, e)) || (rc = look_at_zeros(t, e)) || (rc = open_host(t, e)) ||
        (rc = resume(t, e)) || (rc = train_open_saver(t, e)) || (rc = train_open_copies(t, e)) ||
        (rc = open_logs(t, e)))
        return rc;
    coll_trace(t->coll, t->trace);
    if (train_leads(t))
        train_sweep_corpus(t); /* of a training that is refused nothing goes */
    int told = tell_loaded(t, e);
    return told ? told : train_tell_balance(t, e);
}

void train_close(struct train *t)
{
    if (t->trace)
        coll_trace(t->coll, NULL);
    trace_destroy(t->trace);
    train_close_copies(t);
    train_close_saver(t);
    tensorboard_close(t->board);
    mem_free(t->spread);
    train_close_generate(t);
    io_close(t->log_fd);
    io_close(t->metrics_fd);
    buf_done(&t->line);
    buf_done(&t->report);
    mem_free(t->inputs);
    mem_free(t->labels);
    mem_free(t->lengths);
    mem_free(t->first);
    mem_free(t->types);
    if (t->objective->loop->close_fn)
        t->objective->loop->close_fn(t);
    sparsity_destroy(t->sparsity);
    train_close_balance(t);
    outer_destroy(t->outer);
    exchange_destroy(t->exchange);
    optim_destroy(t->optim);
    pass_destroy(t->pass);
    model_destroy(t->model);
    data_close(t->data);
    data_close(t->validation);
    data_close(t->test);
    data_labels_done(&t->names);
    mem_free(t->label_from);
    mem_free(t->teacher_label_from);
    tok_close(t->tok);
    weights_close(t->teacher);
    weights_close(t->weights);
}
