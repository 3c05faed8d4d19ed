/*
 * ensembles: the GGUF file names two of its tokens <s> and </s>; so do the folders' tokenizers.
 */
#include "tests/runtime/ensembles.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/random.h"
#include "runtime/family/weights.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/peft.h"

#include <check.h>
#include <string.h>

#define PATH_BYTES 1200

static struct err e;

static void put(struct buf *b, const char *from, const char *to)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    char *at = strstr(buf_cstr(b), from);
    ck_assert_ptr_nonnull(at);
    buf_add(&out, b->data, (size_t)(at - b->data));
    buf_str(&out, to);
    buf_str(&out, at + strlen(from));
    buf_reset(b);
    buf_add(b, out.data, out.len);
}

static void name_ends(const char *path)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    ck_assert_msg(!io_read_file(path, 1 << 20, &b, &e), "%s", e.text);
    put(&b, "\"\xc4\x81\":1,", "\"<s>\":1,");
    put(&b, "\"\xc4\x82\":2,", "\"</s>\":2,");
    golden_write(path, b.data, b.len);
}

static void copy_file(const char *from, const char *to, const char *name)
{
    char path[PATH_BYTES];
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    snprintf(path, sizeof path, "%s/%s", from, name);
    if (!io_exists(path))
        return;
    ck_assert_msg(!io_read_file(path, 1 << 20, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/%s", to, name);
    golden_write(path, b.data, b.len);
}

void ensembles_copy(const char *from, const char *to, double noise, uint64_t seed, enum dtype store)
{
    struct weights *w;
    struct hf_writer *out;
    ck_assert_msg(!weights_open(from, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(
        !hf_writer_create(to, weights_config(w), weights_labels(w), &out, &e), "%s", e.text);
    for (int i = 0; i < weights_count(w); i++) {
        const struct weights_tensor *t = weights_at(w, i);
        int64_t columns = t->dims > 1 ? t->shape[1] : 1, n = t->shape[0] * columns;
        mem_autofree float *x = mem_array((size_t)n, sizeof *x);
        ck_assert_ptr_nonnull(x);
        ck_assert_msg(
            !weights_read(w, t->name, t->shape[0], columns, 0, t->shape[0], DTYPE_F32, x, &e), "%s",
            e.text);
        for (int64_t k = 0; k < n; k++)
            x[k] *= (float)(1 + noise * ((double)(random_next(&seed) >> 11) * 0x1p-52 - 1));
        ck_assert_msg(
            !hf_writer_tensor(out, t->name, t->dims, t->shape, x, store, &e), "%s", e.text);
    }
    ck_assert_msg(!hf_writer_finish(out, &e), "%s", e.text);
    hf_writer_destroy(out);
    weights_close(w);
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt"};
    for (int i = 0; i < 3; i++)
        copy_file(from, to, files[i]);
}

void ensembles_write(const char *folder)
{
    char path[PATH_BYTES], to[PATH_BYTES];
    buf_auto struct buf gguf;
    struct weights *w;
    bytes_model(folder);
    snprintf(path, sizeof path, "%s/model/tokenizer.json", folder);
    name_ends(path);
    snprintf(path, sizeof path, "%s/model", folder);
    snprintf(to, sizeof to, "%s/noisy", folder);
    ensembles_copy(path, to, 0.2, 7, DTYPE_BF16);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    snprintf(to, sizeof to, "%s/adapter", folder);
    peft_write(&(struct peft){
        .folder = to, .config = weights_config(w), .rank = 3, .seed = 5, .type = DTYPE_F32});
    weights_close(w);
    buf_init(&gguf, 16 << 20);
    gguf_make_tiny(&gguf);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    golden_write(path, gguf.data, gguf.len);
}

struct jobspec ensembles_job(const char *folder, enum average average)
{
    static const char *const names[] = {"small", "plain", "noisy", "tuned"};
    static const char *const files[] = {"model.gguf", "model", "noisy", "model", "adapter"};
    static char paths[5][PATH_BYTES];
    struct jobspec s = {.task = TASK_SERVE, .precision = PRECISION_FP32};
    for (int i = 0; i < 5; i++)
        snprintf(paths[i], PATH_BYTES, "%s/%s", folder, files[i]);
    s.model.source = paths[0];
    s.serve.ensemble.average = average;
    s.serve.ensemble.member_count = ENSEMBLES_MEMBERS;
    for (int i = 0; i < ENSEMBLES_MEMBERS; i++)
        s.serve.ensemble.members[i] = (struct jobspec_member){
            .name = names[i], .source = i ? paths[i] : NULL, .adapter = i == 3 ? paths[4] : NULL};
    return s;
}

const char *ensembles_source(const struct jobspec *s, int i)
{
    const char *own = s->serve.ensemble.members[i].source;
    return own ? own : s->model.source;
}
