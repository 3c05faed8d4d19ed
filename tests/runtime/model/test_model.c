/*
 * Goal: the model computes what torch, transformers and peft compute. Method: golden files
 * (tests/golden/README.md): loss and gradients of one batch of a model of every family, gradients
 * of LoRA factors, fifty losses of AdamW under two schedules (twenty of GPT-2), the
 * logits of SmolLM2 on three prompts and of the BERT's labels, what MiniLM hands to its head; and
 * named tensors read back as they were loaded, with factors merged.
 * needs: sample
 */
#include "runtime/model/model.h"

#include "base/mem.h"
#include "runtime/model/engine.h"
#include "runtime/train/optim.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <limits.h>
#include <math.h>
#include <unistd.h>

static struct err e;

static void tiny_open_from(
    struct trained *t, const char *folder, int64_t b, int64_t length, int lora_rank)
{
    const struct model_conf c = trained_conf(t, folder, b, length, lora_rank);
    trained_open(t, &c);
}

static void tiny_open(struct trained *t, int64_t b, int lora_rank)
{
    tiny_open_from(t, GOLDEN "tiny-llama", b, 32, lora_rank);
}

static double norm_of(const float *a, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)a[i];
    return sqrt(sum);
}

static double golden_step(struct trained *t)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_step.json");

    return trained_step(t, step, true);
}

static void compare_gradients(struct trained *t, const char *path, const char *prefix)
{
    struct safetensors *s;
    ck_assert_msg(!safetensors_open(path, &s, &e), "%s", e.text);
    trained_compare(t, s, prefix);
    safetensors_close(s);
}

START_TEST(gradients_equal_torch)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_step.json");
    struct trained t = {0};

    tiny_open(&t, 2, 0);
    ck_assert_double_eq_tol(golden_step(&t), json_num(step, "loss_mean", 0), 1e-5);
    ck_assert_int_eq(model_trained(t.m)->count, 20);
    compare_gradients(&t, GOLDEN "tiny_step.safetensors", "");
    trained_close(&t);
}
END_TEST

/* The gradients of a file that is laid out as the model's own, as a model beside its
   config.json. */
static struct weights *open_gradients(const char *folder, const char *config, const char *file)
{
    const char *const from[] = {config, file}, *const to[] = {"config.json", "model.safetensors"};
    struct weights *w;
    char path[128], root[PATH_MAX];

    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_nonnull(realpath(from[i], root));
        snprintf(path, sizeof path, "%s/%s", folder, to[i]);
        ck_assert_int_eq(symlink(root, path), 0);
    }
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    return w;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);

    return n >= k && !strcmp(name + n - k, suffix);
}

/* Relative per tensor; but GPT-2's bias of keys has no gradient (it adds the same to every score of
   a query), so its rounding is measured against the bias of queries. */
static void compare_with(struct trained *t, struct weights *want)
{
    const struct model_config *c = weights_config(want);
    double queries = 0;

    ck_assert_int_eq(model_trained(t->m)->count, weights_count(want));
    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *p = &model_trained(t->m)->at[i];
        mem_autofree float *g = mem_array((size_t)p->count, 4);
        mem_autofree float *w = mem_array((size_t)p->count, 4);
        int64_t cols = p->dims == 2 ? p->shape[1] : 1;

        ck_assert_msg(
            !weights_read(want, p->name, p->shape[0], cols, 0, p->shape[0], DTYPE_F32, w, &e), "%s",
            e.text);
        dev_download(t->d, g, pass_gradient(t->pass) + p->offset, (size_t)p->count * 4);
        if (has_suffix(p->name, "q_proj.bias"))
            queries = norm_of(w, p->count);
        if (c->positions == POSITIONS_LEARNED && has_suffix(p->name, "k_proj.bias")) {
            ck_assert_double_le(norm_of(g, p->count), 1e-4 * queries);
            ck_assert_double_le(norm_of(w, p->count), 1e-4 * queries);
            continue;
        }
        ck_assert_msg(trained_distance(g, w, p->count) < 1e-4, "%s: %.3g", p->name,
            trained_distance(g, w, p->count));
    }
}

static void check_family(const char *name, const char *prefix)
{
    char folder[64], model[96], config[128], gradients[96], path[96];
    struct trained t = {0};
    struct weights *want;

    snprintf(model, sizeof model, GOLDEN "tiny-%s", name);
    snprintf(config, sizeof config, "%s/config.json", model);
    snprintf(path, sizeof path, GOLDEN "%s_step.json", prefix);
    snprintf(gradients, sizeof gradients, GOLDEN "%s_step.safetensors", prefix);
    json_auto struct json *step = golden_json(path);
    golden_folder(folder);
    want = open_gradients(folder, config, gradients);
    tiny_open_from(&t, model, json_int(step, "b", 0), json_int(step, "t", 0), 0);
    ck_assert_double_eq_tol(trained_step(&t, step, true), json_num(step, "loss_mean", 0), 1e-5);
    compare_with(&t, want);
    trained_close(&t);
    weights_close(want);
    golden_remove(folder);
}

START_TEST(every_familys_gradients_equal_torch)
{
    check_family("llama", "tiny");
    check_family("gpt2", "tiny_gpt2");
    check_family("qwen2", "tiny_qwen2");
    check_family("qwen3", "tiny_qwen3");
    check_family("mistral", "tiny_mistral");
    check_family("llama3", "tiny_llama3");
    check_family("qwen3-moe", "tiny_qwen3_moe");
    check_family("mixtral", "tiny_mixtral");
    check_family("bert", "tiny_bert");
    check_family("bert-texts", "tiny_bert_texts");
    check_family("bert-masked", "tiny_bert_masked");
}
END_TEST

/* -- BERT -- */

static void bert_open(struct trained *t, const struct json *step, int lora_rank)
{
    tiny_open_from(
        t, GOLDEN "tiny-bert", json_int(step, "b", 0), json_int(step, "t", 0), lora_rank);
}

/* Of tokens that exist: the others of the file are zeros. */
START_TEST(logits_of_labels_equal_transformers)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_step.json");
    struct safetensors *golden;
    struct trained t = {0};
    float logits[3 * 16 * 5];
    double far = 0;
    int64_t b;
    mem_autofree int32_t *lengths = golden_ids(json_get(step, "lengths"), &b);

    bert_open(&t, step, 0);
    ck_assert(b == 3 && json_int(step, "t", 0) == 16 && weights_config(t.w)->labels == 5);
    trained_step(&t, step, false);
    ck_assert_msg(!pass_label_logits(t.pass, b, logits, &e), "%s", e.text);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_logits.safetensors", &golden, &e), "%s", e.text);
    const float *want = (const float *)safetensors_at(golden, 0)->data;
    ck_assert_int_eq(safetensors_at(golden, 0)->bytes, (int64_t)sizeof logits);
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < lengths[i] * 5; j++)
            far = farther(far, fabs((double)logits[i * 80 + j] - (double)want[i * 80 + j]));
    printf("bert: logits at most %.2g away\n", far);
    ck_assert_double_le(far, 1e-4);
    safetensors_close(golden);
    trained_close(&t);
}
END_TEST

/* What stands behind the end of a sequence is nobody's affair. */
START_TEST(padding_changes_no_bit)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_step.json");
    int64_t n, b;
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *labels = golden_ids(json_get(step, "targets"), &n);
    mem_autofree int32_t *lengths = golden_ids(json_get(step, "lengths"), &b);
    const struct pass_input in = {.ids = inputs, .lengths = lengths, .targets = labels};
    const struct pass_input whole = {.ids = inputs, .targets = labels};
    struct trained t = {0};
    double loss[2];

    bert_open(&t, step, 0);
    for (int k = 0; k < 2; k++) {
        ck_assert(!pass_step(t.pass, b, &in, 1, false, &loss[k], &e));
        for (int64_t i = 0; i < n; i++)
            if (i % 16 >= lengths[i / 16])
                inputs[i] = (int32_t)(i % 96);
    }
    ck_assert(loss[0] == loss[1]);
    ck_assert(!pass_step(t.pass, b, &whole, 1, false, &loss[1], &e));
    ck_assert(loss[0] != loss[1]);
    lengths[1] = 0;
    ck_assert_int_eq(pass_step(t.pass, b, &in, 1, false, &loss[1], &e), -ERR_DATA);
    lengths[1] = 17;
    ck_assert_int_eq(pass_step(t.pass, b, &in, 1, false, &loss[1], &e), -ERR_DATA);
    lengths[1] = 16;
    labels[3] = 5;
    ck_assert_int_eq(pass_step(t.pass, b, &in, 1, false, &loss[1], &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "label 5 is none of the 5"));
    trained_close(&t);
}
END_TEST

/* With fresh adapters, which change nothing, its gradient is full training's. */
START_TEST(a_classifier_is_trained_beside_adapters)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_step.json");
    struct safetensors *golden;
    struct trained t = {0};

    bert_open(&t, step, 4);
    ck_assert_int_eq(model_trained(t.m)->count, 2 * 2 * 2 + 2);
    ck_assert_double_eq_tol(trained_step(&t, step, true), json_num(step, "loss_mean", 0), 1e-5);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_step.safetensors", &golden, &e), "%s", e.text);
    for (int i = 8; i < 10; i++) {
        const struct tensor *p = &model_trained(t.m)->at[i];
        const struct safetensors_tensor *want = safetensors_find(golden, p->name);
        mem_autofree float *g = mem_array((size_t)p->count, 4);

        ck_assert_msg(want && want->bytes == p->count * 4, "%s", p->name);
        dev_download(t.d, g, pass_gradient(t.pass) + p->offset, (size_t)p->count * 4);
        ck_assert_double_le(trained_distance(g, (const float *)want->data, p->count), 1e-4);
    }
    safetensors_close(golden);
    trained_close(&t);
}
END_TEST

static struct model_conf bert_conf(struct weights *w, int64_t labels)
{
    struct model_conf c = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 16,
        .seed = 1};
    c.config.labels = labels;
    c.config.pooled = false;
    return c;
}

/* One of another number of labels than the file has; the rest is loaded. */
START_TEST(a_classifier_of_other_labels_is_fresh)
{
    struct trained t = {0};
    float got[5 * 32], want[5 * 32], sum = 0;

    ck_assert(!dev_open("cpu", 0, 2, &t.d, &e));
    ck_assert_msg(!weights_open(GOLDEN "tiny-bert", NULL, &t.w, &e), "%s", e.text);
    for (int64_t labels = 4; labels <= 5; labels++) {
        int64_t n = labels * 32;
        struct model_conf c = bert_conf(t.w, labels);

        ck_assert_msg(!model_create(t.d, &c, &t.m, &e), "%s", e.text);
        ck_assert_msg(!model_load(t.m, t.w, &e), "%s", e.text);
        ck_assert(!weights_read(t.w, "classifier.weight", 5, 32, 0, 5, DTYPE_F32, want, &e));
        ck_assert(!model_read(t.m, "classifier.weight", false, got, n, &e));
        ck_assert_int_eq(!memcmp(got, want, (size_t)n * 4), labels == 5);
        for (int64_t i = 0; labels == 4 && i < n; i++)
            sum += got[i] * got[i] / (float)n;
        ck_assert_float_eq_tol(sqrtf(sum), 0.02f, 0.004f);
        ck_assert(!model_read(t.m, "classifier.bias", false, got, labels, &e));
        for (int64_t i = 0; labels == 4 && i < labels; i++)
            ck_assert(got[i] == 0);
        ck_assert(!weights_read(t.w, "model.embed_types.weight", 2, 32, 0, 2, DTYPE_F32, want, &e));
        ck_assert(!model_read(t.m, "model.embed_types.weight", false, got, 64, &e));
        ck_assert_mem_eq(got, want, 64 * 4);
        model_destroy(t.m);
    }
    weights_close(t.w);
    dev_close(t.d);
}
END_TEST

START_TEST(what_predicts_no_next_token_is_refused)
{
    struct trained t = {0};

    ck_assert(!dev_open("cpu", 0, 2, &t.d, &e));
    ck_assert_msg(!weights_open(GOLDEN "tiny-bert", NULL, &t.w, &e), "%s", e.text);
    struct model_conf c = bert_conf(t.w, 0);
    ck_assert_int_eq(model_create(t.d, &c, &t.m, &e), -ERR_USER);
    ck_assert(strstr(e.text, "spec.train.objective") && strstr(e.text, "bert"));
    c = (struct model_conf){.config = *weights_config(t.w), .t = DTYPE_F32, .kv_capacity = 16};
    ck_assert_int_eq(model_create(t.d, &c, &t.m, &e), -ERR_USER);
    ck_assert(strstr(e.text, "no next token") && strstr(e.text, "bert"));
    weights_close(t.w);
    dev_close(t.d);
}
END_TEST

/* Through a classifier that hands on what it is given. */
static void hidden_of(
    struct trained *t, const struct json *sentence, const float *want, int64_t count)
{
    int64_t n, c = weights_config(t->w)->dim;
    mem_autofree int32_t *ids = golden_ids(json_get(sentence, "ids"), &n);
    int32_t inputs[16] = {0}, labels[16], length = (int32_t)n;
    const struct pass_input in = {.ids = inputs, .lengths = &length, .targets = labels};
    mem_autofree float *hidden = mem_array((size_t)(16 * c), 4);
    double far = 0, loss;

    ck_assert(hidden && n <= 16 && count == n * (c / 24));
    for (int i = 0; i < 16; i++)
        labels[i] = -1;
    memcpy(inputs, ids, (size_t)n * 4);
    ck_assert_msg(!pass_step(t->pass, 1, &in, 1, false, &loss, &e), "%s", e.text);
    ck_assert(!pass_label_logits(t->pass, 1, hidden, &e));
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i / (c / 24) * c + i % (c / 24) * 24;
        far = farther(far, fabs((double)hidden[at] - (double)want[i]));
    }
    printf("minilm, \"%s\": at most %.2g away\n", json_str(sentence, "text", ""), far);
    ck_assert_double_le(far, 1e-3);
}

START_TEST(minilm_computes_what_transformers_computes)
{
    json_auto struct json *golden = golden_json(GOLDEN "minilm_hidden.json");
    struct safetensors *s;
    struct trained t = {0};
    char path[1024], name[64];
    int i = 0;

    if (!golden_fetch("minilm", path))
        return;
    ck_assert(!dev_open("cpu", 0, 2, &t.d, &e));
    ck_assert_msg(!weights_open(path, NULL, &t.w, &e), "%s", e.text);
    ck_assert_int_eq(weights_config(t.w)->labels, 0);
    struct model_conf c = bert_conf(t.w, weights_config(t.w)->dim);
    ck_assert_msg(!model_create(t.d, &c, &t.m, &e), "%s", e.text);
    ck_assert_msg(!model_load(t.m, t.w, &e), "%s", e.text);
    ck_assert_msg(!pass_create(t.m, &t.pass, &e), "%s", e.text);
    const struct tensor *p = tensors_find(model_trained(t.m), "classifier.weight");
    mem_autofree float *one = mem_array((size_t)p->count, 4);
    memset(one, 0, (size_t)p->count * 4);
    for (int64_t k = 0; k < p->shape[0]; k++)
        one[k * p->shape[1] + k] = 1;
    dev_upload(t.d, model_master(t.m) + p->offset, one, (size_t)p->count * 4);
    ck_assert_msg(!safetensors_open(GOLDEN "minilm_hidden.safetensors", &s, &e), "%s", e.text);
    json_each (sentence, json_get(golden, "sentences")) {
        snprintf(name, sizeof name, "sentence%d.every24", i++);
        const struct safetensors_tensor *want = safetensors_find(s, name);
        ck_assert_ptr_nonnull(want);
        hidden_of(&t, sentence, (const float *)want->data, want->bytes / 4);
    }
    ck_assert_int_eq(i, 3);
    safetensors_close(s);
    trained_close(&t);
}
END_TEST

/* -- adapters -- */

static void load_factors(struct trained *t, struct safetensors *s)
{
    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *p = &model_trained(t->m)->at[i];
        const struct safetensors_tensor *from = safetensors_find(s, p->name);

        ck_assert_msg(from && from->bytes == p->count * 4, "%s", p->name);
        dev_upload(t->d, model_master(t->m) + p->offset, from->data, (size_t)from->bytes);
    }
    model_master_changed(t->m);
}

static void check_adapters(const char *name, const char *prefix)
{
    char model[96], path[96], factors[96];
    struct safetensors *s;
    struct trained t = {0};

    snprintf(model, sizeof model, GOLDEN "tiny-%s", name);
    snprintf(path, sizeof path, GOLDEN "%s_step.json", prefix);
    snprintf(factors, sizeof factors, GOLDEN "%s_lora.safetensors", prefix);
    json_auto struct json *step = golden_json(path);
    ck_assert_msg(!safetensors_open(factors, &s, &e), "%s", e.text);
    tiny_open_from(&t, model, json_int(step, "b", 0), json_int(step, "t", 0), 4);
    ck_assert_int_eq(model_trained(t.m)->count, 8);
    load_factors(&t, s);
    ck_assert_double_eq_tol(trained_step(&t, step, true),
        (double)*(const float *)safetensors_find(s, "loss_mean")->data, 1e-5);
    compare_gradients(&t, factors, "grad.");
    safetensors_close(s);
    trained_close(&t);
}

START_TEST(lora_gradients_equal_peft)
{
    check_adapters("llama", "tiny");
    check_adapters("qwen3", "tiny_qwen3");
    check_adapters("qwen3-moe", "tiny_qwen3_moe");
    check_adapters("mixtral", "tiny_mixtral");
    check_adapters("mistral", "tiny_mistral");
    check_adapters("llama3", "tiny_llama3");
}
END_TEST

/* Factors merged into the weights give the same loss as factors beside them. */
START_TEST(merged_equals_beside)
{
    struct trained beside = {0}, merged = {0};
    struct safetensors *s;
    double loss;

    tiny_open(&beside, 2, 4);
    tiny_open(&merged, 2, 0);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_lora.safetensors", &s, &e), "%s", e.text);
    load_factors(&beside, s);
    for (int i = 0; i < model_trained(merged.m)->count; i++) {
        const struct tensor *p = &model_trained(merged.m)->at[i];
        mem_autofree float *host = mem_array((size_t)p->count, 4);

        ck_assert_msg(!model_read(beside.m, p->name, true, host, p->count, &e), "%s", e.text);
        dev_upload(merged.d, model_master(merged.m) + p->offset, host, (size_t)p->count * 4);
    }
    loss = golden_step(&beside);
    ck_assert_double_eq_tol(golden_step(&merged), loss, 1e-5);
    ck_assert_double_eq_tol(
        loss, (double)*(const float *)safetensors_find(s, "loss_mean")->data, 1e-5);
    safetensors_close(s);
    trained_close(&beside);
    trained_close(&merged);
}
END_TEST

static void follow_run(const char *folder, const struct json *train, const struct json *run)
{
    struct trained t = {0};
    struct optim *o;
    struct optim_conf c = {.learning_rate = json_num(run, "learning_rate", 0),
        .weight_decay = json_num(train, "weight_decay", 0),
        .beta1 = json_num(train, "beta1", 0),
        .beta2 = json_num(train, "beta2", 0),
        .epsilon = json_num(train, "epsilon", 0),
        .clip_norm = json_num(train, "clip_norm", 0),
        .warmup_steps = json_int(run, "warmup_steps", 0),
        .steps = json_int(train, "steps", 0)};
    const struct json *batch = json_first(json_get(train, "ids"));
    const struct json *rate = json_first(json_get(run, "rates"));
    const struct json *loss = json_first(json_get(run, "losses"));
    const struct json *norm = json_first(json_get(run, "gradient_norms"));
    int64_t length = json_int(train, "t", 0), tokens = 4 * length;

    c.schedule =
        strcmp(json_str(run, "schedule", ""), "cosine") ? SCHEDULE_CONSTANT : SCHEDULE_COSINE;
    tiny_open_from(&t, folder, 4, length, 0);
    ck_assert_msg(!optim_create(t.d, &c, t.pass, &o, &e), "%s", e.text);
    for (int64_t step = 1; step <= c.steps; step++) {
        int32_t inputs[128], labels[128];
        const struct pass_input in = {.ids = inputs, .targets = labels};
        int64_t n;
        mem_autofree int32_t *ids = golden_ids(batch, &n);
        double sum, grad_norm;

        ck_assert(tokens <= 128 && n == 4 * (length + 1));
        for (int i = 0; i < tokens; i++) {
            inputs[i] = ids[i / length * (length + 1) + i % length];
            labels[i] = ids[i / length * (length + 1) + i % length + 1];
        }
        pass_zero_gradient(t.pass);
        ck_assert(!pass_step(t.pass, 4, &in, 1 / (float)tokens, true, &sum, &e));
        ck_assert_msg(!optim_step(o, step, &grad_norm, &e), "%s", e.text);
        ck_assert_double_eq_tol(optim_rate(&c, step), json_number_value(rate), 1e-9);
        ck_assert_double_eq_tol(sum / (double)tokens, json_number_value(loss), 1e-3);
        ck_assert_double_eq_tol(grad_norm, json_number_value(norm), 5e-3);
        batch = json_next(batch);
        rate = json_next(rate);
        loss = json_next(loss);
        norm = json_next(norm);
    }
    optim_destroy(o);
    trained_close(&t);
}

static int follow_runs(const char *folder, const char *file, int64_t steps)
{
    json_auto struct json *train = golden_json(file);
    int runs = 0;

    ck_assert_int_eq(json_int(train, "steps", 0), steps);
    json_each (run, json_get(train, "runs")) {
        follow_run(folder, train, run);
        runs++;
    }
    return runs;
}

START_TEST(fifty_steps_follow_torch)
{
    ck_assert_int_eq(follow_runs(GOLDEN "tiny-llama", GOLDEN "tiny_train.json", 50), 2);
}
END_TEST

START_TEST(twenty_steps_of_gpt2_follow_torch)
{
    ck_assert_int_eq(follow_runs(GOLDEN "tiny-gpt2", GOLDEN "tiny_gpt2_train.json", 20), 1);
}
END_TEST

static void compare_prompt(
    struct engine *engine, const struct json *prompt, int index, struct safetensors *s)
{
    int64_t n, k, v = 49152;
    mem_autofree int32_t *ids = golden_ids(json_get(prompt, "ids"), &n);
    mem_autofree int32_t *best = golden_ids(json_get(prompt, "argmax"), &k);
    mem_autofree float *logits = mem_array((size_t)(n * v), 4);
    const float *every64, *last;
    char name[64];
    double far = 0;

    ck_assert_int_eq(n, k);
    ck_assert_msg(!engine_extend(engine, ids, n, 0, true, logits, &e), "%s", e.text);
    snprintf(name, sizeof name, "prompt%d.every64", index);
    every64 = (const float *)safetensors_find(s, name)->data;
    snprintf(name, sizeof name, "prompt%d.last", index);
    last = (const float *)safetensors_find(s, name)->data;
    for (int64_t i = 0; i < n * v / 64; i++)
        far = farther(far, fabs((double)logits[i * 64] - (double)every64[i]));
    for (int64_t i = 0; i < v / 8; i++)
        far = farther(far, fabs((double)logits[(n - 1) * v + i * 8] - (double)last[i]));
    printf("prompt %d: greatest distance %.2g\n", index, far);
    ck_assert_msg(far < 2e-3, "prompt %d: logits are %.3g away", index, far);
    for (int64_t i = 0; i < n; i++) {
        int64_t arg = 0;

        for (int64_t j = 1; j < v; j++)
            if (logits[i * v + j] > logits[i * v + arg])
                arg = j;
        ck_assert_int_eq(arg, best[i]);
    }
}

START_TEST(smollm2_logits_equal_transformers)
{
    json_auto struct json *golden = golden_json(GOLDEN "smollm2_logits.json");
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = 128};
    struct safetensors *s;
    struct weights *w;
    struct engine *engine;
    struct model *m;
    struct dev *d;
    char path[1024];
    int index = 0;

    if (!golden_fetch("smollm2", path))
        return;
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!safetensors_open(GOLDEN "smollm2_logits.safetensors", &s, &e), "%s", e.text);
    c.config = *weights_config(w);
    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(m, &engine, &e), "%s", e.text);
    json_each (prompt, json_get(golden, "prompts"))
        compare_prompt(engine, prompt, index++, s);
    ck_assert_int_eq(index, 3);
    safetensors_close(s);
    engine_destroy(engine);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}
END_TEST

START_TEST(tensors_read_back)
{
    struct trained t = {0};
    float want[256], got[256];

    tiny_open(&t, 2, 4);
    ck_assert(!weights_read(t.w, "model.norm.weight", 64, 1, 0, 64, DTYPE_F32, want, &e));
    ck_assert(!model_read(t.m, "model.norm.weight", true, got, 64, &e));
    ck_assert_mem_eq(want, got, 64 * 4);
    ck_assert(
        !model_read(t.m, "model.layers.1.self_attn.v_proj.lora_B.weight", false, got, 32 * 4, &e));
    for (int i = 0; i < 32 * 4; i++)
        ck_assert(got[i] == 0);
    ck_assert(
        !model_read(t.m, "model.layers.1.self_attn.v_proj.lora_A.weight", false, got, 4 * 64, &e));
    for (int i = 0; i < 4 * 64; i++)
        ck_assert(fabsf(got[i]) <= 1 / 8.0f);
    ck_assert_int_eq(model_read(t.m, "model.norm.weight", true, got, 63, &e), -ERR_BUG);
    trained_close(&t);
}
END_TEST

/* The standard deviation of a fresh tensor, and its mean. */
static double fresh_deviation(struct trained *t, const char *name, double *mean)
{
    double sum = 0, squares = 0;

    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *p = &model_trained(t->m)->at[i];
        mem_autofree float *x = mem_array((size_t)p->count, 4);

        if (strcmp(p->name, name))
            continue;
        ck_assert(!model_read(t->m, name, false, x, p->count, &e));
        for (int64_t k = 0; k < p->count; k++) {
            sum += (double)x[k] / (double)p->count;
            squares += (double)x[k] * (double)x[k] / (double)p->count;
        }
        *mean = sum;
        return sqrt(fmax(0, squares - sum * sum));
    }
    ck_abort_msg("%s", name);
}

START_TEST(fresh_weights_are_as_the_family_has_them)
{
    static const struct {
        const char *folder, *name;
        double deviation, mean;
    } rows[] = {
        {GOLDEN "tiny-llama", "model.embed_tokens.weight", 0.02, 0},
        {GOLDEN "tiny-llama", "model.layers.1.self_attn.o_proj.weight", 0.02, 0},
        {GOLDEN "tiny-llama", "model.norm.weight", 0, 1},
        {GOLDEN "tiny-gpt2", "model.embed_positions.weight", 0.02, 0},
        {GOLDEN "tiny-gpt2", "model.layers.1.mlp.up_proj.weight", 0.02, 0},
        {GOLDEN "tiny-gpt2", "model.layers.1.mlp.down_proj.weight", 0.01, 0}, /* 2 layers */
        {GOLDEN "tiny-gpt2", "model.layers.0.self_attn.o_proj.weight", 0.01, 0},
        {GOLDEN "tiny-gpt2", "model.layers.0.self_attn.o_proj.bias", 0, 0},
        {GOLDEN "tiny-gpt2", "model.layers.0.input_layernorm.weight", 0, 1},
        {GOLDEN "tiny-gpt2", "model.layers.0.input_layernorm.bias", 0, 0},
        {GOLDEN "tiny-bert", "model.layers.1.mlp.down_proj.weight", 0.02, 0},
        {GOLDEN "tiny-bert", "model.embed_norm.weight", 0, 1},
        {GOLDEN "tiny-bert", "model.embed_norm.bias", 0, 0},
        {GOLDEN "tiny-bert", "classifier.bias", 0, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trained t = {0};
        double mean, deviation;

        tiny_open_from(&t, rows[i].folder, 2, 16, 0);
        ck_assert_msg(!model_init_random(t.m, &e), "%s", e.text);
        deviation = fresh_deviation(&t, rows[i].name, &mean);
        ck_assert_msg(fabs(deviation - rows[i].deviation) <= 0.1 * rows[i].deviation,
            "%s: deviation %g", rows[i].name, deviation);
        ck_assert_double_eq_tol(mean, rows[i].mean, 0.002);
        trained_close(&t);
    }
}
END_TEST

START_TEST(bad_ids_are_refused)
{
    int32_t inputs[64] = {0}, labels[64] = {0};
    const struct pass_input in = {.ids = inputs, .targets = labels};
    struct trained t = {0};
    double sum;

    tiny_open(&t, 2, 0);
    inputs[63] = 256;
    ck_assert_int_eq(pass_step(t.pass, 2, &in, 1, true, &sum, &e), -ERR_DATA);
    inputs[63] = -1;
    ck_assert_int_eq(pass_step(t.pass, 2, &in, 1, true, &sum, &e), -ERR_DATA);
    inputs[63] = 0;
    labels[0] = -1; /* not counted */
    ck_assert_int_eq(pass_step(t.pass, 2, &in, 1, true, &sum, &e), 0);
    trained_close(&t);
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "model"},
        (const TTest *const[]){gradients_equal_torch, every_familys_gradients_equal_torch,
            logits_of_labels_equal_transformers, padding_changes_no_bit,
            a_classifier_is_trained_beside_adapters, a_classifier_of_other_labels_is_fresh,
            what_predicts_no_next_token_is_refused, minilm_computes_what_transformers_computes,
            twenty_steps_of_gpt2_follow_torch, lora_gradients_equal_peft, merged_equals_beside,
            fifty_steps_follow_torch, smollm2_logits_equal_transformers, tensors_read_back,
            fresh_weights_are_as_the_family_has_them, bad_ids_are_refused, NULL});
}
