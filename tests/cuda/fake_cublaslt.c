/*
 * fake_cublaslt: see fake_cublaslt.h. An algorithm is what the question for it said: layouts,
 * descriptor, alignments; a product with another one's algorithm, or with pointers that are less
 * aligned than was promised, ends the program. Sums are made in double, as by the reference.
 */
#include "tests/cuda/fake_cublaslt.h"

#include "base/mem.h"
#include "kernels/dev.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_cublaslt fake_cublaslt;

struct layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
struct descriptor {
    cublasComputeType_t compute;
    cudaDataType scale;
    int32_t ta, tb;
    uint32_t epilogue;
    const void *bias;
    void *aux;
    int64_t aux_ld;
};
struct preference {
    uint64_t workspace;
    uint32_t schemes, align[4]; /* of A, B, C, D */
};
struct algorithm { /* within cublasLtMatmulAlgo_t */
    uint64_t of;
    uint32_t align[4], align_bias, align_aux, usable;
    uint64_t workspace;
};
static int handle;

static void check(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "fake_cublaslt: %s\n", what);
    abort();
}

static cublasStatus_t answer(void)
{
    return ++fake_cublaslt.calls == fake_cublaslt.fail_nth ? fake_cublaslt.failure
                                                           : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t make(void **out, size_t bytes)
{
    cublasStatus_t s = answer();
    if (s)
        return s;
    *out = mem_zalloc(bytes);
    check(*out, "out of memory");
    fake_cublaslt.alive++;
    return s;
}

static cublasStatus_t unmake(void *p)
{
    check(p, "NULL is destroyed");
    mem_free(p);
    fake_cublaslt.alive--;
    return CUBLAS_STATUS_SUCCESS;
}

static void take(void *to, size_t room, const void *from, size_t bytes)
{
    check(bytes == room, "an attribute of another size");
    memcpy(to, from, bytes);
}

/* -- the runtime's -- */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    return make(p, bytes) ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    return (cudaError_t)unmake(p);
}

cudaError_t cudaPeekAtLastError(void)
{
    return fake_cublaslt.last_error;
}

/* -- objects -- */
cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    cublasStatus_t s = answer();
    if (s)
        return s;
    *out = (cublasLtHandle_t)&handle;
    fake_cublaslt.alive++;
    return s;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    check((void *)h == &handle, "another handle");
    fake_cublaslt.alive--;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_ALLOC_FAILED ? "CUBLAS_STATUS_ALLOC_FAILED"
        : s == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                           : "another status";
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    return make((void **)out, sizeof(struct preference));
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    return unmake(p);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
    cublasLtMatmulPreferenceAttributes_t which, const void *value, size_t bytes)
{
    struct preference *p = (struct preference *)pref;
    switch (which) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        take(&p->workspace, sizeof p->workspace, value, bytes);
        break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        take(&p->schemes, sizeof p->schemes, value, bytes);
        break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        take(&p->align[which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof(uint32_t), value,
            bytes);
        break;
    default:
        check(false, "an unknown preference");
    }
    return answer();
}

cublasStatus_t cublasLtMatrixLayoutCreate(
    cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    cublasStatus_t s = make((void **)out, sizeof(struct layout));
    check(rows && cols && ld >= (int64_t)rows, "a matrix that is none");
    if (!s)
        *(struct layout *)*out = (struct layout){type, rows, cols, ld};
    return s;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    return unmake(l);
}

cublasStatus_t cublasLtMatmulDescCreate(
    cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType scale)
{
    cublasStatus_t s = make((void **)out, sizeof(struct descriptor));
    if (!s)
        *(struct descriptor *)*out = (struct descriptor){.compute = compute,
            .scale = scale,
            .ta = CUBLAS_OP_N,
            .tb = CUBLAS_OP_N,
            .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return s;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    return unmake(d);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
    cublasLtMatmulDescAttributes_t which, const void *value, size_t bytes)
{
    struct descriptor *d = (struct descriptor *)desc;
    switch (which) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        take(&d->ta, sizeof d->ta, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        take(&d->tb, sizeof d->tb, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        take(&d->epilogue, sizeof d->epilogue, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        take(&d->bias, sizeof d->bias, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        take(&d->aux, sizeof d->aux, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        take(&d->aux_ld, sizeof d->aux_ld, value, bytes);
        break;
    default:
        check(false, "an unknown attribute");
    }
    return answer();
}

/* -- questions -- */
struct product { /* of a question or a call */
    const struct descriptor *d;
    const struct layout *a, *b, *c;
};

static bool has(const struct descriptor *d, uint32_t flag)
{
    return d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && (d->epilogue & flag);
}
#define FLAG_BIAS 4
#define FLAG_GELU 32
#define FLAG_AUX  128

static uint64_t mix(uint64_t h, uint64_t x)
{
    return (h ^ x) * 0x100000001b3u;
}

static uint64_t identity(const struct product *p)
{
    const struct layout *l[] = {p->a, p->b, p->c};
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < 3; i++)
        h = mix(mix(mix(mix(h, l[i]->type), l[i]->rows), l[i]->cols), (uint64_t)l[i]->ld);
    h = mix(mix(mix(h, (uint64_t)p->d->ta), (uint64_t)p->d->tb), p->d->compute);
    return mix(mix(h, p->d->epilogue), has(p->d, FLAG_AUX) ? (uint64_t)p->d->aux_ld : 0);
}

static void check_product(const struct product *p)
{
    const struct descriptor *d = p->d;
    bool at = d->ta == CUBLAS_OP_T, bt = d->tb == CUBLAS_OP_T;
    bool narrow = p->a->type != CUDA_R_32F;
    check((at ? p->a->cols : p->a->rows) == p->c->rows, "rows of A and C");
    check((bt ? p->b->rows : p->b->cols) == p->c->cols, "columns of B and C");
    check((at ? p->a->rows : p->a->cols) == (bt ? p->b->cols : p->b->rows), "A and B");
    check(p->a->type == p->b->type, "operands of two types");
    check(p->c->type == p->a->type || (narrow && p->c->type == CUDA_R_32F), "the result's type");
    check(d->scale == CUDA_R_32F, "the type of alpha and beta");
    check(
        d->compute == CUBLAS_COMPUTE_32F || (!narrow && d->compute == CUBLAS_COMPUTE_32F_FAST_TF32),
        "the compute type");
    if (has(d, FLAG_AUX))
        check(d->aux && d->aux_ld % 8 == 0 && d->aux_ld >= (int64_t)p->c->rows &&
                (uintptr_t)d->aux % 16 == 0,
            "the auxiliary output");
    check(!has(d, FLAG_BIAS) || d->bias, "no bias");
}

static uint32_t alignment(const void *p)
{
    return 1u << __builtin_ctzll((uintptr_t)p | 256);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t desc,
    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
    cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t pref, int most,
    cublasLtMatmulHeuristicResult_t *out, int *count)
{
    const struct product p = {(const struct descriptor *)desc, (const struct layout *)a,
        (const struct layout *)b, (const struct layout *)c};
    const struct preference *want = (const struct preference *)pref;
    cublasStatus_t s = answer();
    check((void *)h == &handle && c == d && most >= 1, "a question");
    check(want->schemes == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, "sums of another type");
    check_product(&p);
    fake_cublaslt.asked++;
    *count = 0;
    if (s)
        return s;
    if (p.d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && fake_cublaslt.plain)
        return fake_cublaslt.plain;
    if (fake_cublaslt.none > 0) {
        fake_cublaslt.none--;
        return s;
    }
    _Static_assert(sizeof(struct algorithm) <= sizeof(cublasLtMatmulAlgo_t), "too large");
    for (; *count < most; ++*count) {
        struct algorithm found = {.of = identity(&p),
            .align_bias = alignment(p.d->bias),
            .align_aux = alignment(p.d->aux),
            .usable = *count >= fake_cublaslt.unusable,
            .workspace = want->workspace};
        memcpy(found.align, want->align, sizeof found.align);
        out[*count] = (cublasLtMatmulHeuristicResult_t){
            .state = found.usable ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED};
        memcpy(&out[*count].algo, &found, sizeof found);
    }
    return s;
}

/* -- products -- */
static enum dtype dtype_of(cudaDataType t)
{
    return t == CUDA_R_32F ? DTYPE_F32 : t == CUDA_R_16BF ? DTYPE_BF16 : DTYPE_F16;
}

static double load(const void *p, int64_t i, cudaDataType t)
{
    if (t == CUDA_R_32F)
        return (double)((const float *)p)[i];
    uint16_t bits = ((const uint16_t *)p)[i];
    return (double)(dtype_of(t) == DTYPE_BF16 ? bf16_to_f32(bits) : f16_to_f32(bits));
}

static void store(void *p, int64_t i, cudaDataType t, double x)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = (float)x;
    else
        ((uint16_t *)p)[i] =
            dtype_of(t) == DTYPE_BF16 ? f32_to_bf16((float)x) : f32_to_f16((float)x);
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double dot(const struct product *p, const void *a, const void *b, int64_t i, int64_t j)
{
    bool at = p->d->ta == CUBLAS_OP_T, bt = p->d->tb == CUBLAS_OP_T;
    int64_t k = (int64_t)(at ? p->a->rows : p->a->cols);
    double sum = 0;
    for (int64_t l = 0; l < k; l++)
        sum += load(a, at ? l + i * p->a->ld : i + l * p->a->ld, p->a->type) *
            load(b, bt ? j + l * p->b->ld : l + j * p->b->ld, p->b->type);
    return sum;
}

static void multiply(
    const struct product *p, float alpha, const void *a, const void *b, float beta, void *c)
{
    const struct descriptor *d = p->d;
    for (int64_t j = 0; j < (int64_t)p->c->cols; j++)
        for (int64_t i = 0; i < (int64_t)p->c->rows; i++) {
            int64_t to = i + j * p->c->ld;
            double x = (double)alpha * dot(p, a, b, i, j);
            if (beta != 0)
                x += (double)beta * load(c, to, p->c->type);
            if (has(d, FLAG_BIAS)) /* by row */
                x += load(d->bias, i, p->c->type);
            if (has(d, FLAG_AUX))
                store(d->aux, i + j * d->aux_ld, p->c->type, x);
            store(c, to, p->c->type, has(d, FLAG_GELU) ? gelu(x) : x);
        }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha,
    const void *a, cublasLtMatrixLayout_t al, const void *b, cublasLtMatrixLayout_t bl,
    const void *beta, const void *c, cublasLtMatrixLayout_t cl, void *d, cublasLtMatrixLayout_t dl,
    const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream)
{
    const struct product p = {(const struct descriptor *)desc, (const struct layout *)al,
        (const struct layout *)bl, (const struct layout *)cl};
    const void *at[] = {a, b, c, d};
    struct algorithm by;
    cublasStatus_t s = answer();
    memcpy(&by, algo, sizeof by);
    check((void *)h == &handle && c == d && cl == dl && !stream, "a product");
    check_product(&p);
    check(by.usable, "an algorithm that is not runnable");
    check(by.of == identity(&p), "another product's algorithm");
    for (int i = 0; i < 4; i++)
        check(by.align[i] && alignment(at[i]) >= by.align[i], "less aligned than promised");
    check(alignment(p.d->bias) >= by.align_bias, "a bias less aligned than before");
    check(alignment(p.d->aux) >= by.align_aux, "an auxiliary output less aligned than before");
    check(workspace && by.workspace == bytes, "the workspace");
    fake_cublaslt.epilogue = p.d->epilogue;
    fake_cublaslt.compute = p.d->compute;
    fake_cublaslt.workspace = bytes;
    if (s)
        return s;
    fake_cublaslt.multiplied++;
    multiply(&p, *(const float *)alpha, a, b, *(const float *)beta, d);
    return s;
}
