/*
 * generation: names and sizes come from the headers of the ranks' files, elements from the reader
 * that trainings use.
 */
#include "tests/far.h"
#include "tests/runtime/generation.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/ckpt/folder.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/training.h"

#include <check.h>
#include <math.h>
#include <unistd.h>

#define TENSORS  1024
#define ELEMENTS (1 << 16) /* of a test's largest tensor */
/* What is so small beside the greatest of all tensors is rounding: the gradient of a bias of keys,
   which softmax does not see, is zero. */
#define NOISE    1e-4

struct stored {
    char name[SAFETENSORS_NAME_BYTES];
    int64_t total;
};

struct generation {
    char folder[LIMIT_PATH_BYTES];
    struct ckpt_manifest manifest;
    struct ckpt_reader *reader;
    struct ckpt_state state;
    struct stored at[TENSORS]; /* by the order in the files, F32 */
    int count;
};

static struct err e;

static void add_tensor(struct generation *g, const char *entry, const char *whole)
{
    char name[SAFETENSORS_NAME_BYTES], *end;
    snprintf(name, sizeof name, "%s", entry);
    *strrchr(name, '@') = 0;
    for (int i = 0; i < g->count; i++)
        if (!strcmp(g->at[i].name, name))
            return;
    ck_assert_int_lt(g->count, TENSORS);
    struct stored *t = &g->at[g->count++];
    memcpy(t->name, name, sizeof name);
    t->total = strtoll(whole, &end, 10);
    if (*end == 'x')
        t->total *= strtoll(end + 1, NULL, 10);
    ck_assert_msg(t->total > 0 && t->total <= ELEMENTS, "%s of %s", name, whole);
}

static void add_file(struct generation *g, const char *path)
{
    struct safetensors *s;
    ck_assert_msg(!safetensors_open(path, &s, &e), "%s", e.text);
    for (int i = 0; i < safetensors_count(s); i++) {
        const struct safetensors_tensor *t = safetensors_at(s, i);
        ck_assert_int_eq(t->type, DTYPE_F32);
        add_tensor(g, t->name, safetensors_metadata(s, t->name));
    }
    safetensors_close(s);
}

struct generation *generation_open(const char *run, int64_t step)
{
    char manifest[LIMIT_PATH_BYTES], path[LIMIT_PATH_BYTES];
    const char *at = training_path(run);
    struct generation *g = mem_zalloc(sizeof *g);
    ck_assert_ptr_nonnull(g);
    ck_assert(!ckpt_folder_step(at, step, g->folder, &e));
    ck_assert(!ckpt_folder_manifest(at, step, manifest, &e));
    ck_assert_msg(!ckpt_manifest_read(manifest, &g->manifest, &e), "%s", e.text);
    for (int i = 0; i < g->manifest.file_count; i++) {
        ck_assert(!ckpt_folder_path(path, &e, "%s/%s", g->folder, g->manifest.files[i].name));
        add_file(g, path);
    }
    ck_assert_msg(!ckpt_open_step(at, step, CKPT_HASHES, &g->reader, &g->state, &e), "%s", e.text);
    return g;
}

void generation_close(struct generation *g)
{
    ckpt_close(g->reader);
    ckpt_manifest_done(&g->manifest);
    mem_free(g);
}

double generation_loss(const struct generation *g)
{
    return g->state.loss;
}

static const float *read_tensor(struct generation *g, const struct stored *t, float *x)
{
    ck_assert_msg(
        !ckpt_get(g->reader, t->name, t->total, 0, t->total, DTYPE_F32, x, &e), "%s", e.text);
    return x;
}

static bool ends_so(const struct stored *t, const char *suffix)
{
    size_t n = strlen(t->name), end = strlen(suffix);
    return n >= end && !strcmp(t->name + n - end, suffix);
}

static double greatest(const float *x, int64_t n)
{
    double most = 0;
    for (int64_t k = 0; k < n; k++)
        most = fmax(most, fabs((double)x[k]));
    return most;
}

static double distance(const float *x, const float *y, int64_t n)
{
    double most = 0;
    for (int64_t k = 0; k < n; k++)
        most = farther(most, fabs((double)x[k] - (double)y[k]));
    return most;
}

void generation_near(struct generation *a, struct generation *b, const char *suffix, double far)
{
    static float x[ELEMENTS], y[ELEMENTS];
    int compared = 0;
    double all = 0;
    ck_assert_int_eq(a->count, b->count);
    for (int i = 0; i < b->count; i++)
        if (ends_so(&b->at[i], suffix))
            all = fmax(all, greatest(read_tensor(b, &b->at[i], y), b->at[i].total));
    for (int i = 0; i < b->count; i++) {
        const struct stored *t = &b->at[i];
        if (!ends_so(t, suffix))
            continue;
        read_tensor(a, t, x);
        read_tensor(b, t, y);
        double most = greatest(y, t->total), apart = distance(x, y, t->total);
        ck_assert_msg(
            far > 0 || !memcmp(x, y, (size_t)t->total * sizeof *x), "%s differs", t->name);
        ck_assert_msg(apart <= far * fmax(most, NOISE * all), "%s: %g apart of %g, of all %g",
            t->name, apart, most, all);
        compared++;
    }
    ck_assert_msg(compared > 0, "no tensor ends in \"%s\"", suffix);
}

static void link_file(const char *from, const char *to, const char *name)
{
    char a[LIMIT_PATH_BYTES], b[LIMIT_PATH_BYTES];
    ck_assert(!ckpt_folder_path(a, &e, "%s/%s", from, name));
    ck_assert(!ckpt_folder_path(b, &e, "%s/%s", to, name));
    ck_assert_msg(!link(a, b), "%s", b);
}

void generation_copy(const struct generation *g, const char *run)
{
    char to[LIMIT_PATH_BYTES];
    ck_assert(!ckpt_folder_step(training_path(run), g->state.step, to, &e));
    ck_assert_msg(!io_mkdirs(to, 0755, &e), "%s", e.text);
    for (int i = 0; i < g->manifest.file_count; i++)
        link_file(g->folder, to, g->manifest.files[i].name);
    link_file(g->folder, to, "manifest.json");
}

void generation_rewrite(struct generation *g, const char *run)
{
    static float x[ELEMENTS];
    const char *path = training_path(run);
    struct ckpt_writer *w = NULL;
    struct ckpt_state s = g->state;
    char hash[17];
    int64_t bytes;
    s.world = 1;
    s.incarnation = 1;
    ck_assert_msg(!ckpt_claim(path, 1, "", &e), "%s", e.text);
    ck_assert_msg(!ckpt_begin(path, s.step, 0, &w, &e), "%s", e.text);
    for (int i = 0; i < g->count; i++) {
        const struct stored *t = &g->at[i];
        read_tensor(g, t, x);
        ck_assert_msg(!ckpt_put(w, t->name, t->total, 0, t->total, DTYPE_F32, x, &e), "%s", e.text);
    }
    ck_assert_msg(!ckpt_finish(w, hash, &bytes, &e), "%s", e.text);
    ck_assert_msg(
        !ckpt_commit(path, &s, 1, (const char(*)[17]) & hash, &bytes, 2, &e), "%s", e.text);
}
