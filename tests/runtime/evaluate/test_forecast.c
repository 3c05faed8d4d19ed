/*
 * Goal: `llmjob plan` tells of an evaluation what its ranks will take, in its own layout and the
 * others, and ends as a job out of memory where that does not fit. Method: job files for a tiny
 * model, what was printed, and what ranks that evaluate it say that they took.
 */
#include "runtime/evaluate/forecast.h"

#include "base/io.h"
#include "runtime/model/memplan.h"
#include "runtime/serve/library.h"
#include "runtime/serve/reader.h"
#include "runtime/serve/retrieve.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/peft.h"
#include "tests/runtime/shapes.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static char said[16384], data[256], report[256];
static struct err e;

static struct jobspec job(int replicas, int tensor, int pipeline)
{
    struct jobspec s = training_job("run");
    snprintf(data, sizeof data, "%s", training_path("corpus.txt"));
    snprintf(report, sizeof report, "%s", training_path("report"));
    s.task = TASK_EVALUATE;
    s.train.output = s.checkpoint.path = NULL;
    s.storage[s.storage_count++] =
        (struct jobspec_storage){.name = "d", .claim = "c", .mount_path = training_folder};
    s.replicas = replicas;
    s.device.per_replica = 1;
    s.parallelism.tensor = tensor;
    s.parallelism.pipeline = pipeline;
    s.evaluate.objective = EVALUATED_CAUSAL_LM;
    s.evaluate.data = data;
    s.evaluate.format = FORMAT_TEXT;
    s.evaluate.sequence_length = 48;
    s.evaluate.samples = 2;
    s.evaluate.output = report;
    return s;
}

/* Of a job as agents get it. */
static int ask(const struct jobspec *s, const char *memory)
{
    char path[256], bytes[64];
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    ck_assert_msg(!jobspec_encode(s, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s", training_path("job.json"));
    golden_write(path, b.data, b.len);
    snprintf(bytes, sizeof bytes, "--memory-bytes=%s", memory);
    char *argv[] = {(char *)"forecast", bytes, (char *)"--best=9", path, NULL};
    FILE *out = fmemopen(said, sizeof said, "w");
    ck_assert_ptr_nonnull(out);
    int rc = forecast_run(3, argv + 1, retrieve_plan, out, &e);
    fclose(out);
    return rc;
}

static void says(const char *what)
{
    ck_assert_msg(strstr(said, what) != NULL, "no \"%s\" in:\n%s", what, said);
}

START_TEST(it_says_what_ranks_take)
{
    struct jobspec s = job(2, 2, 0);
    char line[96];
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1});
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.tensor == 2 && o.pipeline == 1 && o.memory_bytes > 0);
    snprintf(
        line, sizeof line, "* %-22s %9.1f = ", "dp1 x tp2", (double)o.memory_bytes / (1 << 20));
    says(line);
    says("llama of 2 layers, 64 channels, 256 tokens of vocabulary; 2 ranks in pods of 1");
    says("\n  dp2 ");
    says("\n  dp1 x pp2 ");
}
END_TEST

START_TEST(layouts_that_cannot_be_say_why)
{
    struct jobspec s = job(4, 2, 2);
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    says("* dp1 x tp2 x pp2 ");
    says("  dp1 x tp4              spec.parallelism.tensor: 4, but spec.model has 2 key/value");
    says("  dp1 x pp4              spec.parallelism.pipeline: 4, but spec.model has 2 layers");
    ck_assert(!strstr(said, "does not fit"));
}
END_TEST

START_TEST(what_does_not_fit_is_out_of_memory)
{
    struct jobspec s = job(4, 0, 0);
    ck_assert_int_eq(ask(&s, "1000"), -ERR_MEMORY);
    says("* dp4 ");
    says("does not fit");
}
END_TEST

/* What a served model's adapters take is in the sum, of each layout what its ranks have of them;
   under adapterMemory that is its figure, and other layouts, which cannot have it, are not
   shown. */
START_TEST(adapters_are_counted)
{
    struct jobspec s = job(1, 0, 0);
    struct model_config c;
    float with, without;
    char folder[256];
    s.task = TASK_SERVE;
    s.serve = (struct jobspec_serve){.model_name = "m", .max_sequences = 1, .max_queue = 1};
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    says("\n  dp1 x tp2 ");
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &without), 1);
    ck_assert_msg(!model_config_read(training_path("model/config.json"), &c, &e), "%s", e.text);
    snprintf(folder, sizeof folder, "%s", training_path("adapter"));
    peft_write(&(struct peft){.folder = folder, .config = &c, .rank = 512, .type = DTYPE_F32});
    s.serve.adapters = &(struct jobspec_served_adapter){"a", folder};
    s.serve.adapter_count = 1;
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    float half;
    ck_assert_int_eq(sscanf(strstr(said, "  dp1 x tp2"), "  dp1 x tp2 %f", &half), 1);
    /* rows and columns of q, k, v, o, gate, up and down; and what 256 rows have between both */
    double mib = (2 * 512 + 1) * (128 + 96 + 96 + 128 + 3 * 192) * 4.0 / (1 << 20);
    mib += 256 * 513 * 4.0 / (1 << 20);
    char line[64];
    snprintf(line, sizeof line, "adapters: 1, of %.1f MiB, ", mib);
    says(line);
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &with), 1);
    mib += 256 * 128 * 4.0 / (1 << 20); /* scratch of as many */
    ck_assert_double_eq_tol((double)(with - without), mib, 0.11);
    ck_assert_float_lt(half, with);
    s.serve.adapter_memory = 8 << 20;
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    says("adapters: 1, of 8.0 MiB, ");
    ck_assert(!strstr(said, "tp2"));
    s.serve.adapter_memory = 0;
    s.serve.adapters[0].path = training_path("none");
    ck_assert(ask(&s, "1000000000"));
    ck_assert_msg(strstr(e.text, "spec.serve.adapters: a: "), "%s", e.text);
}
END_TEST

/* So is a draft: here the model once more. */
START_TEST(a_draft_is_counted)
{
    struct jobspec s = job(1, 0, 0);
    float with, without, programs;
    s.task = TASK_SERVE;
    s.serve = (struct jobspec_serve){.model_name = "m", .max_sequences = 1, .max_queue = 1};
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &without), 1);
    s.serve.speculation.method = SPECULATION_DRAFT;
    s.serve.speculation.tokens = 4;
    s.serve.speculation.model = s.model.source;
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    ck_assert(!strstr(said, "tp2"));
    says("draft: ");
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &with), 1);
    ck_assert_int_eq(sscanf(strstr(said, "programs: "), "programs: %f", &programs), 1);
    ck_assert_double_eq_tol((double)with, 2 * (double)without - (double)programs, 0.16);
    s.serve.speculation.model = training_path("none");
    ck_assert(ask(&s, "1000000000"));
    ck_assert_msg(strstr(e.text, "spec.serve.speculation.model: "), "%s", e.text);
}
END_TEST

/* So are documents: an encoder with its vocabulary, and an index that is full. */
START_TEST(documents_are_counted)
{
    struct jobspec s = job(1, 0, 0);
    struct reader_conf c = {.t = DTYPE_F32};
    float with, without, told;
    int64_t context, bytes;
    char root[PATH_MAX], memory[32];
    s.task = TASK_SERVE;
    s.precision = PRECISION_FP32;
    s.serve = (struct jobspec_serve){.model_name = "m", .max_sequences = 1, .max_queue = 1};
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &without), 1);
    ck_assert_ptr_nonnull(realpath(GOLDEN "tiny-bert-masked", root));
    ck_assert_int_eq(symlink(root, training_path("encoder")), 0);
    s.serve.retrieval = (struct jobspec_retrieval){.documents = training_path("data"),
        .encoder.source = training_path("encoder"),
        .chunk_tokens = 32,
        .max_chunks = 5000,
        .results = 3,
        .not_found = "no",
        .scan_seconds = 5};
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    ck_assert(!strstr(said, "tp2"));
    ck_assert(!weights_open(root, NULL, &c.weights, &e));
    ck_assert(!reader_plan(&c, &context, &bytes, &e));
    bytes += memplan_vocabulary(weights_config(c.weights)->vocab) +
        library_bytes(weights_config(c.weights)->dim, 5000);
    weights_close(c.weights);
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f", &with), 1);
    ck_assert_int_eq(sscanf(strstr(said, "documents: "), "documents: %f MiB of", &told), 1);
    says("of an encoder and 5000 chunks, which each sum includes");
    ck_assert_double_eq_tol((double)told, (double)bytes / (1 << 20), 0.051);
    ck_assert_double_eq_tol((double)(with - without), (double)bytes / (1 << 20), 0.11);
    snprintf(memory, sizeof memory, "%lld", (long long)((double)(with - 1) * (1 << 20)));
    ck_assert_int_eq(ask(&s, memory), -ERR_MEMORY);
    says("does not fit");
    s.serve.retrieval.encoder.source = training_path("none");
    ck_assert(ask(&s, "1000000000"));
    ck_assert_msg(strstr(e.text, "spec.serve.retrieval.encoder: "), "%s", e.text);
}
END_TEST

/* Of the one layout that is asked for: MiB of the cache. */
static float cache_of(const struct jobspec *s)
{
    float all, weights, cache;
    ck_assert_msg(!ask(s, "1000000000"), "%s", e.text);
    ck_assert_int_eq(sscanf(strstr(said, "* dp1"), "* dp1 %f = %f %f", &all, &weights, &cache), 3);
    return cache;
}

/* A quarter of FP32 and the scales; heads of other sizes are refused. What programs take is
   told. */
START_TEST(types_of_the_cache)
{
    struct model_config c = shape_of("small-llama");
    struct jobspec s = job(1, 0, 0);
    char line[64];
    c.context = 8192;
    s.task = TASK_SERVE;
    s.serve = (struct jobspec_serve){.model_name = "m", .max_sequences = 1, .max_queue = 1};
    s.serve.kv_cache = KV_CACHE_Q8_0;
    ck_assert_int_eq(ask(&s, "1000000000"), -ERR_USER);
    ck_assert_str_eq(e.text,
        "spec.serve.kvCache: Q8_0 has blocks of 32 numbers, and a head of spec.model, a llama, has "
        "16");
    ck_assert_msg(!shape_write(training_path("heads"), &c, DTYPE_F32, &e), "%s", e.text);
    s.model.source = training_path("heads");
    float blocks = cache_of(&s);
    snprintf(line, sizeof line, "programs: %.1f MiB, about",
        (double)memplan_programs(c.vocab) / (1 << 20));
    says(line);
    s.serve.kv_cache = KV_CACHE_FP32;
    float whole = cache_of(&s);
    ck_assert_double_eq_tol((double)whole, 2 * 2 * 8192 * 2 * 64 * 4.0 / (1 << 20), 0.06);
    ck_assert_double_eq_tol((double)blocks, (double)whole * 34 / 128, 0.06);
}
END_TEST

/* What is allocated for it, of texts of the length that is served; no other layout serves it. */
START_TEST(a_model_that_reads_texts)
{
    char root[PATH_MAX], line[96];
    struct jobspec s = job(1, 1, 1);
    struct weights *w;
    struct memplan plan;
    ck_assert_ptr_nonnull(realpath(GOLDEN "tiny-bert-texts", root));
    ck_assert_int_eq(symlink(root, training_path("bert")), 0);
    s.task = TASK_SERVE;
    s.model.source = training_path("bert");
    s.precision = PRECISION_FP32;
    s.serve.model_name = "m";
    s.serve.max_sequences = 4;
    s.serve.max_queue = 4;
    ck_assert_msg(!ask(&s, "1000000000"), "%s", e.text);
    ck_assert(!weights_open(root, NULL, &w, &e));
    const struct model_conf c = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .encodes = true,
        .kv_capacity = 48,
        .programs = memplan_programs(weights_config(w)->vocab)};
    ck_assert_msg(!memplan_model(&c, w, &plan, &e), "%s", e.text);
    snprintf(line, sizeof line, "* %-22s %9.1f = ", "dp1", (double)plan.total / (1 << 20));
    says(line);
    says("48 tokens at once");
    ck_assert(!strstr(said, "pp2") && !strstr(said, "tp2"));
    weights_close(w);
}
END_TEST

START_TEST(other_jobs_are_refused)
{
    struct jobspec s = job(2, 0, 0);
    s.evaluate.sequence_length = 129;
    ck_assert_int_eq(ask(&s, "1000000000"), -ERR_USER);
    ck_assert_msg(strstr(e.text, "exceeds the model's context") != NULL, "%s", e.text);
    s = job(2, 0, 0);
    s.evaluate.adapter = data;
    ck_assert_int_eq(ask(&s, "1000000000"), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.evaluate.adapter: ") != NULL, "%s", e.text);
    s = job(2, 0, 0);
    s.evaluate.objective = EVALUATED_SEQUENCE_CLASSIFICATION;
    s.evaluate.format = FORMAT_JSONL;
    ck_assert_int_eq(ask(&s, "1000000000"), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.evaluate.objective: of Sequence") != NULL, "%s", e.text);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"forecast", 60, training_setup, training_teardown},
        (const TTest *const[]){it_says_what_ranks_take, layouts_that_cannot_be_say_why,
            what_does_not_fit_is_out_of_memory, adapters_are_counted, a_draft_is_counted,
            documents_are_counted, types_of_the_cache, a_model_that_reads_texts,
            other_jobs_are_refused, NULL});
}
