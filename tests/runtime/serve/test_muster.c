/*
 * Goal: `llmjob plan` of several models as one says what a rank that serves them plans for, of each
 * member and in sum, as many ranks as there are, and ends as a job out of memory where that does
 * not fit. Method: job files of the models of ensembles.h, and of copies of a tiny BERT; what was
 * printed, and what an ensemble or readers that are opened as they are served say.
 */
#include "runtime/serve/muster.h"

#include "runtime/model/memplan.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/readers.h"
#include "runtime/serve/retrieve.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOTS (1LL << 40)

static char folder[64], said[4096];
static struct err e;

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

/* What is served of `of`'s members, as agents get it. */
static struct jobspec job(const struct jobspec *of)
{
    struct jobspec s = agent_job(TASK_SERVE, "cpu", folder);
    s.model.source = of->model.source;
    s.precision = PRECISION_FP32;
    s.serve.model_name = "m";
    s.serve.max_sequences = 3;
    s.serve.max_queue = 1;
    s.serve.ensemble.average = of->serve.ensemble.average;
    s.serve.ensemble.member_count = of->serve.ensemble.member_count;
    memcpy(s.serve.ensemble.members, of->serve.ensemble.members, sizeof s.serve.ensemble.members);
    s.storage[0] = (struct jobspec_storage){.name = "d", .claim = "c", .mount_path = folder};
    s.storage_count = 1;
    s.replicas = s.device.per_replica = 1;
    return s;
}

static int ask(const struct jobspec *s, int64_t memory)
{
    char path[128], bytes[64];
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    ck_assert_msg(!jobspec_encode(s, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/job.json", folder);
    golden_write(path, b.data, b.len);
    snprintf(bytes, sizeof bytes, "--memory-bytes=%lld", (long long)memory);
    char *argv[] = {(char *)"muster", bytes, path, NULL};
    FILE *out = fmemopen(said, sizeof said, "w");
    ck_assert_ptr_nonnull(out);
    int rc = muster_run(2, argv + 1, out, &e);
    fclose(out);
    return rc;
}

static void says(const char *what)
{
    ck_assert_msg(strstr(said, what) != NULL, "no \"%s\" in:\n%s", what, said);
}

static void rank_takes(int rank, int64_t bytes)
{
    char line[64];
    snprintf(line, sizeof line, "\n  %4d %9.1f = ", rank, (double)bytes / (1 << 20));
    says(line);
}

/* As infer opens them. */
static void open_ensemble(const struct jobspec *s, struct ensemble_facts *f, int64_t *each)
{
    struct weights *w;
    struct tok *tok;
    struct ensemble *all;
    const char *name;
    ck_assert(!weights_open(s->model.source, NULL, &w, &e) && !tok_open(w, &tok, &e));
    const struct ensemble_conf c = {
        .spec = s, .weights = w, .tok = tok, .parts = (int)batcher_parts(3, false)};
    ck_assert_msg(!ensemble_open(&c, &all, &e), "%s", e.text);
    ensemble_tell(all, f);
    for (int i = 0; i < f->count; i++)
        each[i] = ensemble_member(all, i, &name);
    f->bytes += memplan_programs(weights_config(w)->vocab);
    ensemble_destroy(all);
    tok_close(tok);
    weights_close(w);
}

START_TEST(it_says_what_members_take)
{
    struct jobspec of = ensembles_job(folder, AVERAGE_LOGITS), s;
    struct ensemble_facts f;
    int64_t each[LIMIT_MEMBERS];
    ensembles_write(folder);
    s = job(&of);
    open_ensemble(&s, &f, each);
    ck_assert_msg(!ask(&s, f.bytes), "%s", e.text);
    says("4 of 4 members; 1 ranks in pods of 1, each of ");
    says(" = small ");
    says(", tuned ");
    rank_takes(0, f.bytes);
    ck_assert(!strstr(said, "does not fit"));
    ck_assert_int_eq(ask(&s, f.bytes - 1), -ERR_MEMORY);
    says("  does not fit\n");
    ck_assert_msg(strstr(e.text, "a rank needs "), "%s", e.text);
    s.serve.ensemble.ranks = s.device.per_replica = 2;
    ck_assert_msg(!ask(&s, f.bytes), "%s", e.text);
    rank_takes(0, f.bytes - each[1] - each[3]);
    rank_takes(1, f.bytes - each[0] - each[2] - f.logit_bytes / 2);
    says(" = plain ");
    s.serve.ensemble.members[2].source = "/nowhere";
    s.storage[1] = (struct jobspec_storage){.name = "n", .claim = "n", .mount_path = "/nowhere"};
    s.storage_count = 2;
    ck_assert_int_eq(ask(&s, LOTS), -ERR_USER);
    ck_assert_msg(strstr(e.text, "members: noisy: there is no /nowhere"), "%s", e.text);
    s.serve.ensemble.allow_missing = true;
    ck_assert_msg(!ask(&s, LOTS), "%s", e.text);
    says("3 of 4 members; 2 ranks");
}
END_TEST

START_TEST(documents_stand_beside_them)
{
    struct jobspec of = ensembles_job(folder, AVERAGE_LOGITS), s;
    struct ensemble_facts f;
    int64_t each[LIMIT_MEMBERS], documents;
    char line[64], data[80], encoder[80], root[PATH_MAX];
    ensembles_write(folder);
    s = job(&of);
    open_ensemble(&s, &f, each);
    snprintf(data, sizeof data, "%s/data", folder);
    snprintf(encoder, sizeof encoder, "%s/encoder", folder);
    ck_assert(realpath(GOLDEN "tiny-bert-masked", root) && !symlink(root, encoder));
    s.serve.retrieval = (struct jobspec_retrieval){.documents = data,
        .encoder.source = encoder,
        .chunk_tokens = 32,
        .max_chunks = 5000,
        .results = 3,
        .not_found = "no",
        .scan_seconds = 5};
    ck_assert_msg(!retrieve_plan(&s, true, &documents, &e), "%s", e.text);
    ck_assert_int_gt(documents, 1 << 20);
    ck_assert_msg(!ask(&s, f.bytes + documents), "%s", e.text);
    rank_takes(0, f.bytes + documents);
    snprintf(line, sizeof line, ", documents %.1f\n", (double)documents / (1 << 20));
    says(line);
    ck_assert_int_eq(ask(&s, f.bytes + documents - 1), -ERR_MEMORY);
    says(" does not fit");
}
END_TEST

START_TEST(of_models_that_label_too)
{
    struct jobspec of = {.serve.ensemble.member_count = 2}, s;
    char first[96], second[96];
    struct weights *w;
    struct readers *r;
    struct readers_facts f;
    snprintf(first, sizeof first, "%s/first", folder);
    snprintf(second, sizeof second, "%s/second", folder);
    ensembles_copy(GOLDEN "tiny-bert-texts", first, 0, 1, DTYPE_F32);
    ensembles_copy(GOLDEN "tiny-bert-texts", second, 0, 1, DTYPE_F16);
    of.model.source = first;
    of.serve.ensemble.members[0].name = "first";
    of.serve.ensemble.members[1] = (struct jobspec_member){.name = "second", .source = second};
    s = job(&of);
    ck_assert_msg(!weights_open(first, NULL, &w, &e), "%s", e.text);
    const struct readers_conf c = {
        .spec = &s, .job = {.weights = w, .t = DTYPE_F32, .budget_bytes = LOTS}};
    ck_assert_msg(!readers_open(&c, &r, &e), "%s", e.text);
    readers_tell(r, &f);
    f.bytes += memplan_programs(weights_config(w)->vocab);
    ck_assert_msg(!ask(&s, f.bytes), "%s", e.text);
    says("2 of 2 members; 1 ranks");
    says("\n48 tokens at once\n");
    rank_takes(0, f.bytes);
    ck_assert_int_eq(ask(&s, f.bytes - 1), -ERR_MEMORY);
    readers_close(r);
    weights_close(w);
}
END_TEST

START_TEST(what_is_no_job_is_refused)
{
    char *argv[] = {(char *)"muster", (char *)"--memory-bytes=1", NULL};
    ck_assert_int_eq(muster_run(1, argv + 1, stdout, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "--memory-bytes N and a job.json are expected");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"muster", 60, setup, teardown},
        (const TTest *const[]){it_says_what_members_take, documents_stand_beside_them,
            of_models_that_label_too, what_is_no_job_is_refused, NULL});
}
