/*
 * fuzz_safetensors: any bytes as a safetensors file. Must refuse or succeed, never read outside.
 */
#include "runtime/files/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    if (safetensors_parse(data, size, "fuzz", &s, &e))
        return 0;
    uint64_t sum = 0;
    for (int i = 0; i < safetensors_count(s); i++) {
        const struct safetensors_tensor *t = safetensors_at(s, i);
        sum += t->data[0] + t->data[t->bytes - 1];
        safetensors_metadata(s, t->name);
    }
    safetensors_close(s);
    return sum == UINT64_MAX; /* so that the reads stay */
}
