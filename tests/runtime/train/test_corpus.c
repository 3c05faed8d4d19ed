/*
 * Goal: a corpus is tokenised once for all ranks and all attempts, in memory that does not grow
 * with it. Method: real ranks on the tiny Llama; a last rank that has no corpus of its own; a
 * second attempt on the same file of tokens, told by its inode; a corpus whose ids alone are more
 * memory than a rank is let have.
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/data/tokens.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

#define STEPS 4

static struct err e;

static struct jobspec short_job(const char *run)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 0;
    s.train.evaluate_every_steps = 0;
    return s;
}

/* The one file of tokens of a run. */
static ino_t tokens_of(const struct jobspec *s, char out[700])
{
    char folder[300];
    struct stat st = {.st_ino = 0};
    int count = 0;
    snprintf(folder, sizeof folder, "%s/tokens", s->checkpoint.path);
    DIR *d = opendir(folder);
    ck_assert_msg(d != NULL, "%s", folder);
    for (struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] == '.' || !strstr(f->d_name, ".tokens"))
            continue;
        snprintf(out, 700, "%s/%s", folder, f->d_name);
        count++;
    }
    closedir(d);
    ck_assert_int_eq(count, 1);
    ck_assert(!stat(out, &st));
    return st.st_ino;
}

static void all_end(const struct outcome *o, int size, enum exit_class class)
{
    for (int i = 0; i < size; i++)
        ck_assert_msg(o->exit[i] == class, "rank %d: class %d, %s", i, o->exit[i], o->message);
}

START_TEST(one_rank_reads_the_corpus_for_all)
{
    struct jobspec s = short_job("once"), last = s;
    char file[700], folder[300], mine[400];
    struct tokens_writer *w = NULL;
    last.train.data.train = "/nowhere/corpus.txt";
    snprintf(folder, sizeof folder, "%s/tokens", s.checkpoint.path);
    ck_assert(!tokens_create(folder, 17, &w, &e) && !tokens_commit(w, 0, &e));
    snprintf(mine, sizeof mine, "%s/notes.tokens", folder);
    golden_write(mine, "mine", 4);
    struct outcome o =
        training_run(&(struct training){.spec = &s, .last = &last, .size = 3, .incarnation = 1});
    all_end(&o, 3, EXIT_CLASS_DONE);
    ck_assert(io_exists(mine) && !io_remove(mine, &e)); /* what was not ours */
    ino_t first = tokens_of(&s, file);                  /* and an old file of tokens is gone */
    last.train.data.train = s.train.data.train;
    s.train.output = last.train.output = training_path("again");
    o = training_run(&(struct training){.spec = &last, .size = 2, .incarnation = 2});
    all_end(&o, 2, EXIT_CLASS_DONE);
    ck_assert_uint_eq(tokens_of(&s, file), first);
    /* damaged, it is made anew, and the checkpoint is of the same training */
    golden_write(file, "short", 5);
    o = training_run(&(struct training){.spec = &last, .size = 2, .incarnation = 3});
    all_end(&o, 2, EXIT_CLASS_DONE);
    ck_assert_int_gt(io_file_size(file, &e), 5);
}
END_TEST

START_TEST(what_is_wrong_with_it_all_return)
{
    struct jobspec s = short_job("wrong");
    s.train.data.train = training_path("latin.txt");
    golden_write(s.train.data.train, "fine\ncaf\xe9 au lait and more of it\n", 32);
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 3, .incarnation = 1});
    all_end(&o, 3, EXIT_CLASS_DATA);
    ck_assert_msg(strstr(o.message, "latin.txt: line 2: invalid UTF-8"), "%s", o.message);
}
END_TEST

/* -- packing -- */

/* Completions of seven and of eight inputs, so that two are a sequence of fifteen; each begins as
   the others do, and says something else, which what stood before would give away. */
static void write_completions(const char *path, int count)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++)
        buf_printf(&b, "{\"prompt\": \"say\", \"completion\": \"%.*s%d%d\"}\n", 2 + i % 2,
            (const char *[]){"good", "days", "wate", "nigh"}[i / 2 % 4], i % 7, i % 5);
    golden_write(path, b.data, b.len);
}

static struct outcome pack(struct jobspec s, bool packing, int batch)
{
    s.checkpoint.path = training_path(packing ? "packed" : "apart");
    s.train.output = training_path(packing ? "packed-out" : "apart-out");
    s.train.data.packing = packing;
    s.train.batch_sequences = batch;
    return training_run_whole(&s, 2);
}

/* All documents are in each step, so the samples' order does not count. */
START_TEST(packed_documents_are_learnt_as_if_alone)
{
    struct jobspec s = short_job("any");
    s.train.data.format = FORMAT_JSONL;
    s.train.data.train = training_path("train.jsonl");
    s.train.data.validation = training_path("held.jsonl");
    s.train.steps = 12;
    write_completions(s.train.data.train, 16);
    write_completions(s.train.data.validation, 14);
    struct outcome apart = pack(s, false, 16), packed = pack(s, true, 8);
    for (int i = 1; i <= 12; i++)
        ck_assert_msg(fabs(packed.loss[i] / apart.loss[i] - 1) < 1e-5, "step %d: %.9g, %.9g", i,
            packed.loss[i], apart.loss[i]);
    ck_assert_double_lt(fabs(packed.first_validation / apart.first_validation - 1), 1e-5);
    ck_assert_double_lt(fabs(packed.validation / apart.validation - 1), 1e-4);
    ck_assert_double_lt(packed.loss[12], packed.loss[1]);
}
END_TEST

#define CORPUS_BYTES ((size_t)48 << 20)
#define RANK_BYTES   (CORPUS_BYTES * 5 / 2) /* its ids have four bytes each */

static void write_large(const char *path)
{
    mem_autofree char *text = mem_alloc(CORPUS_BYTES);
    ck_assert_ptr_nonnull(text);
    uint32_t x = 1;
    for (size_t i = 0; i < CORPUS_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        text[i] = "the light was\n good and day night"[x >> 27];
    }
    golden_write(path, text, CORPUS_BYTES);
}

START_TEST(memory_does_not_grow_with_the_corpus)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return; /* its own memory has no such bound */
#endif
    struct jobspec s = short_job("large");
    s.train.data.train = training_path("large.txt");
    write_large(s.train.data.train);
    struct outcome o = training_run(&(struct training){
        .spec = &s, .size = 2, .incarnation = 1, .data_bytes = (int64_t)RANK_BYTES});
    all_end(&o, 2, EXIT_CLASS_DONE);
    char file[700];
    tokens_of(&s, file);
    ck_assert_int_gt(io_file_size(file, &e), (int64_t)RANK_BYTES);
}
END_TEST

int main(void)
{
    static const struct unit u = {"corpus", 120, training_setup, training_teardown};
    return unit_run_with(&u,
        (const TTest *const[]){one_rank_reads_the_corpus_for_all, what_is_wrong_with_it_all_return,
            packed_documents_are_learnt_as_if_alone, memory_does_not_grow_with_the_corpus, NULL});
}
