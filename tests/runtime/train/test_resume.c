/*
 * Goal: a checkpoint goes on only as the training that wrote it, and nothing is lost on the way
 * there: what differs is named and the folder left as it was; ranks that read different files find
 * it before they train; a generation that one rank cannot read, or that is damaged in any file, is
 * passed over by all and kept, and where all are damaged the file is named; checkpoints
 * of version 0.1.0 resume; the state of every optimizer comes back, with another world too. Method:
 * whole trainings of eight steps on real ranks, run again with one thing changed; the last rank
 * given other files than the others.
 * needs: sample
 */
#include "runtime/train/resume.h"

#include "base/buf.h"
#include "base/io.h"
#include "runtime/files/hash.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <dirent.h>
#include <math.h>
#include <unistd.h>

#define STEPS 8

static struct err e;

static struct jobspec short_job(const char *run)
{
    struct jobspec s = training_job(run);

    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    s.checkpoint.every_steps = STEPS / 2;
    return s;
}

static struct outcome run(const struct jobspec *spec, int size, int incarnation)
{
    return training_run(&(struct training){.spec = spec, .size = size, .incarnation = incarnation});
}

static void read_text(const char *path, struct buf *out)
{
    buf_init(out, 1 << 24);
    ck_assert_msg(!io_read_file(path, 1 << 24, out, &e), "%s", e.text);
}

/* -- another training -- */

/* Names and contents of a folder of folders. */
static uint64_t folder_hash(const char *path)
{
    uint64_t sum = 0;
    DIR *d = opendir(path);

    ck_assert_msg(d != NULL, "%s", path);
    for (struct dirent *f; (f = readdir(d));) {
        char inner[600];

        /* A corpus is tokenised before anyone can say whose it is. */
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..") || !strcmp(f->d_name, "tokens"))
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, f->d_name);
        sum += hash_xxh3(inner, strlen(inner));
        if (f->d_type == DT_DIR) {
            sum += folder_hash(inner);
        } else {
            buf_auto struct buf text;

            read_text(inner, &text);
            sum += hash_xxh3(buf_cstr(&text), text.len) * 3;
        }
    }
    closedir(d);
    return sum;
}

static void refused_as(const struct jobspec *s, enum exit_class class, const char *says)
{
    uint64_t before = folder_hash(s->checkpoint.path);
    struct outcome o = run(s, 2, 2);

    for (int i = 0; i < 2; i++)
        ck_assert_msg(
            o.exit[i] == class, "%s: rank %d: class %d, %s", says, i, o.exit[i], o.message);
    ck_assert_msg(strstr(o.message, says) != NULL, "%s: %s", says, o.message);
    ck_assert_msg(folder_hash(s->checkpoint.path) == before, "%s: the folder was touched", says);
}

static void refused(const struct jobspec *s, const char *says)
{
    refused_as(s, EXIT_CLASS_USER, says);
}

/* The same length, other places: what a count of tokens does not see. */
static void shuffle_corpus(const char *path)
{
    buf_auto struct buf text;

    read_text(training_path("corpus.txt"), &text);
    for (size_t i = 0; i < text.len / 4; i++) {
        char c = text.data[i];

        text.data[i] = text.data[text.len - 1 - i];
        text.data[text.len - 1 - i] = c;
    }
    golden_write(path, text.data, text.len);
}

/* A second model of the same shapes and tokenizer. */
static void other_model(const char *folder)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};

    ck_assert(!io_mkdirs(folder, 0755, &e));
    for (int i = 0; i < 3; i++) {
        buf_auto struct buf text;
        char from[256], to[300];

        snprintf(from, sizeof from, "%s/model/%s", training_folder, files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        read_text(from, &text);
        if (i == 2)
            text.data[text.len - 1000] ^= 1;
        golden_write(to, text.data, text.len);
    }
}

START_TEST(another_training_is_refused_by_name)
{
    struct jobspec s = short_job("first"), was;
    char data[256], model[256];

    snprintf(data, sizeof data, "%s/shuffled.txt", training_folder);
    snprintf(model, sizeof model, "%s/other-model", training_folder);
    shuffle_corpus(data);
    other_model(model);
    training_run_whole(&s, 2);
    was = s;
    s.train.optimizer.learning_rate = 4e-3;
    refused(&s, "spec.train.optimizer.learningRate: 0.002 in the checkpoint, 0.004 now");
    s = was;
    s.train.optimizer.beta2 = 0.9;
    s.train.optimizer.warmup_steps = 3;
    refused(&s, "warmupSteps: 2 in the checkpoint, 3 now, and 1 more");
    s = was;
    s.train.data.train = data;
    refused(&s, "spec.train.data.train: content ");
    s = was;
    s.model.source = model;
    refused(&s, "spec.model.source: content ");
    s = was;
    s.train.steps = STEPS + 4; /* the rate falls towards the last step */
    refused(&s, "spec.train.steps: 8 in the checkpoint, 12 now");
}
END_TEST

START_TEST(a_constant_rate_may_go_on_longer)
{
    struct jobspec s = short_job("short"), whole = short_job("whole");
    struct outcome o;

    s.train.optimizer.schedule = whole.train.optimizer.schedule = SCHEDULE_CONSTANT;
    training_run_whole(&s, 1);
    s.train.steps = whole.train.steps = STEPS + 4;
    s.train.output = training_path("elsewhere");
    s.train.tensorboard = training_path("board");
    s.train.recompute = RECOMPUTE_FULL;
    o = run(&s, 1, 2);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.first == STEPS + 1 && o.last == STEPS + 4);
    training_run_whole(&whole, 1);
    training_same_checkpoints("short", "whole");
    s = short_job("short"); /* but what was done is not undone */
    s.train.optimizer.schedule = SCHEDULE_CONSTANT;
    refused(&s, "spec.train.steps: 8, but the checkpoint is at step 12 already");
}
END_TEST

/* -- every optimizer's state -- */

static struct jobspec job_of(enum optimizer_name name, const char *run)
{
    static const double momentum[] = {-1, 0.9, -1, -1, 0.95};
    struct jobspec s = short_job(run);

    s.train.optimizer.name = name;
    s.train.optimizer.momentum = momentum[name];
    s.checkpoint.every_steps = 0;
    return s;
}

/* Two ranks that are stopped, and `second` that go on to the end. */
static struct outcome cut_and_resumed(const struct jobspec *s, int second)
{
    struct outcome a =
        training_run(&(struct training){.spec = s, .size = 2, .incarnation = 1, .stop_after = 2});
    ck_assert_msg(a.drained && a.last < STEPS - 2, "%d: %s", a.last, a.message);
    struct outcome b = run(s, second, 2);

    ck_assert_msg(b.done && b.first == a.last + 1 && b.last == STEPS, "%s", b.message);
    for (int k = 1; k <= a.last; k++)
        b.loss[k] = a.loss[k];
    return b;
}

START_TEST(every_optimizer_goes_on)
{
    for (enum optimizer_name name = OPTIMIZER_SGD; name <= OPTIMIZER_MUON; name++) {
        struct jobspec straight = job_of(name, "straight"), same = job_of(name, "same");
        struct jobspec other = job_of(name, "other");
        struct outcome want = training_run_whole(&straight, 2), got = cut_and_resumed(&same, 2);

        for (int k = 1; k <= STEPS; k++)
            ck_assert_msg(want.loss[k] == got.loss[k], "optimizer %d, step %d: %.9g, resumed %.9g",
                name, k, want.loss[k], got.loss[k]);
        got = cut_and_resumed(&other, 3);
        for (int k = 1; k <= STEPS; k++)
            ck_assert_msg(fabs(want.loss[k] / got.loss[k] - 1) < 1e-5,
                "optimizer %d, step %d: %.9g, with three ranks %.9g", name, k, want.loss[k],
                got.loss[k]);
        ck_assert_double_lt(want.validation, want.first_validation);
        straight.train.optimizer.name = OPTIMIZER_ADAMW;
        straight.train.optimizer.momentum = -1;
        refused(&straight, "spec.train.optimizer.name: ");
        training_teardown();
        training_setup();
    }
}
END_TEST

/* -- what others wrote -- */

/* All ranks end with the file's name and for good: to start again would meet it again. */
START_TEST(an_absurd_claim_ends_in_a_verdict)
{
    struct jobspec s = short_job("claimed");
    char path[256];

    training_run_whole(&s, 2);
    snprintf(path, sizeof path, "%s/claimed/incarnation", training_folder);
    golden_write(path, "9223372036854775807\n", 20);
    refused_as(&s, EXIT_CLASS_DATA, path);
    golden_write(path, "9007199254740993\n", 17);
    refused_as(&s, EXIT_CLASS_DATA, path);
    golden_write(path, "", 0);
    refused_as(&s, EXIT_CLASS_DATA, path);
}
END_TEST

static void manifest_path(const char *run, int step, char out[256])
{
    snprintf(out, 256, "%s/%s/step-%08d/manifest.json", training_folder, run, step);
}

/* Puts `text` in the place of what stands between two marks of a manifest, and hashes it anew. */
static void edit_manifest(const char *path, const char *from, const char *to, const char *text)
{
    buf_auto struct buf old, b;
    char hash[HASH_XXH3_HEX];

    read_text(path, &old);
    char *at = strstr(buf_cstr(&old), from), *end = at ? strstr(at, to) : NULL;

    ck_assert_msg(end != NULL, "%s: no %s", path, from);
    buf_init(&b, 1 << 20);
    buf_add(&b, old.data, (size_t)(at - old.data));
    buf_str(&b, text);
    buf_str(&b, end);
    memcpy(b.data + 9, "0000000000000000", 16);
    hash_xxh3_hex(b.data, b.len, hash);
    memcpy(b.data + 9, hash, 16);
    golden_write(path, b.data, b.len);
}

/* As version 0.1.0 wrote it for this very job: its specHash stands here as that program made it. */
static void make_version_1(const char *run)
{
    char path[256];

    manifest_path(run, STEPS, path);
    edit_manifest(path, "\"version\":", ",\"step\"", "\"version\":1");
    edit_manifest(path, "\"identity\":", ",\"files\"",
        "\"specHash\":"
        "\"2cac1459334bc5b8e7789a3e29496006da40e6a8df8c809ad081524929a7439f\"");
    manifest_path(run, STEPS / 2, path);
    ck_assert(!unlink(path));
}

START_TEST(checkpoints_of_version_1_resume)
{
    struct jobspec s = short_job("v1");
    struct outcome o;
    char path[256];
    buf_auto struct buf text;

    training_lora(&s);
    s.train.lora.dropout = 0.25;
    training_run_whole(&s, 2);
    make_version_1("v1");
    s.train.seed++;
    refused(&s, "another training");
    s.train.seed--;
    o = run(&s, 2, 3);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE && o.exit[1] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.done && !o.first);
    manifest_path("v1", STEPS, path); /* one that nobody knows yet is no damage */
    edit_manifest(path, "\"version\":", ",\"step\"", "\"version\":4");
    read_text(path, &text);
    refused(&s, "a newer llmjob wrote it");
}
END_TEST

/* -- ranks that see different things -- */

START_TEST(ranks_that_read_different_files_find_it)
{
    struct jobspec s = short_job("agree"), last = s;
    char model[256], claim[256];
    struct outcome o;

    snprintf(model, sizeof model, "%s/unlike", training_folder);
    other_model(model);
    last.model.source = model;
    o = training_run(&(struct training){.spec = &s, .last = &last, .size = 3, .incarnation = 1});
    for (int i = 0; i < 3; i++)
        ck_assert_msg(
            o.exit[i] == EXIT_CLASS_DATA, "rank %d: class %d, %s", i, o.exit[i], o.message);
    ck_assert_msg(
        strstr(o.message, "spec.model.source: rank 2 reads another than rank 0"), "%s", o.message);
    snprintf(claim, sizeof claim, "%s/incarnation", s.checkpoint.path);
    ck_assert(!io_exists(claim)); /* nobody has claimed the folder */
}
END_TEST

/* Copies the checkpoint folder of a run for the last rank, up to `steps`. */
static void copy_run(const char *from, const char *to, int steps)
{
    for (int step = STEPS / 2; step <= steps; step += STEPS / 2) {
        char in[300], out[300];
        DIR *d;

        snprintf(in, sizeof in, "%s/%s/step-%08d", training_folder, from, step);
        snprintf(out, sizeof out, "%s/%s/step-%08d", training_folder, to, step);
        ck_assert(!io_mkdirs(out, 0755, &e));
        d = opendir(in);
        ck_assert_ptr_nonnull(d);
        for (struct dirent *f; (f = readdir(d));) {
            char a[600], b[600];

            if (f->d_name[0] == '.')
                continue;
            buf_auto struct buf text;
            snprintf(a, sizeof a, "%s/%s", in, f->d_name);
            snprintf(b, sizeof b, "%s/%s", out, f->d_name);
            read_text(a, &text);
            golden_write(b, text.data, text.len);
        }
        closedir(d);
    }
}

START_TEST(all_go_back_to_what_all_can_read)
{
    struct jobspec s = short_job("main"), last;
    char path[256];
    struct outcome o;

    training_run_whole(&s, 2);
    last = s;
    copy_run("main", "view", STEPS);
    last.checkpoint.path = training_path("view");
    manifest_path("view", STEPS, path);
    ck_assert(!truncate(path, 100));
    o = training_run(&(struct training){.spec = &s, .last = &last, .size = 2, .incarnation = 2});
    ck_assert_msg(o.first == STEPS / 2 + 1 && o.last == STEPS, "steps %d to %d: %s", o.first,
        o.last, o.message);
    /* a rank that sees no checkpoint at all must not make the others forget theirs */
    last.checkpoint.path = training_path("nowhere");
    o = training_run(&(struct training){.spec = &s, .last = &last, .size = 2, .incarnation = 3});
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(o.exit[i], EXIT_CLASS_CORRUPT);
    ck_assert_msg(strstr(o.message, "a rank sees no checkpoint") != NULL, "%s", o.message);
    ck_assert_int_eq(o.first, 0);
}
END_TEST

/* -- damage -- */

enum damage { FLIPPED, CUT, GONE };

static bool is_safetensors(const char *name)
{
    size_t n = strlen(name);

    return n > 12 && !strcmp(name + n - 12, ".safetensors");
}

/* The file of a rank, or the manifest for -1. */
static void find_file(const char *run, int step, int rank, char out[700])
{
    char in[300], prefix[32] = "manifest.json";
    DIR *d;

    if (rank >= 0)
        snprintf(prefix, sizeof prefix, "rank-%05d", rank);
    snprintf(in, sizeof in, "%s/%s/step-%08d", training_folder, run, step);
    d = opendir(in);
    ck_assert_ptr_nonnull(d);
    *out = 0;
    for (struct dirent *f; (f = readdir(d));)
        if (!strncmp(f->d_name, prefix, strlen(prefix)))
            snprintf(out, 700, "%s/%s", in, f->d_name);
    closedir(d);
    ck_assert_msg(*out, "no %s in %s", prefix, in);
    ck_assert(rank < 0 || is_safetensors(out));
}

static void damage_file(const char *path, enum damage how)
{
    buf_auto struct buf text;

    read_text(path, &text);
    ck_assert(!unlink(path));
    if (how == FLIPPED) /* of a rank's file, in its tensors: they come last */
        text.data[text.len - 50] ^= 0x10;
    if (how != GONE)
        golden_write(path, text.data, how == CUT ? text.len / 2 : text.len);
}

START_TEST(damage_in_any_file_leads_to_the_one_before)
{
    static const struct {
        int rank;
        enum damage how;
    } cases[] = {{0, FLIPPED}, {1, FLIPPED}, {-1, FLIPPED}, {1, CUT}, {-1, CUT}, {0, GONE}};
    struct jobspec s = short_job("main");

    struct outcome whole = training_run_whole(&s, 2);
    int64_t kept = 0;
    ck_assert(!*whole.damaged && !whole.damaged_bytes);
    copy_run("main", "want", STEPS);
    for (int i = 0; i < 6; i++) {
        char path[700], aside[300], name[64];
        struct outcome o;

        find_file("main", STEPS, cases[i].rank, path);
        damage_file(path, cases[i].how);
        o = run(&s, 2, 2 + i);
        ck_assert_msg(o.done && o.first == STEPS / 2 + 1 && o.last == STEPS,
            "case %d: steps %d to %d: %s", i, o.first, o.last, o.message);
        snprintf(name, sizeof name, "step-%08d.damaged", STEPS);
        if (i)
            snprintf(name + strlen(name), 16, "-%d", i + 1);
        ck_assert_str_eq(o.damaged, name);
        ck_assert_int_gt(o.damaged_bytes, kept);
        kept = o.damaged_bytes;
        snprintf(aside, sizeof aside, "%s/main/%s", training_folder, name);
        ck_assert_msg(io_exists(aside), "case %d: no %s", i, aside);
        training_same_checkpoints("main", "want");
    }
}
END_TEST

START_TEST(with_all_damaged_the_file_is_named)
{
    struct jobspec s = short_job("main");
    char first[700], newest[700];

    training_run_whole(&s, 2);
    find_file("main", STEPS / 2, 1, first);
    find_file("main", STEPS, 0, newest);
    damage_file(first, FLIPPED);
    damage_file(newest, FLIPPED);
    struct outcome o = run(&s, 2, 2);

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(o.exit[i], EXIT_CLASS_CORRUPT);
    ck_assert_msg(strstr(o.message, newest) != NULL, "%s", o.message);
    ck_assert_msg(strstr(o.message, "none of the 2 checkpoints in ") != NULL, "%s", o.message);
    ck_assert(io_exists(newest) && io_exists(first)); /* for whoever can mend them */
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"resume", 120, training_setup, training_teardown},
        (const TTest *const[]){another_training_is_refused_by_name,
            a_constant_rate_may_go_on_longer, every_optimizer_goes_on,
            an_absurd_claim_ends_in_a_verdict, checkpoints_of_version_1_resume,
            ranks_that_read_different_files_find_it, all_go_back_to_what_all_can_read,
            damage_in_any_file_leads_to_the_one_before, with_all_damaged_the_file_is_named, NULL});
}
