/*
 * blas: stands for kernels/cuda/blas.c in the simulated plugin: matrix products on the host, put
 * into the device's stream. Products are summed in F32 in the order of k, whatever the processor,
 * so they are bitwise repeatable. Where blas.c does not ask cuBLASLt to take bias and GELU along
 * (C of another type, rows of pre that are no whole vectors), where it would refuse (rows not
 * aligned to 16 bytes), and where a test says so, cuda_matmul_finish, a kernel, is called as on a
 * device.
 */
#include "kernels/cuda/cuda.h"
#include "tests/cudasim/sim.hh"

#include <cstdio>
#include <vector>

#define ROWS 4  /* of C computed together */
#define COLS 16 /* likewise: their sums stay in registers */

bool sim_epilogues = true;

static float read_one(const void *p, int64_t i, enum dtype t)
{
    uint16_t bits;
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    memcpy(&bits, (const char *)p + 2 * i, 2);
    return t == DTYPE_BF16 ? bf16_to_f32(bits) : cudasim_from_half(bits);
}

static void write_one(void *p, int64_t i, enum dtype t, float x)
{
    if (t == DTYPE_F32) {
        ((float *)p)[i] = x;
        return;
    }
    uint16_t bits = t == DTYPE_BF16 ? f32_to_bf16(x) : cudasim_to_half(x);
    memcpy((char *)p + 2 * i, &bits, 2);
}

/* out (k, width) = `count` rows of op(A), or columns of op(B), from `first`; zeros beyond. `near`
   is the distance between neighbours, `along` that between elements of k. */
static void pack(const void *p, enum dtype t, int64_t first, int64_t count, int width, int64_t near,
    int64_t along, int64_t k, float *out)
{
    for (int i = 0; i < width; i++)
        for (int64_t l = 0; l < k; l++)
            out[l * width + i] = i < count ? read_one(p, (first + i) * near + l * along, t) : 0;
}

#ifdef __x86_64__
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void
tile(const float *__restrict a, const float *__restrict b, int64_t k, float *__restrict sum)
{
    float s[ROWS][COLS] = {};
    for (int64_t l = 0; l < k; l++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLS; j++)
                s[i][j] += a[l * ROWS + i] * b[l * COLS + j];
    memcpy(sum, s, sizeof(s));
}

static float gelu(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

static void finish(const struct op_matmul *o, bool fused, int64_t i, int64_t j, float sum)
{
    int64_t at = i * o->ldc + j;
    float x = o->alpha * sum;
    if (o->beta != 0)
        x += o->beta * read_one(o->c, at, o->c_type);
    if (fused && o->bias)
        x += read_one(o->bias, j, o->ab_type);
    if (fused && o->pre)
        write_one(o->pre, at, o->c_type, x);
    write_one(o->c, at, o->c_type, fused && o->act == OP_ACT_GELU ? gelu(x) : x);
}

static void multiply(const struct op_matmul *o, bool fused)
{
    int64_t blocks = (o->m + ROWS - 1) / ROWS;
    std::vector<float> a((size_t)(blocks * ROWS * o->k)), b((size_t)(COLS * o->k));
    float sum[ROWS * COLS];
    for (int64_t r = 0; r < blocks; r++)
        pack(o->a, o->ab_type, r * ROWS, o->m - r * ROWS, ROWS, o->ta ? 1 : o->lda,
            o->ta ? o->lda : 1, o->k, a.data() + r * ROWS * o->k);
    for (int64_t j = 0; j < o->n; j += COLS) {
        pack(o->b, o->ab_type, j, o->n - j, COLS, o->tb ? o->ldb : 1, o->tb ? 1 : o->ldb, o->k,
            b.data());
        for (int64_t r = 0; r < blocks; r++) {
            tile(a.data() + r * ROWS * o->k, b.data(), o->k, sum);
            for (int64_t i = r * ROWS; i < o->m && i < (r + 1) * ROWS; i++)
                for (int64_t c = j; c < o->n && c < j + COLS; c++)
                    finish(o, fused, i, c, sum[(i - r * ROWS) * COLS + (c - j)]);
        }
    }
}

/* Rows of a matrix, `rows` by `cols`, all within one allocation? */
static bool held(const void *p, int64_t rows, int64_t cols, int64_t ld, enum dtype t)
{
    int64_t count = (rows - 1) * ld + cols;
    return !rows || !cols || (ld >= cols && sim_memory_holds(p, (size_t)dtype_bytes(t, count)));
}

static cudaError_t run(const struct op_matmul *o, bool fused)
{
    if (!held(o->a, o->ta ? o->k : o->m, o->ta ? o->m : o->k, o->lda, o->ab_type) ||
        !held(o->b, o->tb ? o->n : o->k, o->tb ? o->k : o->n, o->ldb, o->ab_type) ||
        !held(o->c, o->m, o->n, o->ldc, o->c_type) ||
        (o->bias && !held(o->bias, 1, o->n, o->n, o->ab_type)) ||
        (o->pre && !held(o->pre, o->m, o->n, o->ldc, o->c_type))) {
        snprintf(sim_failure_text, sizeof(sim_failure_text),
            "matrix product %lld x %lld x %lld: out of bounds in global memory", (long long)o->m,
            (long long)o->n, (long long)o->k);
        return cudaErrorIllegalAddress;
    }
    multiply(o, fused);
    return cudaSuccess;
}

static bool aligned(const void *p, int64_t ld, enum dtype t)
{
    return (uintptr_t)p % 16 == 0 && ld * dtype_bytes(t, 1) % 16 == 0;
}

void op_cuda_matmul(struct dev *d, const struct op_matmul *given)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    const struct op_matmul o = *given;
    bool epilogue = o.bias || o.pre || o.act != OP_ACT_NONE;
    bool fused = sim_epilogues && o.c_type == o.ab_type && (!o.pre || o.ldc % 8 == 0) &&
        aligned(o.c, o.ldc, o.c_type) && aligned(o.bias, 0, o.ab_type) &&
        aligned(o.pre, 0, o.c_type);
    bool later = o.act == OP_ACT_GELU_ERF; /* no epilogue of cuBLASLt */
    if (o.m < 0 || o.n < 0 || o.k < 0 || dtype_block(o.ab_type) != 1 ||
        dtype_block(o.c_type) != 1) {
        cuda_refuse(d, "a matrix product %lld x %lld x %lld of %s and %s", (long long)o.m,
            (long long)o.n, (long long)o.k, dtype_name(o.ab_type), dtype_name(o.c_type));
        return;
    }
    if (!o.m || !o.n)
        return;
    if (o.ab_type == DTYPE_F32 && o.c_type != DTYPE_F32) {
        cuda_matmul_narrow(d, &o);
        return;
    }
    struct op_matmul product = o, rest = o;
    if (later) {
        product.act = OP_ACT_NONE;
        product.pre = NULL;
    }
    if (fused)
        rest.bias = NULL;
    if (!cuda_check(
            c, sim_enqueue(c->stream, [=] { return run(&product, fused); }), "a matrix product") &&
        epilogue && (later || !fused))
        cuda_matmul_finish(d, &rest);
}

int blas_create(struct cuda_dev *, struct blas **out, struct err *)
{
    *out = nullptr;
    return 0;
}

void blas_destroy(struct blas *)
{
}
