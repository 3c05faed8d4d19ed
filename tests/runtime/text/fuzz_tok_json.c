/*
 * fuzz_tok_json: any text as tokenizer.json, and as vocab.txt: read, made into tables, used to
 * encode, and written again. What was written must be readable, and guarded text holds no special
 * token but the one that stands for unknown words.
 */
#include "base/mem.h"
#include "runtime/text/tok_def.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_unknown(const struct tok_def *d, int32_t id)
{
    return (d->model == TOK_WORDPIECE && d->wordpiece.unknown == id) ||
        ((d->model == TOK_BPE_CHARS || d->model == TOK_UNIGRAM) && d->chars.unknown == id);
}

static void try_definition(const struct tok_def *d)
{
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 1 << 24);
    if (!tok_create(d, "fuzz", &t, &e)) {
        tok_encode_document(t, "ab abab <s> \xc3\xa9\n 12", 19, &ids, &e);
        tok_encode_word(t, "Ab\xe4\xbd\xa0-\xcc\x81.", 9, &ids, &e);
        for (int64_t i = 0; i < ids.count; i++)
            tok_decode(t, ids.id[i], false, &out);
        ids.count = 0;
        buf_reset(&out);
        tok_guard(t, "ab <s> ab</s>", 13, &out);
        if (!tok_encode_guarded(t, buf_cstr(&out), (int64_t)out.len, &ids, &e))
            for (int64_t i = 0; i < ids.count; i++)
                if (tok_is_special(t, ids.id[i]) && !is_unknown(d, ids.id[i]))
                    abort();
    }
    tok_ids_done(&ids);
    tok_close(t);
    buf_reset(&out);
    if (tok_def_write(d, &out, &e))
        return;
    struct json *back = NULL;
    if (json_parse(out.data, out.len, &back, &e))
        abort();
    json_destroy(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *root = NULL;
    struct tok_def d;
    struct err e = {0};
    struct arena *a = arena_create(1 << 26);
    if (a && !json_parse((const char *)data, size, &root, &e) &&
        !tok_def_json(root, root, "fuzz", a, &d, &e))
        try_definition(&d);
    if (a && !tok_def_vocab((const char *)data, size, root, "fuzz", a, &d, &e))
        try_definition(&d);
    json_destroy(root);
    arena_destroy(a);
    return 0;
}
