/*
 * Goal: a GGUF file is read as it was written, and no broken file is accepted or read past. Method:
 * files made by a writer of the test's own; a table of mistakes, each of which must be named; every
 * truncation; random damage (under ASAN in the asan build).
 * needs: faults
 */
#include "runtime/files/gguf.h"

#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <time.h>

static const int64_t two_rows[2] = {4, 2};
static const float numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static void make_good(struct buf *out)
{
    static const char *const words[] = {"alpha", "", "gamma"};
    struct gguf_make m;
    gguf_make_init(&m);
    gguf_make_str(&m, "general.name", "test");
    gguf_make_u32(&m, "count", 42);
    gguf_make_f32(&m, "ratio", 0.5f);
    gguf_make_raw(&m, "flag", 7, "\1", 1);
    gguf_make_raw(&m, "minus", 1, "\xff", 1);
    gguf_make_raw(&m, "big", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    gguf_make_strs(&m, "words", words, 3);
    gguf_make_i32s(&m, "ids", (const int32_t[]){7, -1, 9}, 3);
    gguf_make_raw(&m, "nums", 9, "\6\0\0\0\2\0\0\0\0\0\0\0\0\0\xc0\x3f\0\0\0\xbf", 20);
    gguf_make_raw(&m, "bytes", 9, "\0\0\0\0\3\0\0\0\0\0\0\0\1\xff\0", 15);
    gguf_make_tensor(&m, "b.weight", 0, 2, two_rows, -1, numbers, sizeof numbers);
    gguf_make_tensor(&m, "a.weight", 0, 1, two_rows, -1, numbers, 16);
    gguf_make_finish(&m, out);
    gguf_make_done(&m);
}

START_TEST(what_was_written_is_read)
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    make_good(&file);
    struct gguf *g = NULL;
    struct err e = {0};
    ck_assert_msg(gguf_parse(file.data, file.len, "good", &g, &e) == 0, "%s", e.text);
    int64_t i, count;
    double d;
    struct gguf_str s, *words;
    int64_t *ids;
    ck_assert_int_eq(gguf_int(g, "count", 0, 100, &i, &e), 0);
    ck_assert_int_eq(i, 42);
    ck_assert_int_eq(gguf_int(g, "minus", -5, 5, &i, &e), 0);
    ck_assert_int_eq(i, -1);
    ck_assert_int_eq(gguf_int(g, "count", 0, 41, &i, &e), -ERR_DATA);
    ck_assert_int_eq(gguf_int(g, "big", 0, INT64_MAX, &i, &e), -ERR_DATA);
    ck_assert_int_eq(gguf_int(g, "ratio", 0, 41, &i, &e), -ERR_DATA);
    ck_assert_int_eq(gguf_num(g, "ratio", &d, &e), 0);
    ck_assert_double_eq(d, 0.5);
    ck_assert_int_eq(gguf_string(g, "general.name", &s, &e), 0);
    ck_assert(s.len == 4 && !memcmp(s.s, "test", 4));
    ck_assert_int_eq(gguf_string(g, "general", &s, &e), -ERR_DATA);
    ck_assert(gguf_bool(g, "flag", false) && gguf_bool(g, "none", true));
    ck_assert(gguf_has(g, "ids") && !gguf_has(g, "id"));
    ck_assert_int_eq(gguf_strings(g, "words", &words, &count, &e), 0);
    ck_assert(count == 3 && words[1].len == 0 && !memcmp(words[2].s, "gamma", 5));
    ck_assert_int_eq(gguf_ints(g, "ids", &ids, &count, &e), 0);
    ck_assert(count == 3 && ids[1] == -1 && ids[2] == 9);
    ck_assert_int_eq(gguf_strings(g, "ids", &words, &count, &e), -ERR_DATA);
    double *nums;
    ck_assert_int_eq(gguf_nums(g, "nums", &nums, &count, &e), 0);
    ck_assert(count == 2 && nums[0] == 1.5 && nums[1] == -0.5);
    ck_assert_int_eq(gguf_nums(g, "ids", &nums, &count, &e), -ERR_DATA);
    ck_assert_int_eq(gguf_byte_array(g, "bytes", &s, &e), 0);
    ck_assert(s.len == 3 && !memcmp(s.s, "\1\xff", 3));
    ck_assert_int_eq(gguf_byte_array(g, "nums", &s, &e), -ERR_DATA);
    mem_free(nums);
    mem_free(words);
    mem_free(ids);

    ck_assert_int_eq(gguf_tensor_count(g), 2);
    const struct gguf_tensor *t = gguf_tensor_at(g, 0);
    ck_assert_str_eq(t->name, "b.weight");
    ck_assert(t->dims == 2 && t->shape[0] == 2 && t->shape[1] == 4 && t->bytes == 32);
    ck_assert_mem_eq(t->data, numbers, 32);
    ck_assert_str_eq(gguf_tensor_at(g, 1)->name, "a.weight");
    gguf_close(g);
    gguf_close(NULL);
}
END_TEST

/* ggml's number of each type that is read, and what 256 elements of it take. */
START_TEST(types_are_known_by_their_numbers)
{
    static const struct {
        uint32_t type;
        const char *name;
        int64_t bytes;
    } rows[] = {
        {0, "f32", 1024},
        {1, "f16", 512},
        {2, "q4_0", 144},
        {3, "q4_1", 160},
        {6, "q5_0", 176},
        {7, "q5_1", 192},
        {8, "q8_0", 272},
        {12, "q4_k", 144},
        {13, "q5_k", 176},
        {14, "q6_k", 210},
        {26, "i32", 1024},
        {30, "bf16", 512},
    };
    static const char data[1024];
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_make m;
        struct gguf *g = NULL;
        struct err e = {0};
        gguf_make_init(&m);
        gguf_make_tensor(
            &m, "t", rows[i].type, 1, (const int64_t[]){256}, -1, data, (size_t)rows[i].bytes);
        gguf_make_finish(&m, &file);
        gguf_make_done(&m);
        ck_assert_msg(gguf_parse(file.data, file.len, "made", &g, &e) == 0, "%s", e.text);
        ck_assert_str_eq(dtype_name(gguf_tensor_at(g, 0)->type), rows[i].name);
        ck_assert_int_eq(gguf_tensor_at(g, 0)->bytes, rows[i].bytes);
        gguf_close(g);
    }
}
END_TEST

/* Each makes one mistake in an otherwise good file; error: what the message must say. */
enum mistake {
    VERSION,
    TENSOR_COUNT,
    KEY_COUNT,
    KEY_TYPE,
    KEY_TWICE,
    STRING_LENGTH,
    ARRAY_LENGTH,
    ARRAY_BEYOND,
    ARRAY_NESTED,
    ALIGNMENT_ODD,
    ALIGNMENT_ZERO,
    TENSOR_TYPE,
    TENSOR_KIND,
    TENSOR_TWICE,
    TENSOR_NAME,
    NO_DIMS,
    FIVE_DIMS,
    ZERO_DIM,
    NEGATIVE_DIM,
    HUGE_DIMS,
    RAGGED,
    MISALIGNED,
    OVERLAP,
    BEYOND,
    OFFSET_WRAPS,
    MISTAKES
};
static const char *const says[MISTAKES] = {
    [VERSION] = "version 9",
    [TENSOR_COUNT] = "absurd counts",
    [KEY_COUNT] = "truncated",
    [KEY_TYPE] = "unknown type 99",
    [KEY_TWICE] = "key k stands twice",
    [STRING_LENGTH] = "key k: value leaves the file",
    [ARRAY_LENGTH] = "absurd array length",
    [ARRAY_BEYOND] = "array leaves the file",
    [ARRAY_NESTED] = "array of type 9",
    [ALIGNMENT_ODD] = "no power of two",
    [ALIGNMENT_ZERO] = "general.alignment",
    [TENSOR_TYPE] = "tensor t has type 77; what is read: F32, F16, Q4_0",
    [TENSOR_KIND] = "tensor t has type Q3_K; what is read: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1",
    [TENSOR_TWICE] = "tensor t stands twice",
    [TENSOR_NAME] = "tensor name",
    [NO_DIMS] = "0 dimensions",
    [FIVE_DIMS] = "5 dimensions",
    [ZERO_DIM] = "absurd dimension 0",
    [NEGATIVE_DIM] = "absurd dimension -4",
    [HUGE_DIMS] = "absurd dimension",
    [RAGGED] = "no whole q8_0 blocks",
    [MISALIGNED] = "not aligned",
    [OVERLAP] = "overlap",
    [BEYOND] = "the file ends at",
    [OFFSET_WRAPS] = "the file ends at",
};

static void make_bad_key(struct gguf_make *m, enum mistake k)
{
    static const uint64_t huge = UINT64_MAX - 7, many = 1 << 20;
    struct {
        uint32_t type;
        uint64_t count;
    } __attribute__((packed)) array = {4, k == ARRAY_LENGTH ? huge : many};
    if (k == KEY_TYPE)
        gguf_make_raw(m, "k", 99, "", 0);
    if (k == KEY_TWICE) {
        gguf_make_u32(m, "k", 1);
        gguf_make_u32(m, "k", 2);
    }
    if (k == STRING_LENGTH)
        gguf_make_raw(m, "k", 8, &huge, 8);
    if (k == ARRAY_LENGTH || k == ARRAY_BEYOND)
        gguf_make_raw(m, "k", 9, &array, sizeof array);
    array.type = 9;
    if (k == ARRAY_NESTED)
        gguf_make_raw(m, "k", 9, &array, sizeof array);
    if (k == ALIGNMENT_ODD || k == ALIGNMENT_ZERO)
        gguf_make_u32(m, "general.alignment", k == ALIGNMENT_ODD ? 48 : 0);
}

static void make_bad_tensor(struct gguf_make *m, enum mistake k)
{
    int64_t ne[5] = {4, 2, 1, 1, 1};
    char long_name[200];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    uint32_t dims = k == NO_DIMS ? 0 : k == FIVE_DIMS ? 5 : 2;
    ne[0] = k == ZERO_DIM ? 0 : k == NEGATIVE_DIM ? -4 : k == HUGE_DIMS ? INT64_MAX / 2 : 4;
    ne[1] = k == HUGE_DIMS ? INT64_MAX / 2 : 2;
    int64_t offset = k == MISALIGNED ? 4 : k == OVERLAP ? 0 : k == BEYOND ? 1 << 20 : -1;
    uint32_t type = k == TENSOR_TYPE ? 77 : k == TENSOR_KIND ? 11 : k == RAGGED ? 8 : 0;
    gguf_make_tensor(m, "first", 0, 2, two_rows, -1, numbers, sizeof numbers);
    if (k == OFFSET_WRAPS) { /* offset + bytes passes 2^64 */
        gguf_make_tensor(m, "t", type, dims, ne, INT64_MAX - 31, numbers, sizeof numbers);
        return;
    }
    gguf_make_tensor(
        m, k == TENSOR_NAME ? long_name : "t", type, dims, ne, offset, numbers, sizeof numbers);
    if (k == TENSOR_TWICE)
        gguf_make_tensor(m, "t", 0, 2, two_rows, -1, numbers, sizeof numbers);
}

START_TEST(mistakes_are_named)
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    for (enum mistake k = 0; k < MISTAKES; k++) {
        struct gguf_make m;
        gguf_make_init(&m);
        make_bad_key(&m, k);
        make_bad_tensor(&m, k);
        if (k == VERSION)
            m.version = 9;
        if (k == TENSOR_COUNT)
            m.tensor_count = UINT64_C(1) << 60;
        if (k == KEY_COUNT)
            m.key_count = 65536;
        gguf_make_finish(&m, &file);
        gguf_make_done(&m);
        struct gguf *g = NULL;
        struct err e = {0};
        ck_assert_msg(gguf_parse(file.data, file.len, "bad.gguf", &g, &e) == -ERR_DATA,
            "mistake %d was accepted", k);
        ck_assert_msg(strstr(e.text, says[k]) && !strncmp(e.text, "bad.gguf", 8), "%s", e.text);
    }
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    make_good(&file);
    for (size_t n = 0; n < file.len; n++) {
        struct gguf *g = NULL;
        struct err e = {0};
        mem_autofree char *part = mem_alloc(n + 1); /* so that ASAN sees its end */
        memcpy(part, file.data, n);
        ck_assert_msg(gguf_parse(part, n, "cut", &g, &e) == -ERR_DATA, "%zu bytes", n);
    }
}
END_TEST

START_TEST(random_damage_is_survived)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    buf_auto struct buf good;
    buf_init(&good, 1 << 20);
    make_good(&good);
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        mem_autofree char *bad = mem_alloc(good.len);
        memcpy(bad, good.data, good.len);
        for (int k = rand_r(&seed) % 4; k >= 0; k--)
            bad[(size_t)rand_r(&seed) % good.len] ^= (char)(1 << rand_r(&seed) % 8);
        struct gguf *g = NULL;
        struct err e = {0};
        int rc = gguf_parse(bad, good.len, "damaged", &g, &e);
        ck_assert(rc == 0 || rc == -ERR_DATA);
        accepted += rc == 0;
        gguf_close(g);
    }
    ck_assert_int_gt(accepted, 0);
    ck_assert_int_lt(accepted, 20000);
}
END_TEST

static int open_file(void *user)
{
    struct gguf *g = NULL;
    struct err e = {0};
    int rc = gguf_open(user, &g, &e);
    gguf_close(g);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    make_good(&file);
    char folder[64], path[100];
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    struct gguf *g = NULL;
    struct err e = {0};
    ck_assert_int_eq(gguf_open(path, &g, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    golden_write(path, file.data, file.len);
    fault_each(FAULT_MEM, open_file, path);
    fault_each(FAULT_IO, open_file, path);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("gguf", what_was_written_is_read, types_are_known_by_their_numbers, mistakes_are_named,
    every_truncation_is_refused, random_damage_is_survived, failed_calls_are_reported)
