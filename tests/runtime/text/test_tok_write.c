/*
 * Goal: a written folder has the tokenizer of its source. Method: from the golden folder, files
 * byte by byte, and those that it lacks; from a GGUF file of the same tokenizer, opened again and
 * compared id by id, and the configuration's fields; a path that is too long; failing
 * calls; and a folder made of it as keys again, which are the file's own; published tokenizers by
 * the names that GGUF files have for them.
 * needs: faults
 */
#include "runtime/text/tok_write.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/json.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#define SOURCE GOLDEN "tiny-llama"

static char folder[64], out[128];
static struct err e;

static struct weights *open_gguf(void)
{
    char path[128];
    struct weights *w = NULL;
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    golden_write(path, file.data, file.len);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    return w;
}

static void setup(void)
{
    golden_folder(folder);
    snprintf(out, sizeof out, "%s/out", folder);
    ck_assert(!io_mkdirs(out, 0755, &e));
}

static void read_file(const char *in, const char *name, struct buf *text)
{
    char path[192];
    buf_init(text, 1 << 24);
    snprintf(path, sizeof path, "%s/%s", in, name);
    if (io_exists(path))
        ck_assert_msg(!io_read_file(path, 1 << 24, text, &e), "%s", e.text);
}

/* The file in both folders: the same bytes, or in neither. */
static void check_file(const char *name)
{
    buf_auto struct buf from = {0}, to = {0};
    read_file(SOURCE, name, &from);
    read_file(out, name, &to);
    ck_assert_msg(from.len == to.len, "%s", name);
    ck_assert_msg(!from.len || !memcmp(from.data, to.data, from.len), "%s", name);
}

START_TEST(files_of_a_folder_are_copied)
{
    struct weights *w = NULL;
    setup();
    ck_assert_msg(!weights_open(SOURCE, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!tok_write(out, w, weights_config(w), &e), "%s", e.text);
    check_file("tokenizer.json");
    check_file("tokenizer_config.json");
    check_file("special_tokens_map.json");
    check_file("chat_template.jinja");
    check_file("generation_config.json");
    weights_close(w);
    golden_remove(folder);
}
END_TEST

/* A folder of the time before tokenizer.json. */
START_TEST(a_vocabulary_is_copied)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    static const char vocab[] = "[UNK]\n[CLS]\n[SEP]\na\n";
    char source[128], path[192];
    struct weights *w = NULL;
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    setup();
    snprintf(source, sizeof source, "%s/source", folder);
    ck_assert(!io_mkdirs(source, 0755, &e));
    for (int i = 0; i < 2; i++) {
        buf_auto struct buf text = {0};
        read_file(SOURCE, files[i], &text);
        snprintf(path, sizeof path, "%s/%s", source, files[i]);
        golden_write(path, text.data, text.len);
    }
    snprintf(path, sizeof path, "%s/vocab.txt", source);
    golden_write(path, vocab, sizeof vocab - 1);
    ck_assert_msg(!weights_open(source, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!tok_write(out, w, weights_config(w), &e), "%s", e.text);
    ck_assert_msg(!tok_open_folder(out, -1, -1, &t, &e), "%s", e.text);
    ck_assert(!tok_encode_document(t, "A b", 3, &ids, &e));
    ck_assert(ids.count == 4 && ids.id[1] == 3 && ids.id[2] == 0);
    tok_ids_done(&ids);
    tok_close(t);
    ck_assert_msg(!tok_open(w, &t, &e), "%s", e.text);
    tok_close(t);
    weights_close(w);
    golden_remove(folder);
}
END_TEST

START_TEST(a_gguf_files_tokenizer_is_converted)
{
    static const char text[] = "\xc3\xa9 a </s>";
    char path[192];
    struct tok *want = NULL, *got = NULL;
    struct tok_ids a = {0}, b = {0};
    setup();
    struct weights *w = open_gguf();
    ck_assert_msg(!tok_write(out, w, weights_config(w), &e), "%s", e.text);
    ck_assert_msg(!tok_open(w, &want, &e), "%s", e.text);
    ck_assert_msg(!tok_open_folder(out, -1, -1, &got, &e), "%s", e.text);
    ck_assert_int_eq(tok_vocab(want), tok_vocab(got));
    ck_assert(tok_bos(got) == tok_bos(want) && tok_eos(got) == tok_eos(want));
    ck_assert(!tok_encode(want, text, sizeof text - 1, true, &a, &e));
    ck_assert(!tok_encode(got, text, sizeof text - 1, true, &b, &e));
    ck_assert_int_gt(a.count, 0);
    ck_assert_int_eq(a.count, b.count);
    ck_assert_mem_eq(a.id, b.id, (size_t)a.count * sizeof *a.id);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", out);
    json_auto struct json *v = golden_json(path);
    ck_assert_int_eq(json_int(v, "model_max_length", 0), weights_config(w)->context);
    ck_assert_str_eq(json_str(v, "eos_token", ""), "</s>");
    ck_assert(json_is_null(json_get(v, "pad_token")));
    tok_ids_done(&a);
    tok_ids_done(&b);
    tok_close(want);
    tok_close(got);
    weights_close(w);
    golden_remove(folder);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_refused)
{
    char path[LIMIT_PATH_BYTES];
    setup();
    struct weights *w = open_gguf();
    memset(path, 'a', sizeof path);
    path[sizeof path - 8] = 0;
    ck_assert_int_eq(tok_write(path, w, weights_config(w), &e), -ERR_USER);
    weights_close(w);
    golden_remove(folder);
}
END_TEST

static int write_one(void *user)
{
    return tok_write(out, user, weights_config(user), &(struct err){0});
}

START_TEST(failing_calls_are_reported)
{
    setup();
    struct weights *w = open_gguf();
    fault_each(FAULT_MEM, write_one, w);
    fault_each(FAULT_IO, write_one, w);
    weights_close(w);
    golden_remove(folder);
}
END_TEST

/* Key i of `got` says what the other file's does. */
static void same_key(const struct gguf *want, const struct gguf *got, int64_t i)
{
    struct gguf_str name = gguf_key_name(got, i), other = {"", 0};
    enum gguf_type a, b;
    const void *x, *y;
    size_t n, m;
    int64_t k = 0;
    for (; k < gguf_key_count(want); k++) {
        other = gguf_key_name(want, k);
        if (other.len == name.len && !memcmp(other.s, name.s, name.len))
            break;
    }
    ck_assert_msg(k < gguf_key_count(want), "%.*s", (int)name.len, name.s);
    gguf_key_value(got, i, &a, &x, &n);
    gguf_key_value(want, k, &b, &y, &m);
    ck_assert_msg(a == b && n == m && !memcmp(x, y, n), "%.*s", (int)name.len, name.s);
}

/* What a GGUF file says of a tokenizer is what it says again, after a folder was made of it. */
START_TEST(a_folders_tokenizer_becomes_keys)
{
    static const char *const files[] = {
        "config.json", "generation_config.json", "model.safetensors"};
    static const char *const keys[] = {"tokenizer.ggml.model", "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.chat_template"};
    char path[192];
    struct gguf_writer *to = NULL;
    struct gguf *got = NULL;
    struct weights *w = NULL;
    int found = 0;
    setup();
    struct weights *from = open_gguf();
    ck_assert_msg(!tok_write(out, from, weights_config(from), &e), "%s", e.text);
    for (int i = 0; i < 3; i++) {
        buf_auto struct buf text = {0};
        read_file(SOURCE, files[i], &text);
        snprintf(path, sizeof path, "%s/%s", out, files[i]);
        golden_write(path, text.data, text.len);
    }
    ck_assert_msg(!weights_open(out, NULL, &w, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/keys.gguf", folder);
    ck_assert(!gguf_writer_create(path, &to, &e));
    ck_assert_msg(!tok_gguf_write(w, to, &e), "%s", e.text);
    ck_assert(!gguf_write_tensor(to, "x", DTYPE_F32, 1, (const int64_t[]){1}, &e));
    ck_assert(!gguf_write_data(to, &(float){1}, 4, &e) && !gguf_write_finish(to, &e));
    gguf_writer_destroy(to);
    ck_assert_msg(!gguf_open(path, &got, &e), "%s", e.text);
    for (int64_t i = 0; i < gguf_key_count(got); i++)
        for (int k = 0; k < 8; k++) {
            struct gguf_str name = gguf_key_name(got, i);
            if (name.len != strlen(keys[k]) || memcmp(name.s, keys[k], name.len))
                continue;
            found++;
            same_key(weights_gguf(from), got, i);
        }
    ck_assert_int_eq(found, 8);
    gguf_close(got);
    weights_close(w);
    weights_close(from);
    golden_remove(folder);
}
END_TEST

static int take_name(void *user, const struct tok_def *d, const char *path, struct err *why)
{
    *(const char **)user = tok_gguf_pre(d);
    (void)path;
    (void)why;
    return 0;
}

START_TEST(published_tokenizers_have_their_names_or_none)
{
    static const char *const models[][2] = {{"tokenizer-qwen3", "qwen2"},
        {"tokenizer-llama3", "llama-bpe"}, {"tokenizer-llama3-1", "llama-bpe"},
        {"tokenizer-gemma3", NULL}, {"tokenizer-deepseek-v3", NULL}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[1024];
        const char *name = "";
        if (!golden_fetch(models[i][0], path))
            continue;
        ck_assert_msg(!tok_def_folder(path, take_name, &name, &e), "%s", e.text);
        if (models[i][1])
            ck_assert_str_eq(name ? name : "none", models[i][1]);
        else
            ck_assert_ptr_null(name);
    }
}
END_TEST

UNIT_MAIN("tok_write", files_of_a_folder_are_copied, a_vocabulary_is_copied,
    a_gguf_files_tokenizer_is_converted, a_path_that_is_too_long_is_refused,
    failing_calls_are_reported, a_folders_tokenizer_becomes_keys,
    published_tokenizers_have_their_names_or_none)
