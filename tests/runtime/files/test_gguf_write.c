/*
 * Goal: a written GGUF file is what others write and read. Method: a file of every kind of key and
 * tensor against the one that the gguf package wrote of the same (tests/golden/make_gguf.py), byte
 * by byte, data given in pieces of many sizes; keys copied from one file to another; what does not
 * fit its announcement; failing calls.
 * needs: faults
 */
#include "runtime/files/gguf_write.h"

#include "kernels/quant_encode.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#define ROWS    6
#define COLUMNS 64

static const struct {
    const char *name;
    enum dtype type;
} tensors[] = {{"f32.weight", DTYPE_F32}, {"bf16.weight", DTYPE_BF16}, {"f16.weight", DTYPE_F16},
    {"q8_0.weight", DTYPE_Q8_0}, {"q4_0.weight", DTYPE_Q4_0}, {"q5_0.weight", DTYPE_Q5_0}};
#define TENSORS ((int)(sizeof tensors / sizeof *tensors))

static char folder[64], path[128];

/* As the generator's. */
static void make_numbers(float x[ROWS * COLUMNS])
{
    for (uint64_t i = 0; i < ROWS * COLUMNS; i++)
        x[i] = (float)((double)(int32_t)((i + 1) * 2654435761u) / 0x1p31);
    for (int i = 0; i < COLUMNS; i++) {
        x[(ROWS - 1) * COLUMNS + i] = i == 37 ? -0.375f : 0;
        x[(ROWS - 2) * COLUMNS + i] = 0.25f;
    }
}

static void put_keys(struct gguf_writer *w)
{
    static const struct gguf_str texts[] = {{"one", 3}, {"", 0}, {"\xc4\xa0three", 7}};
    static const int32_t numbers[] = {1, -2, 3};
    gguf_write_str(w, "general.architecture", "llama", 5);
    gguf_write_u32(w, "a.number", 4000000000u);
    gguf_write_f32(w, "a.fraction", 1e-5f);
    gguf_write_bool(w, "a.truth", true);
    gguf_write_str(w, "a.text", "\xc4\xa0w\xc3\xb6rld", 8);
    gguf_write_strs(w, "some.texts", texts, 3);
    gguf_write_i32s(w, "some.numbers", numbers, 3);
}

static int announce(struct gguf_writer *w, struct err *e)
{
    int rc = gguf_write_tensor(w, "norm.weight", DTYPE_F32, 1, (const int64_t[]){7}, e);
    for (int i = 0; i < TENSORS && !rc; i++)
        rc = gguf_write_tensor(
            w, tensors[i].name, tensors[i].type, 2, (const int64_t[]){ROWS, COLUMNS}, e);
    return rc;
}

/* In pieces of `piece` bytes. */
static int put_data(struct gguf_writer *w, size_t piece, struct err *e)
{
    float x[ROWS * COLUMNS];
    uint8_t out[sizeof x];
    make_numbers(x);
    int rc = gguf_write_data(w, x, 7 * sizeof *x, e);
    for (int i = 0; i < TENSORS && !rc; i++) {
        size_t bytes = (size_t)dtype_bytes(tensors[i].type, ROWS * COLUMNS);
        quant_encode(tensors[i].type, x, ROWS * COLUMNS, NULL, out);
        for (size_t at = 0, n; at < bytes && !rc; at += n) {
            n = bytes - at < piece ? bytes - at : piece;
            rc = gguf_write_data(w, out + at, n, e);
        }
    }
    return rc;
}

static int write_all(size_t piece, struct err *e)
{
    struct gguf_writer *w = NULL;
    int rc = gguf_writer_create(path, &w, e);
    if (rc)
        return rc;
    put_keys(w);
    if (!(rc = announce(w, e)) && !(rc = put_data(w, piece, e)))
        rc = gguf_write_finish(w, e);
    gguf_writer_destroy(w);
    return rc;
}

static void setup(void)
{
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/written.gguf", folder);
}

START_TEST(it_is_byte_by_byte_what_the_gguf_package_writes)
{
    static const size_t pieces[] = {1, 31, 1 << 20};
    struct err e = {0};
    buf_auto struct buf want;
    buf_init(&want, 1 << 20);
    setup();
    ck_assert_msg(!io_read_file(GOLDEN "written.gguf", 1 << 20, &want, &e), "%s", e.text);
    for (int i = 0; i < 3; i++) {
        buf_auto struct buf got;
        buf_init(&got, 1 << 20);
        ck_assert_msg(!write_all(pieces[i], &e), "%s", e.text);
        ck_assert_int_eq(io_read_file(path, 1 << 20, &got, &e), 0);
        ck_assert_uint_eq(got.len, want.len);
        for (size_t k = 0; k < got.len; k++)
            ck_assert_msg(got.data[k] == want.data[k], "byte %zu of %zu differs", k, got.len);
    }
    golden_remove(folder);
}
END_TEST

START_TEST(keys_are_copied_as_they_stand)
{
    struct err e = {0};
    struct gguf *from = NULL, *to = NULL;
    struct gguf_writer *w = NULL;
    setup();
    ck_assert_msg(!gguf_open(GOLDEN "written.gguf", &from, &e), "%s", e.text);
    ck_assert_int_eq(gguf_writer_create(path, &w, &e), 0);
    for (int64_t i = 0; i < gguf_key_count(from); i++)
        gguf_write_key(w, from, i);
    ck_assert_int_eq(gguf_write_tensor(w, "x", DTYPE_F32, 1, (const int64_t[]){1}, &e), 0);
    ck_assert_int_eq(gguf_write_data(w, &(float){1}, 4, &e), 0);
    ck_assert_int_eq(gguf_write_finish(w, &e), 0);
    gguf_writer_destroy(w);
    ck_assert_msg(!gguf_open(path, &to, &e), "%s", e.text);
    ck_assert_int_eq(gguf_key_count(to), gguf_key_count(from));
    ck_assert_int_eq(gguf_key_count(to), 7);
    for (int64_t i = 0; i < 7; i++) {
        enum gguf_type a, b;
        const void *x, *y;
        size_t n, m;
        gguf_key_value(from, i, &a, &x, &n);
        gguf_key_value(to, i, &b, &y, &m);
        ck_assert_int_eq(a, b);
        ck_assert_uint_eq(n, m);
        ck_assert_mem_eq(x, y, n);
    }
    gguf_close(from);
    gguf_close(to);
    golden_remove(folder);
}
END_TEST

START_TEST(what_was_not_announced_is_not_taken)
{
    struct err e = {0};
    struct gguf_writer *w = NULL;
    const float x[8] = {0};
    setup();
    ck_assert_int_eq(gguf_writer_create(path, &w, &e), 0);
    ck_assert_int_eq(
        gguf_write_tensor(w, "q", DTYPE_Q8_0, 2, (const int64_t[]){2, 31}, &e), -ERR_BUG);
    ck_assert_int_eq(
        gguf_write_tensor(w, "i", DTYPE_F32, 2, (const int64_t[]){INT64_MAX, 2}, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_int_eq(gguf_write_tensor(w, "a", DTYPE_F32, 1, (const int64_t[]){4}, &e), 0);
    ck_assert_int_eq(gguf_write_tensor(w, "b", DTYPE_F32, 1, (const int64_t[]){4}, &e), 0);
    ck_assert_int_eq(gguf_write_data(w, x, 32, &e), -ERR_BUG);
    ck_assert_int_eq(gguf_write_data(w, x, 16, &e), 0);
    ck_assert_int_eq(gguf_write_tensor(w, "c", DTYPE_F32, 1, (const int64_t[]){4}, &e), -ERR_BUG);
    ck_assert_int_eq(gguf_write_finish(w, &e), -ERR_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "tensor 2 of 2 is incomplete"));
    ck_assert_int_eq(gguf_write_data(w, x, 16, &e), 0);
    ck_assert_int_eq(gguf_write_data(w, x, 4, &e), -ERR_BUG);
    ck_assert_int_eq(gguf_write_finish(w, &e), 0);
    gguf_writer_destroy(w);
    golden_remove(folder);
}
END_TEST

static int write_once(void *user)
{
    struct err e = {0};
    int rc = write_all(1 << 20, &e);
    (void)user;
    ck_assert_int_eq(rc, -(int)e.code);
    return rc;
}

START_TEST(each_failure_is_told)
{
    setup();
    fault_each(FAULT_MEM, write_once, NULL);
    fault_each(FAULT_IO, write_once, NULL);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("gguf_write", it_is_byte_by_byte_what_the_gguf_package_writes,
    keys_are_copied_as_they_stand, what_was_not_announced_is_not_taken, each_failure_is_told)
