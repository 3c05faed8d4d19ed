/*
 * Goal: a token that a GPU draws is the one that the processor draws, greedy or not, for every
 * family; on a device that can record, decoding a token is one launch; when recording fails,
 * creating the engine says so. Method: prompts served by engine_next on "cpu", which records
 * nothing and draws by the reference, and on "cuda", the plugin beside this program: a GPU's, or
 * that of tests/cudasim, which counts what is launched and can be told to refuse. (Logits against
 * torch's: test_net, test_model; what a draw is: tests/kernels, test_sample.)
 * needs: cuda gpu
 */
#include "runtime/model/engine.h"

#include "base/mem.h"
#include "kernels/driver.h"
#include "tests/cudasim/control.h"
#include "runtime/serve/sample.h"
#include "tests/gpu/gpu.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dlfcn.h>

#define CONTEXT 40
#define PROMPT  7
#define TOKENS  16

static struct err e;
static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2", GOLDEN "tiny-qwen2",
    GOLDEN "tiny-qwen3", GOLDEN "tiny-mistral", GOLDEN "tiny-qwen3-moe"};
#define FAMILIES ((int)(sizeof folders / sizeof *folders))

static const struct {
    double temperature, top_p;
    uint64_t seed;
} requests[] = {{0, 1, 1}, {1.5, 1, 2}, {0.8, 0.9, 3}, {30, 0.5, 4}};
#define REQUESTS ((int)(sizeof requests / sizeof *requests))

struct served {
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct engine *engine;
    struct sampler sampler;
};

static void open_served(struct served *s, const char *kind, int family, enum dtype t)
{
    struct model_conf c = {.t = t, .kv_capacity = CONTEXT};

    ck_assert_msg(!dev_open(kind, 0, 1, &s->d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folders[family], NULL, &s->w, &e), "%s", e.text);
    c.config = *weights_config(s->w);
    ck_assert_msg(!model_create(s->d, &c, &s->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(s->m, s->w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(s->m, &s->engine, &e), "%s", e.text);
}

static void close_served(struct served *s)
{
    engine_destroy(s->engine);
    model_destroy(s->m);
    weights_close(s->w);
    dev_close(s->d);
}

static const struct cudasim_control *control_of(const struct dev *d)
{
    cudasim_control_fn *f;

    *(void **)&f = dlsym(d->plugin, CUDASIM_CONTROL);
    ck_assert_msg(f, "the plugin beside this program is not the simulated one");
    return f();
}

/* The last token of the prompt to be run by itself; those before it are in the cache. In 16 bits
   each is: of several rows a GPU rounds what its products read, and a processor does not. */
static int32_t prompt(struct served *s, int request)
{
    int32_t ids[PROMPT], vocab = (int32_t)weights_config(s->w)->vocab;
    int64_t chunk = model_compute_type(s->m) == DTYPE_F32 ? PROMPT - 1 : 1;

    for (int i = 0; i < PROMPT; i++)
        ids[i] = (i * 37 + 11 + request) % vocab;
    for (int64_t i = 0; i + chunk < PROMPT; i += chunk)
        ck_assert_msg(!engine_extend(s->engine, ids + i, chunk, i, false, NULL, &e), "%s", e.text);
    sampler_start(&s->sampler, requests[request].temperature, requests[request].top_p,
        requests[request].seed);
    return ids[PROMPT - 1];
}

static void draw_tokens(struct served *s, int request, int32_t *out)
{
    int32_t id = prompt(s, request);

    for (int i = 0; i < TOKENS; i++) {
        const struct sample_draw draw = sampler_draw(&s->sampler);

        ck_assert_msg(!engine_next(s->engine, id, PROMPT - 1 + i, &draw, &id, &e), "%s", e.text);
        out[i] = id;
    }
}

static void same_tokens(int family, enum dtype t)
{
    int32_t want[TOKENS], got[TOKENS];
    struct served cpu, cuda;
    int different = 0;

    open_served(&cpu, "cpu", family, t);
    open_served(&cuda, "cuda", family, t);
    for (int r = 0; r < REQUESTS; r++) {
        draw_tokens(&cpu, r, want);
        draw_tokens(&cuda, r, got);
        for (int i = 0; i < TOKENS; i++)
            ck_assert_msg(got[i] == want[i], "%s, request %d, token %d: %d, the processor %d",
                folders[family], r, i, got[i], want[i]);
        for (int i = 1; i < TOKENS; i++)
            different += want[i] != want[i - 1];
    }
    ck_assert_int_gt(different, REQUESTS * TOKENS / 4);
    close_served(&cpu);
    close_served(&cuda);
}

START_TEST(a_gpu_draws_what_the_processor_draws)
{
    for (int i = 0; i < FAMILIES; i++)
        same_tokens(i, DTYPE_F32);
}
END_TEST

START_TEST(from_a_bf16_cache_too)
{
    same_tokens(0, DTYPE_BF16);
}
END_TEST

START_TEST(a_token_is_one_launch)
{
    struct served s;
    int64_t kernels = 0;
    int32_t id;

    open_served(&s, "cuda", 2, DTYPE_F32); /* Qwen2: with biases */
    const struct cudasim_control *control = control_of(s.d);
    id = prompt(&s, 0);
    for (int i = 0; i < TOKENS; i++) {
        const struct sample_draw draw = sampler_draw(&s.sampler);
        int64_t launches = control->launches(), calls = control->calls(),
                replays = control->replays();

        ck_assert(!engine_next(s.engine, id, PROMPT - 1 + i, &draw, &id, &e));
        ck_assert_int_eq(control->replays() - replays, 1);
        ck_assert_int_eq(control->calls() - calls, 0);
        launches = control->launches() - launches;
        ck_assert_int_eq(launches, i ? kernels : launches);
        kernels = launches;
    }
    ck_assert_int_gt(kernels, 0);
    printf("a token: one launch of %lld kernels\n", (long long)kernels);
    close_served(&s);
}
END_TEST

/* Going back in the sequence: the cache's older tokens are still right. */
START_TEST(a_shorter_past_is_as_good)
{
    const struct sample_draw greedy = {.top_p = 1};
    int32_t first[TOKENS], again;
    struct served s;

    open_served(&s, "cuda", 0, DTYPE_F32);
    draw_tokens(&s, 0, first);
    for (int i = TOKENS - 2; i > 0; i -= 3) {
        ck_assert(!engine_next(s.engine, first[i - 1], PROMPT - 1 + i, &greedy, &again, &e));
        ck_assert_int_eq(again, first[i]);
    }
    close_served(&s);
}
END_TEST

START_TEST(bad_tokens_are_refused)
{
    static const char *const kinds[] = {"cpu", "cuda"};
    const struct sample_draw greedy = {.top_p = 1};
    struct served s;

    for (int k = 0; k < 2; k++) {
        int32_t next = -7;

        open_served(&s, kinds[k], 0, DTYPE_F32);
        ck_assert_int_eq(engine_next(s.engine, -1, 0, &greedy, &next, &e), -ERR_DATA);
        ck_assert_int_eq(engine_next(s.engine, 1 << 20, 0, &greedy, &next, &e), -ERR_DATA);
        ck_assert_int_eq(engine_next(s.engine, 1, CONTEXT, &greedy, &next, &e), -ERR_USER);
        ck_assert_int_eq(engine_next(s.engine, 1, -1, &greedy, &next, &e), -ERR_USER);
        ck_assert_int_eq(next, -7);
        ck_assert_msg(!engine_next(s.engine, 1, CONTEXT - 1, &greedy, &next, &e), "%s", e.text);
        close_served(&s);
    }
}
END_TEST

START_TEST(no_recording_no_engine)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = CONTEXT};
    struct weights *w;
    struct engine *engine;
    struct model *m;
    struct dev *d;

    ck_assert(!dev_open("cuda", 0, 1, &d, &e) && !weights_open(folders[0], NULL, &w, &e));
    c.config = *weights_config(w);
    control_of(d)->refuse(true);
    ck_assert(!model_create(d, &c, &m, &e) && !model_load(m, w, &e));
    ck_assert_int_eq(engine_create(m, &engine, &e), -ERR_MEMORY);
    ck_assert_msg(
        strstr(e.text, "cuda:0 (") && strstr(e.text, "a recording: out of memory"), "%s", e.text);
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text); /* said once */
    control_of(d)->refuse(false);
    ck_assert_msg(!engine_create(m, &engine, &e), "%s", e.text);
    engine_destroy(engine);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}
END_TEST

int main(void)
{
    gpu_open();
    return unit_run_with(
        &(struct unit){"engine", 120, NULL, NULL}, /* the simulator takes its time */
        GPU_TESTS(GPU_ANY(a_gpu_draws_what_the_processor_draws), GPU_ANY(from_a_bf16_cache_too),
            GPU_SIMULATED(a_token_is_one_launch), GPU_ANY(a_shorter_past_is_as_good),
            GPU_ANY(bad_tokens_are_refused), GPU_SIMULATED(no_recording_no_engine)));
}
