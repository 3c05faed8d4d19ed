/*
 * Goal: a safetensors file is read as transformers wrote it and as this house writes it; no broken
 * file is accepted or read past. Method: the golden file; the writer read back; a table of broken
 * headers; every truncation; random damage.
 * needs: faults
 */
#include "runtime/files/safetensors.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <sys/resource.h>

#include <time.h>

START_TEST(a_golden_file_is_read)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    ck_assert_msg(safetensors_open(GOLDEN "tiny_lora.safetensors", &s, &e) == 0, "%s", e.text);
    ck_assert_int_eq(safetensors_count(s), 17);
    ck_assert_str_eq(safetensors_metadata(s, "rank"), "4");
    ck_assert_ptr_null(safetensors_metadata(s, "none"));
    const struct safetensors_tensor *t =
        safetensors_find(s, "model.layers.1.self_attn.v_proj.lora_B.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert(t->type == DTYPE_F32 && t->dims == 2 && t->shape[0] == 32 && t->shape[1] == 4);
    for (int i = 0; i < safetensors_count(s); i++)
        ck_assert_ptr_eq(safetensors_find(s, safetensors_at(s, i)->name), safetensors_at(s, i));
    ck_assert_ptr_null(safetensors_find(s, "model"));
    safetensors_close(s);
    safetensors_close(NULL);
}
END_TEST

static void make_good(struct buf *out, size_t pad_to)
{
    static const char *const metadata[] = {"format", "pt", "quote\"", "\n", NULL};
    const struct safetensors_entry entries[] = {
        {"z.weight", DTYPE_F32, 2, {2, 3}, 24},
        {"a.weight", DTYPE_BF16, 1, {4}, 8},
    };
    struct err e = {0};
    buf_reset(out);
    ck_assert_int_eq(safetensors_header(entries, 2, metadata, pad_to, out, &e), 0);
    buf_add(out, "0123456789abcdef0123456789abcdef", 32);
}

START_TEST(what_was_written_is_read)
{
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    for (size_t pad = 0; pad <= 4096; pad += 4096) {
        make_good(&file, pad);
        ck_assert_uint_eq((file.len - 32) % 8, 0);
        if (pad)
            ck_assert_uint_eq(file.len, pad + 32);
        struct safetensors *s = NULL;
        struct err e = {0};
        ck_assert_msg(safetensors_parse(file.data, file.len, "mine", &s, &e) == 0, "%s", e.text);
        const struct safetensors_tensor *t = safetensors_find(s, "a.weight");
        ck_assert(t && t->type == DTYPE_BF16 && t->bytes == 8 && !memcmp(t->data, "89abcdef", 8));
        ck_assert_str_eq(safetensors_metadata(s, "quote\""), "\n");
        safetensors_close(s);
    }
    struct err e = {0};
    const struct safetensors_entry one = {"w", DTYPE_F32, 1, {1}, 4};
    ck_assert_int_eq(safetensors_header(&one, 1, NULL, 16, &file, &e), -ERR_USER);
}
END_TEST

/* A file that is read piece by piece: entries are told from its first bytes alone. */
START_TEST(a_header_is_enough)
{
    buf_auto struct buf file;
    struct safetensors *s = NULL;
    struct err e = {0};
    buf_init(&file, 1 << 20);
    make_good(&file, 4096);
    ck_assert_msg(
        !safetensors_parse_header(file.data, 4096, file.len, "mine", &s, &e), "%s", e.text);
    const struct safetensors_tensor *t = safetensors_find(s, "a.weight");
    ck_assert(t && !t->data && t->bytes == 8);
    ck_assert(!memcmp(file.data + t->offset, "89abcdef", 8));
    safetensors_close(s);
    /* no file of that size holds it, and no header lies beyond what was read of it */
    ck_assert_int_eq(
        safetensors_parse_header(file.data, 4096, file.len - 1, "m", &s, &e), -ERR_DATA);
    ck_assert_int_eq(safetensors_parse_header(file.data, 100, file.len, "m", &s, &e), -ERR_DATA);
}
END_TEST

#define T(dtype, shape, at) \
    "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" at "}}"
START_TEST(broken_headers_are_named)
{
    static const struct {
        const char *header, *says;
    } bad[] = {
        {"", "header"},
        {"[]", "no object"},
        {"{\"w\":1}", "tensor w"},
        {"{\"w\":{}}", "dtype"},
        {T("F8", "[2]", "[0,8]"), "dtype F8; what is read: F32, BF16, F16"},
        {T("F32", "[2]", "[0,4]"), "agree"},
        {T("I64", "[2]", "[0,8]"), "agree"},
        {T("I64", "[4503599627370496,512]", "[0,8]"), "agree"},
        {T("F32", "[2]", "[8,0]"), "ascending"},
        {T("F32", "[2]", "[0]"), "ascending"},
        {T("F32", "[2]", "[4,12]"), "beyond"},
        {T("F32", "[0]", "[0,0]"), "after the last tensor"},
        {T("F32", "[-1]", "[0,8]"), "absurd dimension"},
        {T("F32", "[1.5]", "[0,8]"), "absurd dimension"},
        {T("F32", "[4503599627370496,4503599627370496]", "[0,8]"), "absurd dimension"},
        {T("F32", "[4611686018427387904]", "[0,8]"), "absurd dimension"},
        {T("F32", "[1,1,1,1,2]", "[0,8]"), "up to four"},
        {T("F32", "[1]", "[0,4]"), "after the last tensor"},
        {T("F32", "[1]", "[4,8]"), "hole"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
            "overlap"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_auto struct buf file;
        buf_init(&file, 1 << 16);
        uint64_t n = strlen(bad[i].header);
        buf_add(&file, &n, 8);
        buf_str(&file, bad[i].header);
        buf_add(&file, "\0\0\0\0\0\0\0\0", 8);
        struct safetensors *s = NULL;
        struct err e = {0};
        ck_assert_msg(safetensors_parse(file.data, file.len, "bad", &s, &e) == -ERR_DATA, "%s",
            bad[i].header);
        ck_assert_msg(strstr(e.text, bad[i].says) && !strncmp(e.text, "bad", 3), "%s: %s",
            bad[i].header, e.text);
    }
}
END_TEST

START_TEST(what_is_not_read_has_its_place)
{
    static const char header[] =
        "{\"p\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[0,16]},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}}";
    buf_auto struct buf file;
    struct safetensors *s = NULL;
    struct err e = {0};
    uint64_t n = strlen(header);
    buf_init(&file, 1 << 16);
    buf_add(&file, &n, 8);
    buf_str(&file, header);
    buf_add(&file, "0123456789abcdefwxyz", 20);
    ck_assert_msg(!safetensors_parse(file.data, file.len, "mine", &s, &e), "%s", e.text);
    const struct safetensors_tensor *p = safetensors_find(s, "p"), *w = safetensors_find(s, "w");
    ck_assert(p && p->type == SAFETENSORS_UNREAD && p->dims == 2 && p->bytes == 16);
    ck_assert(w && w->type == DTYPE_F32 && !memcmp(w->data, "wxyz", 4));
    safetensors_close(s);
}
END_TEST

static int64_t peak_mib(void)
{
    struct rusage u;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss >> 10;
}

/* A kind of file from outside whose cost is not its length: refused before it is parsed. */
START_TEST(a_header_costs_no_more_than_is_stated)
{
    static const struct {
        int numbers;
        const char *says;
    } bad[] = {{9 << 20, "at most 16777216 are read"}, {2 << 20, "more values"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_auto struct buf file;
        buf_init(&file, 64 << 20);
        uint64_t n = 0;
        buf_add(&file, &n, 8);
        buf_str(&file, "{\"w\":[0");
        for (int k = 0; k < bad[i].numbers; k++)
            buf_str(&file, ",0");
        buf_str(&file, "]}");
        n = file.len - 8;
        memcpy(file.data, &n, 8);
        struct safetensors *s = NULL;
        struct err e = {0};
        int64_t before = peak_mib();
        ck_assert_int_eq(safetensors_parse(file.data, file.len, "f", &s, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, bad[i].says) != NULL, "%s", e.text);
        ck_assert_int_le(peak_mib() - before, 8);
    }
}
END_TEST

START_TEST(truncation_and_damage_are_survived)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    buf_auto struct buf good;
    buf_init(&good, 1 << 20);
    make_good(&good, 0);
    struct err e = {0};
    for (size_t n = 0; n < good.len; n++) {
        struct safetensors *s = NULL;
        mem_autofree char *part = mem_alloc(n + 1);
        memcpy(part, good.data, n);
        ck_assert_int_eq(safetensors_parse(part, n, "cut", &s, &e), -ERR_DATA);
    }
    for (int i = 0; i < 20000; i++) {
        struct safetensors *s = NULL;
        mem_autofree char *bad = mem_alloc(good.len);
        memcpy(bad, good.data, good.len);
        bad[(size_t)rand_r(&seed) % good.len] ^= (char)(1 << rand_r(&seed) % 8);
        int rc = safetensors_parse(bad, good.len, "damaged", &s, &e);
        ck_assert(rc == 0 || rc == -ERR_DATA);
        safetensors_close(s);
    }
}
END_TEST

static int open_golden(void *user)
{
    (void)user;
    struct safetensors *s = NULL;
    struct err e = {0};
    int rc = safetensors_open(GOLDEN "tiny_lora.safetensors", &s, &e);
    safetensors_close(s);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, open_golden, NULL);
    fault_each(FAULT_IO, open_golden, NULL);
}
END_TEST

UNIT_MAIN("safetensors", a_golden_file_is_read, what_was_written_is_read, a_header_is_enough,
    broken_headers_are_named, what_is_not_read_has_its_place, a_header_costs_no_more_than_is_stated,
    truncation_and_damage_are_survived, failed_calls_are_reported)
