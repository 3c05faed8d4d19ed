/*
 * fuzz_read: any bytes as the one file of a generation, with the manifest that belongs to it. Must
 * refuse with the folder's name, or give tensors that are whole.
 */
#include "base/io.h"
#include "runtime/ckpt/manifest.h"
#include "runtime/files/hash.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS    4
#define COLUMNS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_step(const char *folder, const uint8_t *data, size_t size, char file[96])
{
    char path[96];
    struct err e;
    struct ckpt_file f = {.bytes = (int64_t)size};
    const struct ckpt_manifest m = {
        .state = {.step = 1, .incarnation = 1, .world = 1}, .files = &f, .file_count = 1};
    hash_xxh3_hex(data, size, f.hash);
    ckpt_file_name(0, f.hash, f.name);
    snprintf(path, sizeof path, "%s/step-00000001", folder);
    snprintf(file, 96, "%s/%s", path, f.name);
    if (io_mkdirs(path, 0700, &e) || io_write_new(file, data, size, 0600, &e))
        abort();
    snprintf(path, sizeof path, "%s/step-00000001/manifest.json", folder);
    if (ckpt_manifest_write(path, &m, &e))
        abort();
}

/* The matrix of the corpus, as a whole and in parts: the same elements. */
static void read_matrix(struct ckpt_reader *r)
{
    float whole[ROWS * COLUMNS], part[ROWS * COLUMNS];
    struct err e;
    if (ckpt_get(r, "w", ROWS * COLUMNS, 0, ROWS * COLUMNS, DTYPE_F32, whole, &e))
        return; /* it is another's by now */
    for (int column = 0; column < COLUMNS; column++) {
        const struct ckpt_piece p = {ROWS, COLUMNS, 1, column, ROWS - 1, 1};
        if (ckpt_get_piece(r, "w", &p, DTYPE_F32, part, &e))
            return;
        for (int i = 0; i < ROWS - 1; i++)
            if (memcmp(&part[i], &whole[(i + 1) * COLUMNS + column], sizeof *part) != 0)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char folder[] = "/dev/shm/llmjob-fuzz-XXXXXX", file[96], path[96];
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    if (!mkdtemp(folder))
        abort();
    write_step(folder, data, size, file);
    if (ckpt_open_step(folder, 1, CKPT_HASHES, &r, &s, &e)) {
        if (!strstr(e.text, folder))
            abort();
    } else {
        read_matrix(r);
    }
    ckpt_close(r);
    snprintf(path, sizeof path, "%s/step-00000001/manifest.json", folder);
    if (unlink(file) || unlink(path))
        abort();
    snprintf(path, sizeof path, "%s/step-00000001", folder);
    if (rmdir(path) || rmdir(folder))
        abort();
    return 0;
}
