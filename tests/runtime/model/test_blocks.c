/*
 * Goal: adapters beside a quantized base learn what they would beside the decoded one, in its
 * memory. Method: a small model with random weights, quantized when it is loaded; its twin, whose
 * base in the compute type is given the decoded values. One step of both: loss and gradients are
 * the same to the bit where the head's matrix is one panel, else within what the order of a sum
 * does; with biases, DoRA, recomputation, in F32 and BF16, of each mix. What is in memory is what
 * the encoder makes of the source's rows. What the plan saves. What is refused. (Worlds and
 * interruptions: test_train; plans: test_memplan; the simulated GPU: test_cuda_model.)
 */
#include "runtime/model/blocks.h"

#include "kernels/quant.h"
#include "kernels/quant_encode.h"
#include "runtime/model/pass.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define T 24
#define B 2

static char folder[64];
static struct err e;
static struct dev *dev;

static void setup(void)
{
    golden_folder(folder);
    ck_assert_msg(!dev_open("cpu", 0, 1, &dev, &e), "%s", e.text);
}

static void done(void)
{
    dev_close(dev);
    golden_remove(folder);
}

/* Of rows that are whole blocks of 32, but of heads those that are not; ffn 256 fits Q4_K. */
static struct model_config config_of(const char *shape, int64_t vocab, bool tied)
{
    struct model_config c = shape_of(shape);
    c.ffn_dim = c.ffn_dim > 256 ? 512 : 256;
    c.vocab = vocab;
    c.tied_embeddings = tied;
    return c;
}

static struct weights *write_model(const struct model_config *c)
{
    struct weights *w;
    ck_assert_msg(!shape_write(folder, c, DTYPE_F32, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    return w;
}

static struct model_conf conf_of(const struct model_config *config, enum dtype t)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};
    return (struct model_conf){.config = *config,
        .t = t,
        .train = true,
        .micro_sequences = B,
        .sequence_length = T,
        .lora_rank = 4,
        .lora_alpha = 8,
        .lora_targets = targets,
        .seed = 5};
}

static struct pass *open(const struct model_conf *c, struct weights *w)
{
    struct model *m;
    struct pass *pass;
    ck_assert_msg(!model_create(dev, c, &m, &e), "%s", e.text);
    ck_assert_msg(!pass_create(m, &pass, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    return pass;
}

/* What the quantized base is decoded to becomes the other's. */
static void copy_base(struct model *from, struct model *to)
{
    for (int i = 0; i < model_base(from)->count; i++) {
        const struct tensor *p = &model_base(from)->at[i];
        mem_autofree float *rows = mem_array((size_t)p->count, sizeof *rows);
        ck_assert(rows && !model_read(from, p->name, false, rows, p->count, &e));
        const struct stored at = model_frozen(to, tensors_find(model_base(to), p->name));
        uint16_t *narrow = (uint16_t *)rows;
        for (int64_t k = 0; k < p->count && at.type != DTYPE_F32; k++)
            narrow[k] = f32_to_half(at.type, rows[k]);
        dev_upload(dev, at.data, rows, (size_t)dtype_bytes(at.type, p->count));
    }
}

static double step(struct pass *pass, float **gradient)
{
    int32_t ids[B * T], targets[B * T];
    const struct pass_input in = {.ids = ids, .targets = targets};
    size_t bytes = (size_t)model_trainable(pass_model(pass)) * 4;
    double sum;
    tiny_ids(ids, B * T, 7);
    tiny_ids(targets, B * T, 8);
    tiny_fill(dev, pass_model(pass), 9);
    pass_zero_gradient(pass);
    ck_assert_msg(!pass_step(pass, B, &in, 1.0f / (B * T), true, &sum, &e), "%s", e.text);
    *gradient = mem_alloc(bytes);
    ck_assert_ptr_nonnull(*gradient);
    dev_download(dev, *gradient, pass_gradient(pass), bytes);
    ck_assert(!dev_sync(dev, &e));
    return sum / (B * T);
}

/* Returns by how much the gradients differ at most, as a share of the greatest. */
static double compare(struct model_conf c, struct weights *w, enum quantize q)
{
    struct model_conf wide = c;
    mem_autofree float *got = NULL, *want = NULL;
    c.quantize = q;
    struct pass *quantized = open(&c, w), *decoded = open(&wide, w);
    copy_base(pass_model(quantized), pass_model(decoded));
    double a = step(quantized, &got), b = step(decoded, &want), most = 0, far = 0;
    ck_assert_msg(fabs(a / b - 1) < 1e-6, "loss %.9g, decoded %.9g", a, b);
    for (int64_t i = 0; i < model_trainable(pass_model(decoded)); i++) {
        most = fmax(most, fabs((double)want[i]));
        far = farther(far, fabs((double)got[i] - (double)want[i]));
    }
    ck_assert_double_gt(most, 0);
    tiny_pass_close(quantized);
    tiny_pass_close(decoded);
    return far / most;
}

static const enum quantize mixes[] = {QUANTIZE_Q8_0, QUANTIZE_Q4_0, QUANTIZE_Q4_K_M};

START_TEST(it_learns_as_beside_the_decoded_base)
{
    static const char *const shapes[] = {
        "small-llama", "small-gpt2", "small-qwen3", "small-masked"};
    for (int i = 0; i < 4; i++) {
        const struct model_config config = config_of(shapes[i], 320, i != 2);
        struct weights *w = write_model(&config);
        for (int k = 0; k < 6; k++) {
            struct model_conf c = conf_of(&config,
                k == 3      ? DTYPE_F16
                    : k & 1 ? DTYPE_BF16
                            : DTYPE_F32);
            c.recompute = (enum recompute)(k / 2);
            c.lora_dora = k > 3 && config.activation == ACTIVATION_SWIGLU;
            double far = compare(c, w, mixes[(i + k) % 3]);
            /* in 16 bits the head's gradient is rounded once more, or once less */
            ck_assert_msg(
                far <= (k & 1 ? 1e-2 : 0), "%s, %d: gradients %.2g off", shapes[i], k, far);
        }
        weights_close(w);
    }
}
END_TEST

/* 9,000 words are two panels and a part. */
START_TEST(panels_of_the_head_add_up)
{
    for (int i = 0; i < 2; i++) {
        const struct model_config config = config_of("small-llama", 9000, i);
        struct weights *w = write_model(&config);
        double narrow = compare(conf_of(&config, DTYPE_BF16), w, QUANTIZE_Q8_0);
        double far = compare(conf_of(&config, DTYPE_F32), w, QUANTIZE_Q4_0);
        printf("  panels: gradients %.1e off, in BF16 %.1e\n", far, narrow);
        ck_assert_double_lt(far, 1e-5);
        ck_assert_double_lt(narrow, 1e-2);
        weights_close(w);
    }
}
END_TEST

/* -- what is in memory -- */

START_TEST(blocks_are_their_encoders)
{
    const struct model_config config = config_of("small-llama", 320, true);
    struct weights *w = write_model(&config);
    struct model_conf c = conf_of(&config, DTYPE_F32);
    c.quantize = QUANTIZE_Q4_K_M;
    struct pass *pass = open(&c, w);
    int in_blocks = 0;
    for (int i = 0; i < model_base(pass_model(pass))->count; i++) {
        const struct tensor *p = &model_base(pass_model(pass))->at[i];
        enum dtype type = model_frozen(pass_model(pass), p).type;
        mem_autofree float *want = mem_array((size_t)p->count, 4),
                           *got = mem_array((size_t)p->count, 4);
        mem_autofree uint8_t *encoded = mem_array((size_t)p->count, 4);
        ck_assert(want && got && encoded);
        ck_assert(!weights_read(
            w, p->name, p->shape[0], p->shape[1], 0, p->shape[0], DTYPE_F32, want, &e));
        if (dtype_block(type) > 1) {
            quant_encode(type, want, p->count, NULL, encoded);
            quant_decode(type, encoded, p->count, want);
            in_blocks++;
        }
        ck_assert(!model_read(pass_model(pass), p->name, false, got, p->count, &e));
        ck_assert_msg(!memcmp(got, want, (size_t)p->count * 4), "%s", p->name);
        if (p->role == TENSOR_DOWN)
            ck_assert(type == DTYPE_Q4_K || type == DTYPE_Q6_K);
        if (p->dims == 1)
            ck_assert_int_eq(type, DTYPE_F32);
    }
    ck_assert_int_eq(in_blocks, 1 + 7 * config.layers);
    tiny_pass_close(pass);
    weights_close(w);
}
END_TEST

/* -- refusals -- */

static void refuse(
    const struct model_config *config, struct weights *w, enum quantize q, const char *why)
{
    static const char *const targets[] = {"q_proj", NULL};
    struct model_conf c = conf_of(config, DTYPE_F32);
    struct model *m = NULL;
    c.lora_targets = targets;
    c.stored = q == QUANTIZE_NONE ? w : NULL;
    c.quantize = q;
    e = (struct err){0};
    ck_assert_int_eq(model_create(dev, &c, &m, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, why), "%s", e.text);
}

START_TEST(what_has_no_blocks_is_refused)
{
    static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-mixtral"};
    struct weights *w;
    ck_assert(!weights_open(folders[0], NULL, &w, &e));
    refuse(
        weights_config(w), w, QUANTIZE_NONE, "quantizedBase: Stored, but spec.model.source has no");
    weights_close(w);
    ck_assert(!weights_open(folders[1], NULL, &w, &e));
    refuse(weights_config(w), w, QUANTIZE_Q8_0, "quantizedBase: a mixture of experts");
    weights_close(w);
    struct model_config odd = shape_of("tiny-qwen3"); /* rows of 24, 40 and 60 */
    w = write_model(&odd);
    refuse(&odd, w, QUANTIZE_Q8_0, "no matrix of this model has rows of whole blocks of Q8_0");
    weights_close(w);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"blocks", 60, setup, done},
        (const TTest *const[]){it_learns_as_beside_the_decoded_base, panels_of_the_head_add_up,
            blocks_are_their_encoders, what_has_no_blocks_is_refused, NULL});
}
