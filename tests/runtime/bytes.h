/*
 * bytes: a model folder that tests can train and serve in milliseconds: the tiny Llama of
 * tests/golden with a byte-level tokenizer of 256 tokens and no merges, so that text and ids are
 * the same thing.
 */
#ifndef TESTS_RUNTIME_BYTES_H
#define TESTS_RUNTIME_BYTES_H

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <limits.h>
#include <unistd.h>

/* GPT-2's printable stand-in for a byte. */
static inline void bytes_symbol(int b, char out[4])
{
    int code = b, before = 0;

    for (int i = 0; i <= b; i++) {
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;

        if (i == b && !plain)
            code = 256 + before;
        before += !plain;
    }
    if (code < 128)
        snprintf(out, 4, "%c", code);
    else
        snprintf(out, 4, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
}

static inline void bytes_tokenizer(const char *path)
{
    buf_auto struct buf b;
    struct jsonw w;
    char symbol[4];

    buf_init(&b, 1 << 20);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "pre_tokenizer", '{');
    jsonw_str(&w, "type", "ByteLevel");
    jsonw_bool(&w, "add_prefix_space", false);
    jsonw_bool(&w, "use_regex", true);
    jsonw_close(&w);
    jsonw_open(&w, "model", '{');
    jsonw_str(&w, "type", "BPE");
    jsonw_open(&w, "vocab", '{');
    for (int i = 0; i < 256; i++) {
        bytes_symbol(i, symbol);
        jsonw_int(&w, symbol, i);
    }
    jsonw_close(&w);
    jsonw_open(&w, "merges", '[');
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_close(&w);
    ck_assert(!jsonw_end(&w));
    golden_write(path, b.data, b.len);
}

/* <folder>/model */
static inline void bytes_model(const char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char from[PATH_MAX + 64], to[1200];
    struct err e = {0};

    snprintf(to, sizeof to, "%s/model", folder);
    ck_assert_msg(!io_mkdirs(to, 0755, &e), "%s", e.text);
    for (int i = 0; i < 2; i++) {
        char root[PATH_MAX];

        ck_assert_ptr_nonnull(realpath(GOLDEN "tiny-llama", root));
        snprintf(from, sizeof from, "%s/%s", root, files[i]);
        snprintf(to, sizeof to, "%s/model/%s", folder, files[i]);
        ck_assert_int_eq(symlink(from, to), 0);
    }
    snprintf(to, sizeof to, "%s/model/tokenizer.json", folder);
    bytes_tokenizer(to);
}

#endif
