/*
 * Goal: `llmjob plan` tells of a job what it would get: as it is where it fits, else the fastest
 * that fits, else nothing, as a job out of memory. Method: job files for a model of seventy billion
 * parameters, of which only config.json is there, and for published shapes; what was printed.
 */
#include "runtime/train/preview.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <stdlib.h>

static char folder[64], said[16384];
static struct err e;

static void setup(void)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 128256, \"hidden_size\": 8192, "
        "\"intermediate_size\": 28672, \"num_hidden_layers\": 80, \"num_attention_heads\": 64, "
        "\"num_key_value_heads\": 8, \"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-5, "
        "\"rope_theta\": 500000.0, \"tie_word_embeddings\": false}";
    char path[128];
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/m", folder);
    ck_assert(!io_mkdirs(path, 0755, &e));
    snprintf(path, sizeof path, "%s/m/config.json", folder);
    golden_write(path, config, strlen(config));
}

static void teardown(void)
{
    golden_remove(folder);
}

/* What is printed of a job on so many pods of eight GPUs; more: further fields of train. */
static int ask(int pods, const char *memory, const char *parallelism, const char *more)
{
    char job[2048], path[128], bytes[64];
    snprintf(job, sizeof job,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"j\"},"
        "\"spec\":{\"replicas\":%d,\"device\":{\"resource\":\"nvidia.com/gpu\",\"perReplica\":8},"
        "\"storage\":[{\"name\":\"d\",\"claimName\":\"d\",\"mountPath\":\"%s\"}],"
        "\"model\":{\"source\":\"%s/m\",\"init\":\"Random\"},\"precision\":\"BF16\","
        "\"parallelism\":{%s},\"checkpoint\":{\"path\":\"%s/c\"},"
        "\"train\":{\"data\":{\"train\":\"%s/t.txt\"},\"steps\":9,\"batchSequences\":512,"
        "\"sequenceLength\":4096,\"output\":\"%s/o\"%s}}}",
        pods, folder, folder, parallelism, folder, folder, folder, more);
    snprintf(path, sizeof path, "%s/job.json", folder);
    golden_write(path, job, strlen(job));
    snprintf(bytes, sizeof bytes, "--memory-bytes=%s", memory);
    char *argv[] = {(char *)"plan", bytes, (char *)"--best=3", path, NULL};
    FILE *out = fmemopen(said, sizeof said, "w");
    ck_assert_ptr_nonnull(out);
    int rc = preview_run(3, argv + 1, out, &e);
    fclose(out);
    return rc;
}

static void says(const char *what)
{
    ck_assert_msg(strstr(said, what) != NULL, "no \"%s\" in:\n%s", what, said);
}

#define GPU "85899345920"

START_TEST(a_large_model_is_laid_out)
{
    ck_assert_msg(!ask(8, GPU, "", ""), "%s", e.text);
    says("llama of 80 layers, 8192 channels, 128256 tokens of vocabulary; 64 ranks in pods of 8, "
         "each of 80.0 GiB");
    says("recompute None");
    says("\n* dp");
    says("* what the job gets: the fastest that fits");
    says("\n  dp64 zero1             this rank needs ");
    says("that do not fit:");
    says("  and ");
}
END_TEST

START_TEST(what_is_told_stands_first)
{
    ck_assert_msg(!ask(8, GPU, "\"tensor\":8,\"pipeline\":8", ""), "%s", e.text);
    says("\n* dp1 x tp8 x pp8 ");
    says("* what the job gets: it fits with nothing chosen for it");
    says("  a rank's part of a checkpoint, up to 13744 MiB, is copied to the pod's memory");
    ck_assert_msg(
        !ask(2, "900000000000", "", ",\"optimizer\":{\"name\":\"Adafactor\"}"), "%s", e.text);
    says("\n* dp16 ");
    ck_assert_ptr_null(strstr(said, "tp2"));
    ck_assert_msg(
        !ask(2, "2000000000000", "", ",\"communication\":{\"gradients\":\"Int8\"}"), "%s", e.text);
    says("\n* dp16 ");
    ck_assert_ptr_null(strstr(said, "tp2"));
}
END_TEST

START_TEST(nothing_may_fit)
{
    ck_assert_int_eq(ask(1, GPU, "", ""), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, "the least of 18 layouts, takes") != NULL, "%s", e.text);
    says("\n18 that do not fit:");
    says("* what the job gets: nothing fits");
    ck_assert_int_eq(ask(8, GPU, "\"data\":3", ""), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.parallelism.data: 3") != NULL, "%s", e.text);
    ck_assert_int_eq(ask(100, GPU, "", ""), -ERR_USER);
    ck_assert_msg(
        strstr(e.text, "spec.train.batchSequences: must be at least") != NULL, "%s", e.text);
    ck_assert_int_eq(ask(8, GPU, "", ",\"objective\":\"MaskedLM\""), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.train.objective: MaskedLM needs a") != NULL, "%s", e.text);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"preview", 30, setup, teardown},
        (const TTest *const[]){
            a_large_model_is_laid_out, what_is_told_stands_first, nothing_may_fit, NULL});
}
