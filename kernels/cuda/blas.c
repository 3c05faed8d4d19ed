/*
 * blas: matrix products by cuBLASLt (the only file that includes it).
 *
 * cuBLASLt reads matrices by columns, so a row-major C = A * B is computed as C^T = B^T * A^T: the
 * operands change places and nothing is copied. Which of its kernels suits a product is asked once
 * for each shape, types, strides, alignments and epilogue, and kept in a bounded table; the least
 * recently used entry gives way. Bias and GELU go along as an epilogue where cuBLASLt has a kernel
 * for the combination (a bias must be of C's type; of the exact GELU it has none), else
 * cuda_matmul_finish follows; it has no F32 product with a result of 16 bits: cuda_matmul_narrow.
 * Partial sums are added in F32 and a fixed order: bitwise repeatable. F32 is exact unless
 * NAME_ENV_TF32 allows tensor cores to round its inputs. The workspace is taken at open. Thread:
 * with its device, one.
 */
#include "kernels/cuda/cuda.h"

#include "base/mem.h"
#include "api/names.h"

#include <cublasLt.h>

#define BLAS_ENTRIES   256 /* a training step needs about 40; serving adds some a prompt length */
#define BLAS_CHOICES   4   /* of the heuristic, best first: one may not be runnable */
#define BLAS_WORKSPACE ((size_t)32 << 20) /* what cuBLAS recommends for Hopper */
#define BLAS_ALIGN     256

struct blas_key { /* no padding: keys are compared as bytes */
    int64_t m, n, k, lda, ldb, ldc;
    uint8_t ta, tb, ab_type, c_type, beta, bias, act, pre;
    uint8_t align_a, align_b, align_c, align_bias, align_pre, unused[3]; /* log2 of bytes */
};

struct blas_entry {
    struct blas_key key;
    uint64_t used; /* 0: free */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    bool follow; /* cuda_matmul_finish does what the epilogue would */
};

struct blas {
    struct cuda_dev *dev;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    uint64_t clock;
    bool tf32;
    struct blas_entry entries[BLAS_ENTRIES];
};

static enum err_code blas_code(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_ALLOC_FAILED ? ERR_MEMORY : ERR_DEVICE;
}

int blas_create(struct cuda_dev *c, struct blas **out, struct err *e)
{
    const uint64_t workspace = BLAS_WORKSPACE;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const char *tf32 = getenv(NAME_ENV_TF32);
    struct blas *b = mem_zalloc(sizeof(*b));
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for the table of matrix products");
    b->dev = c;
    b->tf32 = tf32 && !strcmp(tf32, "1");
    int r = cuda_error(c, cudaMalloc(&b->workspace, BLAS_WORKSPACE), "cuBLASLt's workspace", e);
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (!r)
        s = cublasLtCreate(&b->handle);
    if (!r && !s)
        s = cublasLtMatmulPreferenceCreate(&b->preference);
    if (!r && !s)
        s = cublasLtMatmulPreferenceSetAttribute(
            b->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
    if (!r && !s)
        s = cublasLtMatmulPreferenceSetAttribute(
            b->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes));
    if (s)
        r = err_set(e, blas_code(s), "cuda:%d: cuBLASLt does not start: %s", c->index,
            cublasLtGetStatusString(s));
    if (r) {
        blas_destroy(b);
        return r;
    }
    *out = b;
    return 0;
}

static void blas_entry_clear(struct blas_entry *m)
{
    if (m->a)
        cublasLtMatrixLayoutDestroy(m->a);
    if (m->b)
        cublasLtMatrixLayoutDestroy(m->b);
    if (m->c)
        cublasLtMatrixLayoutDestroy(m->c);
    if (m->product)
        cublasLtMatmulDescDestroy(m->product);
    memset(m, 0, sizeof(*m));
}

void blas_destroy(struct blas *b)
{
    if (!b)
        return;
    for (int i = 0; i < BLAS_ENTRIES; i++)
        blas_entry_clear(&b->entries[i]);
    if (b->preference)
        cublasLtMatmulPreferenceDestroy(b->preference);
    if (b->handle)
        cublasLtDestroy(b->handle);
    if (b->workspace)
        cudaFree(b->workspace);
    mem_free(b);
}

static cudaDataType blas_type(uint8_t t)
{
    return t == DTYPE_BF16 ? CUDA_R_16BF : t == DTYPE_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static uint8_t blas_align(const void *p)
{
    return p ? (uint8_t)__builtin_ctzll((uintptr_t)p | BLAS_ALIGN) : 0;
}

static cublasStatus_t blas_prefer(
    struct blas *b, cublasLtMatmulPreferenceAttributes_t which, uint8_t align)
{
    uint32_t bytes = 1u << align;
    return cublasLtMatmulPreferenceSetAttribute(b->preference, which, &bytes, sizeof(bytes));
}

static cublasStatus_t blas_set(
    struct blas_entry *m, cublasLtMatmulDescAttributes_t which, const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(m->product, which, value, bytes);
}

/* What is new with every call of a kept product. */
static cublasStatus_t blas_point(struct blas_entry *m, const struct op_matmul *a)
{
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (m->key.bias)
        s = blas_set(m, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a->bias, sizeof(a->bias));
    if (!s && m->key.pre)
        s = blas_set(m, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &a->pre, sizeof(a->pre));
    return s;
}

static cublasStatus_t blas_epilogue(struct blas_entry *m, const struct op_matmul *a)
{
    const struct blas_key *k = &m->key;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (k->act == OP_ACT_GELU)
        epilogue = k->bias
            ? (k->pre ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS)
            : (k->pre ? CUBLASLT_EPILOGUE_GELU_AUX : CUBLASLT_EPILOGUE_GELU);
    else if (k->bias)
        epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t s = blas_set(m, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    if (!s && k->pre)
        s = blas_set(m, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &k->ldc, sizeof(k->ldc));
    return s ? s : blas_point(m, a);
}

static cublasStatus_t blas_describe(struct blas *b, struct blas_entry *m)
{
    const struct blas_key *k = &m->key;
    cublasOperation_t t = CUBLAS_OP_T;
    cudaDataType ab = blas_type(k->ab_type);
    cublasComputeType_t compute =
        k->ab_type == DTYPE_F32 && b->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasStatus_t s = cublasLtMatmulDescCreate(&m->product, compute, CUDA_R_32F);
    /* Our B is cuBLASLt's A, by columns: (n, k) with ldb, or (k, n) to be transposed. */
    if (!s && k->tb)
        s = blas_set(m, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof(t));
    if (!s && k->ta)
        s = blas_set(m, CUBLASLT_MATMUL_DESC_TRANSB, &t, sizeof(t));
    if (!s)
        s = cublasLtMatrixLayoutCreate(
            &m->b, ab, (uint64_t)(k->tb ? k->k : k->n), (uint64_t)(k->tb ? k->n : k->k), k->ldb);
    if (!s)
        s = cublasLtMatrixLayoutCreate(
            &m->a, ab, (uint64_t)(k->ta ? k->m : k->k), (uint64_t)(k->ta ? k->k : k->m), k->lda);
    if (!s)
        s = cublasLtMatrixLayoutCreate(
            &m->c, blas_type(k->c_type), (uint64_t)k->n, (uint64_t)k->m, k->ldc);
    if (!s)
        s = blas_prefer(b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, k->align_b);
    if (!s)
        s = blas_prefer(b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, k->align_a);
    if (!s)
        s = blas_prefer(b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, k->align_c);
    if (!s)
        s = blas_prefer(b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, k->align_c);
    return s;
}

static cublasStatus_t blas_choose(struct blas *b, struct blas_entry *m)
{
    cublasLtMatmulHeuristicResult_t found[BLAS_CHOICES];
    int count = 0;
    cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(
        b->handle, m->product, m->b, m->a, m->c, m->c, b->preference, BLAS_CHOICES, found, &count);
    for (int i = 0; !s && i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS) {
            m->algo = found[i].algo;
            return CUBLAS_STATUS_SUCCESS;
        }
    return s ? s : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t blas_build(struct blas *b, struct blas_entry *m, const struct op_matmul *a)
{
    struct blas_key *k = &m->key;
    bool extra = k->bias || k->act;
    /* The auxiliary output wants whole 16-byte vectors a row. */
    bool fits = k->c_type == k->ab_type && (!k->pre || (k->ldc % 8 == 0 && k->align_pre >= 4));
    cublasStatus_t s = blas_describe(b, m);
    if (!s && extra && fits) {
        s = blas_epilogue(m, a);
        if (!s)
            s = blas_choose(b, m);
        if (!s || s == CUBLAS_STATUS_ALLOC_FAILED)
            return s;
        uint32_t none = CUBLASLT_EPILOGUE_DEFAULT;
        s = blas_set(m, CUBLASLT_MATMUL_DESC_EPILOGUE, &none, sizeof(none));
    }
    m->follow = extra;
    return s ? s : blas_choose(b, m);
}

static void blas_fail(struct cuda_dev *c, const struct op_matmul *a, cublasStatus_t s)
{
    struct err e = {0};
    cudaError_t last = cudaPeekAtLastError();
    if (!cuda_busy(last) && cuda_check(c, last, "matrix product"))
        return;
    err_set(&e, blas_code(s), "cuda:%d: matrix product %lld x %lld x %lld (%s -> %s): cuBLASLt: %s",
        c->index, (long long)a->m, (long long)a->n, (long long)a->k, dtype_name(a->ab_type),
        dtype_name(a->c_type), cublasLtGetStatusString(s));
    dev_fail(&c->base, &e);
}

static struct blas_entry *blas_find(
    struct blas *b, const struct blas_key *k, const struct op_matmul *a)
{
    struct blas_entry *oldest = &b->entries[0];
    cublasStatus_t s;
    for (int i = 0; i < BLAS_ENTRIES; i++) {
        struct blas_entry *m = &b->entries[i];
        if (m->used && !memcmp(&m->key, k, sizeof(*k))) {
            m->used = ++b->clock;
            s = m->follow ? CUBLAS_STATUS_SUCCESS : blas_point(m, a);
            if (!s)
                return m;
            blas_fail(b->dev, a, s);
            return NULL;
        }
        if (m->used < oldest->used)
            oldest = m;
    }
    blas_entry_clear(oldest);
    oldest->key = *k;
    s = blas_build(b, oldest, a);
    if (s) {
        blas_entry_clear(oldest);
        blas_fail(b->dev, a, s);
        return NULL;
    }
    oldest->used = ++b->clock;
    return oldest;
}

static bool blas_takes(enum dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16;
}

static bool blas_can(enum dtype ab, enum dtype c)
{
    return blas_takes(ab) && blas_takes(c) && (c == ab || c == DTYPE_F32 || ab == DTYPE_F32);
}

void op_cuda_matmul(struct dev *d, const struct op_matmul *a)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    bool gelu = a->act == OP_ACT_GELU;
    if (a->m == 0 || a->n == 0)
        return;
    if (a->k < 1 || !blas_can(a->ab_type, a->c_type)) {
        cuda_refuse(d, "matrix product %lld x %lld x %lld of %s to %s: not on this device",
            (long long)a->m, (long long)a->n, (long long)a->k, dtype_name(a->ab_type),
            dtype_name(a->c_type));
        return;
    }
    if (a->ab_type == DTYPE_F32 && a->c_type != DTYPE_F32) {
        cuda_matmul_narrow(d, a);
        return;
    }
    const struct blas_key key = {.m = a->m,
        .n = a->n,
        .k = a->k,
        .lda = a->lda,
        .ldb = a->ldb,
        .ldc = a->ldc,
        .ta = a->ta,
        .tb = a->tb,
        .ab_type = (uint8_t)a->ab_type,
        .c_type = (uint8_t)a->c_type,
        .beta = a->beta != 0,
        .bias = a->bias != NULL,
        .act = gelu,
        .pre = gelu && a->pre,
        .align_a = blas_align(a->a),
        .align_b = blas_align(a->b),
        .align_c = blas_align(a->c),
        .align_bias = blas_align(a->bias),
        .align_pre = gelu ? blas_align(a->pre) : 0};
    struct blas_entry *m = blas_find(c->blas, &key, a);
    if (!m)
        return;
    cublasStatus_t s =
        cublasLtMatmul(c->blas->handle, m->product, &a->alpha, a->b, m->b, a->a, m->a, &a->beta,
            a->c, m->c, a->c, m->c, &m->algo, c->blas->workspace, BLAS_WORKSPACE, c->stream);
    if (s) {
        blas_fail(c, a, s);
        return;
    }
    if (!m->follow && a->act != OP_ACT_GELU_ERF)
        return;
    struct op_matmul rest = *a;
    rest.bias = m->follow ? a->bias : NULL;
    cuda_matmul_finish(d, &rest);
}
