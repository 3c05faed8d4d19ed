/*
 * Goal: a model gives the same tensors whatever file holds it, and a broken one is refused with its
 * reason. Method: the tiny golden models as Hugging Face folders, as GGUF (made here, rows
 * interleaved, some tensors in blocks), and as written by the house's own writer, which must be
 * what transformers had written; files taken away, cut, and renamed.
 * needs: faults
 */
#include "runtime/family/weights.h"

#include "base/io.h"
#include "kernels/quant.h"
#include "runtime/files/hash.h"
#include "runtime/files/safetensors.h"
#include "runtime/text/tok.h"
#include "runtime/text/tok_write.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/model_files.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

static void make_gguf(char path[128])
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    model_files_path(path, "tiny.gguf");
    golden_write(path, file.data, file.len);
}

START_TEST(both_formats_give_the_same_tensors)
{
    char path[128];
    golden_folder(model_files_folder);
    make_gguf(path);
    struct weights *hf = model_files_open(GOLDEN "tiny-llama"), *gguf = model_files_open(path);
    const struct model_config *c = weights_config(gguf);
    ck_assert(c->dim == 64 && c->kv_heads == 2 && c->vocab == 256 && c->tied_embeddings);
    ck_assert(weights_gguf(gguf) && !weights_gguf(hf));
    model_files_compare(hf, gguf, 0.002f); /* half a step of Q8_0 on the one tensor in blocks */
    int64_t n;
    mem_autofree float *q = model_files_read(hf, "model.layers.0.self_attn.q_proj.weight", &n);
    mem_autofree float *p = model_files_read(gguf, "model.layers.0.self_attn.q_proj.weight", &n);
    ck_assert_mem_eq(p, q, (size_t)n * 4); /* interleaved in the file, exact here */
    weights_close(hf);
    weights_close(gguf);
    golden_remove(model_files_folder);
}
END_TEST

START_TEST(rows_and_types_are_as_asked)
{
    char path[128];
    struct err e = {0};
    golden_folder(model_files_folder);
    make_gguf(path);
    struct weights *w = model_files_open(path);
    const char *k = "model.layers.1.self_attn.k_proj.weight";
    int64_t n;
    mem_autofree float *all = model_files_read(w, k, &n);
    float part[3 * 64];
    uint16_t half[3 * 64];
    ck_assert_int_eq(weights_read(w, k, 32, 64, 7, 3, DTYPE_F32, part, &e), 0);
    ck_assert_mem_eq(part, all + 7 * 64, sizeof part);
    ck_assert_int_eq(weights_read(w, k, 32, 64, 7, 3, DTYPE_BF16, half, &e), 0);
    for (int i = 0; i < 3 * 64; i++)
        ck_assert_uint_eq(half[i], f32_to_bf16(part[i]));
    float norm[5];
    ck_assert_int_eq(weights_read(w, "model.norm.weight", 64, 1, 59, 5, DTYPE_F32, norm, &e), 0);

    ck_assert_int_eq(weights_read(w, k, 64, 64, 0, 1, DTYPE_F32, part, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "(32, 64), expected (64, 64)"));
    ck_assert_int_eq(weights_read(w, "nothing", 1, 1, 0, 1, DTYPE_F32, part, &e), -ERR_DATA);
    ck_assert_int_eq(weights_read(w, k, 32, 64, 30, 3, DTYPE_F32, part, &e), -ERR_BUG);
    ck_assert_int_eq(weights_read(w, k, 32, 64, 0, 1, DTYPE_Q8_0, part, &e), -ERR_BUG);

    enum dtype type;
    const void *raw, *again;
    ck_assert_int_eq(weights_raw(w, k, &type, &raw, &e), 0);
    ck_assert_int_eq(type, DTYPE_F32);
    ck_assert_mem_eq(raw, all, (size_t)n * 4); /* canonical order */
    ck_assert_int_eq(weights_raw(w, k, &type, &again, &e), 0);
    ck_assert_ptr_eq(raw, again);
    const char *blocks = "model.layers.1.mlp.down_proj.weight";
    mem_autofree float *want = model_files_read(w, blocks, &n),
                       *got = mem_array((size_t)n, sizeof *got);
    ck_assert_int_eq(weights_raw(w, blocks, &type, &raw, &e), 0);
    ck_assert_int_eq(type, DTYPE_Q8_0);
    quant_decode(type, raw, n, got);
    ck_assert_mem_eq(got, want, (size_t)n * 4);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

/* Is the page of p in this process' memory? */
static bool is_resident(const void *p)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    long page = sysconf(_SC_PAGESIZE);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)p / (size_t)page * 8)), 8);
    close(fd);
    return entry >> 63;
}

/* A page that lies within the file leaves memory; all reads as before. */
START_TEST(released_pages_come_back)
{
    char path[128];
    struct err e = {0};
    const void *raw, *again;
    enum dtype type;
    const char *name = "model.embed_tokens.weight";
    golden_folder(model_files_folder);
    make_gguf(path);
    struct weights *w = model_files_open(path);
    ck_assert(!weights_raw(w, name, &type, &raw, &e));
    const struct weights_tensor *t = weights_find(w, name);
    mem_autofree char *was = mem_alloc((size_t)t->bytes);
    memcpy(was, raw, (size_t)t->bytes);
    const char *middle = (const char *)raw + t->bytes / 2;
    ck_assert(t->bytes >= 3 * sysconf(_SC_PAGESIZE) && is_resident(middle));
    ck_assert(!weights_raw(w, "model.layers.1.self_attn.k_proj.weight", &type, &again, &e));
    weights_release(w);
    ck_assert(!is_resident(middle));
    ck_assert(!weights_raw(w, name, &type, &again, &e));
    ck_assert(!memcmp(again, was, (size_t)t->bytes));
    weights_close(w);
    weights_release(w = model_files_open(GOLDEN "tiny-llama"));
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

START_TEST(a_pinned_file_must_match)
{
    char path[128], hex[HASH_SHA256_HEX];
    struct weights *w = NULL;
    struct err e = {0};
    golden_folder(model_files_folder);
    make_gguf(path);
    struct io_map map;
    ck_assert_int_eq(io_map(path, &map, &e), 0);
    ck_assert_int_eq(hash_sha256_hex(map.data, map.size, hex, &e), 0);
    io_unmap(&map);
    ck_assert_int_eq(weights_open(path, hex, &w, &e), 0);
    weights_close(w);
    hex[5] ^= 1;
    ck_assert_int_eq(weights_open(path, hex, &w, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "sha256"));
    ck_assert_int_eq(weights_open(GOLDEN "tiny-llama", hex, &w, &e), -ERR_USER);
    golden_remove(model_files_folder);
}
END_TEST

static void refuse(const char *path, const char *says)
{
    struct weights *w = NULL;
    struct err e = {0};
    ck_assert_msg(weights_open(path, NULL, &w, &e) == -ERR_DATA, "%s was accepted", says);
    ck_assert_msg(strstr(e.text, says) && strstr(e.text, model_files_folder), "%s", e.text);
}

START_TEST(broken_models_are_refused_with_their_reason)
{
    char path[128];
    golden_folder(model_files_folder);
    model_files_path(path, "absent.gguf");
    refuse(path, "No such file");
    refuse(model_files_folder, "config.json");
    model_files_copy(GOLDEN "tiny-llama/config.json", "config.json");
    refuse(model_files_folder, "model.safetensors");
    model_files_copy(GOLDEN "tiny_step.json", "model.safetensors");
    refuse(model_files_folder, "header length");
    model_files_copy(GOLDEN "tiny_lora.safetensors", "model.safetensors");
    refuse(model_files_folder, "is not known in a llama model");
    model_files_path(path, "model.safetensors.index.json");
    model_files_write(path, "{\"weight_map\":{\"a\":\"../x\"}}");
    refuse(model_files_folder, "no file name");
    model_files_write(path, "{\"weight_map\":{}}");
    refuse(model_files_folder, "model.embed_tokens.weight is missing");
    model_files_copy(GOLDEN "tiny-llama/model.safetensors", "m.safetensors");
    model_files_write(path, "{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m.safetensors\"}}");
    weights_close(model_files_open(model_files_folder));
    model_files_write(path, "{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m2.safetensors\"}}");
    refuse(
        model_files_folder, "model.safetensors.index.json: names m2.safetensors, which is missing");
    model_files_path(path, "config.json/");
    refuse(path, "config.json/: ends with a slash, but is a file");
    golden_remove(model_files_folder);
}
END_TEST

/* -- split models -- */

#define PARTS 3

/* Part i, from 0, of a whole file, at path: tensors in turn, and keys in the first alone. */
static void write_part(const struct gguf *whole, int i, int says, const char *path)
{
    struct gguf_writer *w = NULL;
    struct err e = {0};
    ck_assert(!gguf_writer_create(path, &w, &e));
    for (int64_t k = 0; !i && k < gguf_key_count(whole); k++)
        gguf_write_key(w, whole, k);
    gguf_write_u32(w, "split.no", (uint32_t)says);
    gguf_write_u32(w, "split.count", PARTS);
    for (int pass = 0; pass < 2; pass++)
        for (int k = i; k < gguf_tensor_count(whole); k += PARTS) {
            const struct gguf_tensor *t = gguf_tensor_at(whole, k);
            ck_assert(!(pass ? gguf_write_data(w, t->data, (size_t)t->bytes, &e)
                             : gguf_write_tensor(w, t->name, t->type, t->dims, t->shape, &e)));
        }
    ck_assert_msg(!gguf_write_finish(w, &e), "%s", e.text);
    gguf_writer_destroy(w);
}

static void part_path(char path[128], int i)
{
    char name[32];
    snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", i + 1, PARTS);
    model_files_path(path, name);
}

/* The tiny Llama as one file, and in parts; path: of the former. */
static void make_parts(char path[128])
{
    struct gguf *g = NULL;
    struct err e = {0};
    make_gguf(path);
    ck_assert(!gguf_open(path, &g, &e));
    for (int i = 0; i < PARTS; i++) {
        char part[128];
        part_path(part, i);
        write_part(g, i, i, part);
    }
    gguf_close(g);
}

START_TEST(parts_of_a_split_model_are_one)
{
    char path[128], first[128];
    golden_folder(model_files_folder);
    make_parts(path);
    part_path(first, 0);
    struct weights *want = model_files_open(path), *got = model_files_open(first);
    ck_assert_int_eq(weights_count(got), weights_count(want));
    for (int i = 0; i < weights_count(want); i++) {
        const char *name = weights_at(want, i)->name;
        int64_t n, m;
        mem_autofree float *a = model_files_read(want, name, &n),
                           *b = model_files_read(got, name, &m);
        ck_assert_msg(n == m && !memcmp(a, b, (size_t)n * sizeof *a), "%s", name);
    }
    uint64_t digest = weights_digest(got);
    weights_release(got);
    weights_close(want);
    weights_close(got);
    char last[128];
    part_path(last, PARTS - 1);
    buf_auto struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 24);
    ck_assert(!io_read_file(last, 1 << 24, &text, &e));
    text.data[text.len - 1] ^= 1; /* of a tensor */
    golden_write(last, text.data, text.len);
    got = model_files_open(first);
    ck_assert_uint_ne(weights_digest(got), digest);
    weights_close(got);
    golden_remove(model_files_folder);
}
END_TEST

START_TEST(parts_that_are_no_whole_are_refused)
{
    char path[128], first[128], second[128], third[128];
    struct gguf *g = NULL;
    struct weights *w = NULL;
    struct err e = {0};
    golden_folder(model_files_folder);
    make_parts(path);
    part_path(first, 0);
    part_path(second, 1);
    part_path(third, 2);
    refuse(second, "is part 2 of 3 of a split model, which is named by its first");
    ck_assert_int_eq(weights_open(first, "ab", &w, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "sha256 is for a model of one file, this has 3"));
    ck_assert(!gguf_open(path, &g, &e));
    write_part(g, 2, 1, third);
    refuse(first, "m-00003-of-00003.gguf: says that it is part 2 of 3");
    write_part(g, 1, 2, third);
    refuse(first, "stands twice");
    gguf_close(g);
    ck_assert(!remove(third));
    refuse(first, "part 3 of 3 is not beside it");
    model_files_path(path, "other.gguf");
    ck_assert(!rename(first, path));
    refuse(path, "whose name must end in -00001-of-00003.gguf");
    golden_remove(model_files_folder);
}
END_TEST

static void copy_with_mark(const char *from, const char *name)
{
    char path[128];
    buf_auto struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 20);
    buf_str(&text, "\xef\xbb\xbf");
    ck_assert_msg(io_read_file(from, 1 << 20, &text, &e) == 0, "%s", e.text);
    model_files_path(path, name);
    golden_write(path, text.data, text.len);
}

/* Editors put a byte order mark before text. */
START_TEST(a_byte_order_mark_is_dropped)
{
    golden_folder(model_files_folder);
    copy_with_mark(GOLDEN "tiny-llama/config.json", "config.json");
    copy_with_mark(GOLDEN "tiny-llama/generation_config.json", "generation_config.json");
    model_files_copy(GOLDEN "tiny-llama/model.safetensors", "model.safetensors");
    struct weights *w = model_files_open(model_files_folder);
    ck_assert(weights_ends(w, 2));
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

/* Cut anywhere, the GGUF file is refused; so are a lost and a reshaped tensor. */
START_TEST(broken_gguf_models_are_refused)
{
    char path[128];
    golden_folder(model_files_folder);
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    model_files_path(path, "cut.gguf");
    for (size_t n = 0; n < file.len; n += file.len / 40) {
        golden_write(path, file.data, n);
        refuse(path, "cut.gguf");
    }
    char *name = memmem(file.data, file.len, "blk.1.attn_v", 12);
    memcpy(name, "blk.0.attn_v", 12);
    golden_write(path, file.data, file.len);
    refuse(path, "stands twice");
    memcpy(name, "blk.7.attn_v", 12);
    golden_write(path, file.data, file.len);
    refuse(path, "is not known");
    memcpy(name, "blk.1.attn_v", 12);
    char *count = memmem(file.data, file.len, "head_count_kv", 13);
    count[13 + 4] = 4; /* after the type */
    golden_write(path, file.data, file.len);
    refuse(path, "expected (64, 64)");
    golden_remove(model_files_folder);
}
END_TEST

static int write_folder(
    struct weights *from, const char *to, enum dtype store, bool all, struct err *e)
{
    struct hf_writer *h = NULL;
    int rc = hf_writer_create(to, weights_config(from), NULL, &h, e);
    if (!rc && !weights_config(from)->labels)
        rc = tok_write(to, from, weights_config(from), e);
    for (int i = weights_count(from) - 1; !rc && i >= !all; i--) { /* any order will do */
        const struct weights_tensor *t = weights_at(from, i);
        int64_t n;
        mem_autofree float *x = model_files_read(from, t->name, &n);
        rc = hf_writer_tensor(h, t->name, t->dims, t->shape, x, store, e);
    }
    if (!rc)
        rc = hf_writer_finish(h, e);
    hf_writer_destroy(h);
    return rc;
}

START_TEST(a_written_folder_reads_back)
{
    char path[128], out[128];
    struct err e = {0};
    golden_folder(model_files_folder);
    make_gguf(path);
    model_files_path(out, "out");
    struct weights *w = model_files_open(path);
    ck_assert_msg(write_folder(w, out, DTYPE_F32, true, &e) == 0, "%s", e.text);
    struct weights *back = model_files_open(out);
    model_files_compare(w, back, 0);
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    ck_assert_msg(tok_open(back, &t, &e) == 0, "%s", e.text);
    ck_assert_int_eq(tok_encode(t, "\xc3\xa9 </s>", 7, true, &ids, &e), 0);
    ck_assert_int_eq(ids.count, 4);
    ck_assert(ids.id[0] == 0xc3 && ids.id[1] == 0xa9 && ids.id[2] == ' ');
    ck_assert(ids.id[3] == 2 && tok_eos(t) == 2 && tok_bos(t) == 1);
    tok_ids_done(&ids);
    tok_close(t);
    weights_close(back);
    model_files_path(out, "half");
    ck_assert_int_eq(write_folder(w, out, DTYPE_BF16, true, &e), 0);
    struct weights *half = model_files_open(out);
    ck_assert_int_eq(weights_at(half, 0)->type, DTYPE_BF16);
    model_files_compare(w, half, 0.01f);
    /* a folder is a source of tokenizers too */
    model_files_path(out, "again");
    ck_assert_int_eq(write_folder(half, out, DTYPE_BF16, false, &e), -ERR_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "model.embed_tokens.weight was not written"));
    ck_assert_int_eq(write_folder(half, out, DTYPE_BF16, true, &e), 0);
    weights_close(half);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

static void expect_text(const char *folder_path, const char *name, const char *want)
{
    char path[192];
    buf_auto struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 16);
    snprintf(path, sizeof path, "%s/%s", folder_path, name);
    ck_assert_msg(io_read_file(path, 1 << 16, &text, &e) == 0, "%s", e.text);
    ck_assert_msg(strstr(buf_cstr(&text), want) != NULL, "%s: %s", name, buf_cstr(&text));
}

/* Of the kind "meaning that changes silently": every end token counts, by generation_config.json
   where that says, and an export has what its source had. */
START_TEST(end_tokens_are_kept)
{
    static const struct {
        const char *config, *generation, *ends, *says; /* ends: which of ids 0 to 3 */
    } rows[] = {
        {"2", NULL, "0010", NULL},
        {"[2,0]", NULL, "1010", NULL},
        {"[2,0]", "{\"temperature\":0.5}", "1010", NULL},
        {"2", "{\"eos_token_id\":[1,3],\"top_k\":7}", "0101", NULL},
        {"[2,0]", "{\"eos_token_id\":3}", "0001", NULL},
        {"null", "{\"eos_token_id\":null}", "0000", NULL},
        {"2", "{\"eos_token_id\":[1,256]}", NULL, "generation_config.json"},
        {"2", "{\"eos_token_id\":[1,\"x\"]}", NULL, "not a list of token ids"},
        {"2", "{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}", NULL,
            "more than 16 tokens"},
    };
    char path[128], out[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weights *w = NULL;
        struct err e = {0};
        buf_auto struct buf config;
        buf_init(&config, 1 << 16);
        golden_folder(model_files_folder);
        model_files_path(out, "out");
        model_files_copy(GOLDEN "tiny-llama/model.safetensors", "model.safetensors");
        ck_assert_int_eq(io_read_file(GOLDEN "tiny-llama/config.json", 1 << 16, &config, &e), 0);
        char *at = strstr(buf_cstr(&config), "\"eos_token_id\": 2");
        ck_assert_ptr_nonnull(at);
        buf_auto struct buf changed;
        buf_init(&changed, 1 << 16);
        buf_printf(&changed, "%.*s\"eos_token_id\": %s%s", (int)(at - config.data), config.data,
            rows[i].config, at + strlen("\"eos_token_id\": 2"));
        model_files_path(path, "config.json");
        golden_write(path, changed.data, changed.len);
        model_files_path(path, "generation_config.json");
        if (rows[i].generation)
            model_files_write(path, rows[i].generation);
        int rc = weights_open(model_files_folder, NULL, &w, &e);
        if (rows[i].says) {
            ck_assert_msg(rc == -ERR_DATA && strstr(e.text, rows[i].says), "%zu: %s", i, e.text);
        } else {
            ck_assert_msg(rc == 0, "%zu: %s", i, e.text);
            for (int32_t id = 0; id < 4; id++)
                ck_assert_msg(weights_ends(w, id) == (rows[i].ends[id] == '1'), "%zu: %d", i, id);
            ck_assert(!weights_ends(w, -1));
            ck_assert_msg(write_folder(w, out, DTYPE_F32, true, &e) == 0, "%s", e.text);
            if (rows[i].generation)
                expect_text(out, "generation_config.json", rows[i].generation);
            struct weights *back = model_files_open(out);
            for (int32_t id = 0; id < 4; id++)
                ck_assert_int_eq(weights_ends(back, id), rows[i].ends[id] == '1');
            if (*rows[i].config == '[')
                expect_text(out, "config.json", "\"eos_token_id\":[2,0]");
            weights_close(back);
        }
        weights_close(w);
        golden_remove(model_files_folder);
    }
}
END_TEST

/* -- GPT-2: q, k and v in one, matrices stored (in, out) -- */

static const float *golden_tensor(const struct safetensors *s, const char *name)
{
    const struct safetensors_tensor *t = safetensors_find(s, name);
    ck_assert_msg(t != NULL, "%s", name);
    return (const float *)(const void *)t->data;
}

START_TEST(gpt2_is_split_and_transposed)
{
    struct weights *w = model_files_open(GOLDEN "tiny-gpt2");
    struct safetensors *s = NULL;
    struct err e = {0};
    ck_assert_int_eq(safetensors_open(GOLDEN "tiny-gpt2/model.safetensors", &s, &e), 0);
    const float *attn = golden_tensor(s, "transformer.h.1.attn.c_attn.weight");
    const float *bias = golden_tensor(s, "transformer.h.1.attn.c_attn.bias");
    const float *down = golden_tensor(s, "transformer.h.0.mlp.c_proj.weight");
    float part[3][32], vector[8];
    uint16_t half[32];
    ck_assert_int_eq(weights_read(w, "model.layers.1.self_attn.v_proj.weight", 32, 32, 5, 3,
                         DTYPE_F32, part, &e),
        0);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 32; c++)
            ck_assert(part[r][c] == attn[c * 96 + 64 + 5 + r]);
    ck_assert_int_eq(weights_read(w, "model.layers.1.self_attn.k_proj.bias", 32, 1, 24, 8,
                         DTYPE_F32, vector, &e),
        0);
    ck_assert_mem_eq(vector, bias + 32 + 24, sizeof vector);
    int64_t n;
    mem_autofree float *all = model_files_read(w, "model.layers.0.mlp.down_proj.weight", &n);
    for (int64_t i = 0; i < n; i++)
        ck_assert(all[i] == down[i % 128 * 32 + i / 128]);
    ck_assert_int_eq(weights_read(w, "model.layers.1.self_attn.q_proj.weight", 32, 32, 31, 1,
                         DTYPE_BF16, half, &e),
        0);
    for (int c = 0; c < 32; c++)
        ck_assert_uint_eq(half[c], f32_to_bf16(attn[c * 96 + 31]));
    enum dtype type;
    const void *raw;
    ck_assert_int_eq(weights_raw(w, "model.layers.0.mlp.down_proj.weight", &type, &raw, &e), 0);
    ck_assert_mem_eq(raw, all, (size_t)n * 4);
    ck_assert_int_eq(weights_raw(w, "model.layers.1.self_attn.k_proj.bias", &type, &raw, &e), 0);
    ck_assert_mem_eq(raw, bias + 32, 32 * 4);
    safetensors_close(s);
    weights_close(w);
}
END_TEST

/* The first published checkpoints have no "transformer." and carry their masks along. */
START_TEST(old_gpt2_names_are_known)
{
    char path[128];
    golden_folder(model_files_folder);
    model_files_copy(GOLDEN "tiny-gpt2/config.json", "config.json");
    model_files_copy(GOLDEN "tiny_gpt2_step.safetensors", "model.safetensors");
    struct weights *w = model_files_open(model_files_folder);
    ck_assert_int_eq(weights_count(w), 36);
    weights_close(w);
    static const float mask[4] = {0};
    struct safetensors_entry entry = {
        .name = "h.0.attn.bias", .type = DTYPE_F32, .dims = 4, .shape = {1, 1, 2, 2}};
    entry.bytes = sizeof mask;
    buf_auto struct buf file;
    struct err e = {0};
    buf_init(&file, 1 << 16);
    static const char *const none[] = {NULL};
    ck_assert_int_eq(safetensors_header(&entry, 1, none, 0, &file, &e), 0);
    buf_add(&file, mask, sizeof mask);
    model_files_path(path, "masks.safetensors");
    golden_write(path, file.data, file.len);
    model_files_path(path, "model.safetensors.index.json");
    model_files_write(
        path, "{\"weight_map\":{\"a\":\"model.safetensors\",\"b\":\"masks.safetensors\"}}");
    weights_close(model_files_open(model_files_folder));
    golden_remove(model_files_folder);
}
END_TEST

START_TEST(gpt2_in_gguf_gives_the_same_tensors)
{
    char path[128];
    buf_auto struct buf file;
    golden_folder(model_files_folder);
    buf_init(&file, 1 << 24);
    gguf_make_gpt2(&file);
    model_files_path(path, "gpt2.gguf");
    golden_write(path, file.data, file.len);
    struct weights *hf = model_files_open(GOLDEN "tiny-gpt2"), *gguf = model_files_open(path);
    const struct model_config *c = weights_config(gguf);
    ck_assert(c->norm == NORM_LAYER && c->activation == ACTIVATION_GELU && c->tied_embeddings);
    ck_assert(c->positions == POSITIONS_LEARNED && c->qkv_bias && c->o_bias && c->ffn_bias);
    ck_assert(c->kv_heads == 4 && c->head_dim == 8 && c->context == 48);
    model_files_compare(hf, gguf, 0.002f); /* half a step of Q8_0 */
    int64_t n;
    mem_autofree float *q = model_files_read(hf, "model.layers.0.self_attn.k_proj.weight", &n);
    mem_autofree float *p = model_files_read(gguf, "model.layers.0.self_attn.k_proj.weight", &n);
    ck_assert_mem_eq(p, q, (size_t)n * 4);
    /* the rows of v within joined blocks */
    enum dtype type;
    const void *raw;
    struct err e = {0};
    const char *v = "model.layers.1.self_attn.v_proj.weight";
    mem_autofree float *want = model_files_read(gguf, v, &n),
                       *got = mem_array((size_t)n, sizeof *got);
    ck_assert_int_eq(weights_raw(gguf, v, &type, &raw, &e), 0);
    ck_assert_int_eq(type, DTYPE_Q8_0);
    quant_decode(type, raw, n, got);
    ck_assert_mem_eq(got, want, (size_t)n * 4);
    weights_close(hf);
    weights_close(gguf);
    golden_remove(model_files_folder);
}
END_TEST

/* -- writing again -- */

/* Written again, a model is tensor by tensor what transformers had written, names and all. */
static void check_rewritten(const char *source, enum dtype store)
{
    char out[128], path[192];
    struct err e = {0};
    golden_folder(model_files_folder);
    model_files_path(out, "out");
    struct weights *w = model_files_open(source);
    ck_assert_msg(write_folder(w, out, store, true, &e) == 0, "%s", e.text);
    struct weights *back = model_files_open(out);
    model_files_compare(w, back, store == DTYPE_F32 ? 0 : 0.01f);
    struct safetensors *a = NULL, *b = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", source);
    ck_assert_int_eq(safetensors_open(path, &a, &e), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", out);
    ck_assert_int_eq(safetensors_open(path, &b, &e), 0);
    ck_assert_int_eq(safetensors_count(a), safetensors_count(b));
    for (int i = 0; i < safetensors_count(a); i++) {
        const struct safetensors_tensor *t = safetensors_at(a, i);
        const struct safetensors_tensor *u = safetensors_find(b, t->name);
        ck_assert_msg(u != NULL && u->dims == t->dims && u->shape[0] == t->shape[0], "%s", t->name);
        ck_assert_msg(u->bytes == dtype_bytes(store, t->bytes / 4), "%s", t->name);
        if (store == DTYPE_F32)
            ck_assert_msg(!memcmp(u->data, t->data, (size_t)t->bytes), "%s", t->name);
    }
    safetensors_close(a);
    safetensors_close(b);
    weights_close(back);
    weights_close(w);
    golden_remove(model_files_folder);
}

START_TEST(what_is_written_is_what_transformers_wrote)
{
    check_rewritten(GOLDEN "tiny-llama", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-gpt2", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-gpt2", DTYPE_BF16);
    check_rewritten(GOLDEN "tiny-qwen2", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-bert", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-bert-texts", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-qwen3-moe", DTYPE_F32);
    check_rewritten(GOLDEN "tiny-mixtral", DTYPE_BF16);
}
END_TEST

START_TEST(what_cannot_be_expressed_is_not_written)
{
    struct model_config c;
    struct hf_writer *h = NULL;
    struct err e = {0};
    struct weights *w = model_files_open(GOLDEN "tiny-gpt2");
    golden_folder(model_files_folder);
    c = *weights_config(w);
    c.o_bias = false;
    ck_assert_int_eq(hf_writer_create(model_files_folder, &c, NULL, &h, &e), -ERR_DATA);
    ck_assert_ptr_null(h);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

static int open_folder(void *user)
{
    struct weights *w = NULL;
    struct err e = {0};
    int rc = weights_open(user, NULL, &w, &e);
    weights_close(w);
    return rc;
}

static int write_out(void *user)
{
    struct err e = {0};
    char out[128];
    model_files_path(out, "out");
    return write_folder(user, out, DTYPE_F32, true, &e);
}

/* A transposed part of a tensor, there and back. */
static int read_and_write_one(void *user)
{
    static const char name[] = "model.layers.0.self_attn.k_proj.weight";
    struct hf_writer *h = NULL;
    struct err e = {0};
    float x[32 * 32];
    char out[128];
    model_files_path(out, "one");
    int rc = weights_read(user, name, 32, 32, 0, 32, DTYPE_F32, x, &e);
    if (!rc && !(rc = hf_writer_create(out, weights_config(user), NULL, &h, &e)))
        rc = hf_writer_tensor(h, name, 2, (const int64_t[]){32, 32}, x, DTYPE_BF16, &e);
    hf_writer_destroy(h);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    char path[128];
    golden_folder(model_files_folder);
    make_gguf(path);
    fault_each(FAULT_MEM, open_folder, path);
    fault_each(FAULT_MEM, open_folder, (char *)GOLDEN "tiny-llama");
    fault_each(FAULT_MEM, open_folder, (char *)GOLDEN "tiny-gpt2");
    fault_each(FAULT_MEM, open_folder, (char *)GOLDEN "tiny-bert");
    fault_each(FAULT_MEM, open_folder, (char *)GOLDEN "tiny-mixtral");
    struct weights *w = model_files_open(GOLDEN "tiny-llama");
    fault_each(FAULT_IO, write_out, w);
    weights_close(w);
    w = model_files_open(GOLDEN "tiny-gpt2");
    fault_each(FAULT_IO, write_out, w);
    fault_each(FAULT_MEM, read_and_write_one, w);
    weights_close(w);
    golden_remove(model_files_folder);
}
END_TEST

/* A GGUF file has the experts of a layer as one tensor, and calls a Mixtral a llama. */
START_TEST(experts_of_both_formats_are_one_model)
{
    static const char *const names[] = {"qwen3-moe", "mixtral"};
    golden_folder(model_files_folder);
    for (int i = 0; i < 4; i++) {
        char path[128], from[64];
        buf_auto struct buf file;
        buf_init(&file, 1 << 24);
        gguf_make_mixture(names[i / 2], i % 2, &file);
        model_files_path(path, "experts.gguf");
        golden_write(path, file.data, file.len);
        snprintf(from, sizeof from, GOLDEN "tiny-%s", names[i / 2]);
        struct weights *hf = model_files_open(from), *gguf = model_files_open(path);
        const struct model_config *c = weights_config(gguf), *want = weights_config(hf);
        ck_assert_str_eq(c->architecture, want->architecture);
        ck_assert(c->experts == 4 && c->experts_per_token == 2 && c->norm_topk);
        ck_assert_int_eq(c->expert_ffn_dim, want->expert_ffn_dim);
        model_files_compare(hf, gguf, i % 2 ? 0.003f : 0); /* half a step of Q8_0 */
        weights_close(hf);
        weights_close(gguf);
    }
    golden_remove(model_files_folder);
}
END_TEST

UNIT_MAIN("weights", both_formats_give_the_same_tensors, rows_and_types_are_as_asked,
    released_pages_come_back, a_pinned_file_must_match, broken_models_are_refused_with_their_reason,
    broken_gguf_models_are_refused, parts_of_a_split_model_are_one,
    parts_that_are_no_whole_are_refused, a_byte_order_mark_is_dropped, gpt2_is_split_and_transposed,
    old_gpt2_names_are_known, gpt2_in_gguf_gives_the_same_tensors,
    what_is_written_is_what_transformers_wrote, what_cannot_be_expressed_is_not_written,
    a_written_folder_reads_back, end_tokens_are_kept, experts_of_both_formats_are_one_model,
    failed_calls_are_reported)
