/*
 * fuzz_manifest: any text as a manifest, with the hash that belongs to it: who writes may write
 * nonsense, too. Must refuse with the file's name, or give what is within its bounds.
 */
#include "base/io.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/ckpt/manifest.h"
#include "runtime/files/hash.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_AT 9 /* behind {"xxh3":" */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct ckpt_manifest *m)
{
    const struct ckpt_state *s = &m->state;
    if (s->step < 0 || s->step > NUMBER_EXACT || s->world < 1 || s->incarnation < 1 ||
        s->written_ms < 0 || s->epoch_count > CKPT_EPOCHS || m->file_count < 1)
        abort();
    if (strlen(s->layout) >= CKPT_LAYOUT_BYTES || strlen(s->source) >= CKPT_SOURCE_BYTES ||
        strlen(s->identity) >= CKPT_IDENTITY_BYTES)
        abort();
    for (int i = 0; i < m->file_count; i++)
        if (strchr(m->files[i].name, '/') || m->files[i].bytes < 0)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char folder[] = "/dev/shm/llmjob-fuzz-XXXXXX", path[64], hash[HASH_XXH3_HEX];
    struct ckpt_manifest m;
    struct err e = {0};
    char *text = mem_alloc(size + 1);
    if (!text || !mkdtemp(folder))
        abort();
    memcpy(text, data, size);
    if (size >= HASH_AT + 16) {
        memset(text + HASH_AT, '0', 16);
        hash_xxh3_hex(text, size, hash);
        memcpy(text + HASH_AT, hash, 16);
    }
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    if (io_write_new(path, text, size, 0600, &e))
        abort();
    if (!ckpt_manifest_read(path, &m, &e)) {
        check(&m);
        ckpt_manifest_done(&m);
    } else if (!strstr(e.text, path)) {
        abort();
    }
    mem_free(text);
    if (unlink(path) || rmdir(folder))
        abort();
    return 0;
}
