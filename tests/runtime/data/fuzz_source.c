/*
 * fuzz_source: any bytes as a packed file, of either kind. Must refuse with the file's name or give
 * a text, and leave nothing in the folder.
 */
#include "base/io.h"
#include "runtime/data/source.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const endings[] = {"gz", "zst"};
    char folder[] = "/dev/shm/llmjob-fuzz-XXXXXX", path[64];
    struct err e = {0};
    if (!mkdtemp(folder))
        abort();
    for (int i = 0; i < 2; i++) {
        struct io_map map;
        snprintf(path, sizeof path, "%s/a.%s", folder, endings[i]);
        if (io_write_new(path, data, size, 0600, &e))
            abort();
        if (!source_map(path, folder, NULL, &map, &e))
            io_unmap(&map);
        else if (e.code != ERR_DATA || !strstr(e.text, path))
            abort();
        if (unlink(path))
            abort();
    }
    if (rmdir(folder))
        abort();
    return 0;
}
