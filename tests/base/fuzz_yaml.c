/*
 * Goal: yaml_parse takes any bytes without harm, and each document that it gives is JSON.
 * Method: parse; every document is printed, and read and printed again by base/json.
 */
#include "base/yaml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_auto struct json *documents = NULL;
    struct err e = {0};
    int rc = yaml_parse((const char *)data, size, &documents, &e);
    must(rc ? !documents && e.code == ERR_DATA && !strncmp(e.text, "YAML ", 5)
            : json_is_array(documents));
    json_each (document, documents) {
        buf_auto struct buf once, twice;
        buf_init(&once, 4 << 20);
        buf_init(&twice, 4 << 20);
        must(!json_print(document, &once));
        json_auto struct json *again = NULL;
        must(!json_parse(once.data, once.len, &again, NULL));
        must(!json_print(again, &twice));
        must(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
    }
    return 0;
}
