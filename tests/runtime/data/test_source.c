/*
 * Goal: a path stands for the same files everywhere, and a packed file for its text, or is refused
 * when it was cut short or damaged. Method: a folder with files, folders and hidden files; packed
 * files made here, of one part and of several, cut at each length.
 * needs: faults
 */
#include "runtime/data/internal.h"
#include "runtime/data/source.h"

#include "base/buf.h"
#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <zlib.h>
#include <zstd.h>

static char folder[64], cache[100];
static struct err e;

static void begin(void)
{
    golden_folder(folder);
    snprintf(cache, sizeof cache, "%s/tokens", folder);
}

static const char *in_folder(const char *name)
{
    static char path[4][200];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, 200, "%s/%s", folder, name);
    return p;
}

/* Names in order, without the folder, each with a bar. */
static const char *listed(const char *path)
{
    static char out[1000];
    struct source s;
    int rc = source_list(path, &s, &e);
    if (rc) {
        ck_assert_int_eq(rc, -ERR_DATA);
        return e.text;
    }
    *out = 0;
    for (int i = 0; i < s.count; i++)
        snprintf(
            out + strlen(out), sizeof out - strlen(out), "%s|", s.paths[i] + strlen(folder) + 1);
    source_done(&s);
    return out;
}

START_TEST(a_path_is_files_in_order)
{
    static const char *const names[] = {"in/b.jsonl", "in/a.jsonl", "in/.hidden", "in/Z.jsonl",
        "in/c.txt", "in/inner/d.jsonl", "b[1].txt"};
    begin();
    ck_assert(!io_mkdirs(in_folder("in/inner"), 0755, &e));
    ck_assert(!io_mkdirs(in_folder("empty"), 0755, &e));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        golden_write(in_folder(names[i]), "x", 1);
    ck_assert_str_eq(listed(in_folder("in")), "in/Z.jsonl|in/a.jsonl|in/b.jsonl|in/c.txt|");
    ck_assert_str_eq(listed(in_folder("in/*.jsonl")), "in/Z.jsonl|in/a.jsonl|in/b.jsonl|");
    ck_assert_str_eq(listed(in_folder("*/[ab].jsonl")), "in/a.jsonl|in/b.jsonl|");
    ck_assert_str_eq(listed(in_folder("in/c.txt")), "in/c.txt|");
    ck_assert_str_eq(listed(in_folder("b[1].txt")), "b[1].txt|"); /* a name that is there */
    ck_assert_ptr_nonnull(strstr(listed(in_folder("*.gz")), "matches no file"));
    ck_assert_ptr_nonnull(strstr(listed(in_folder("empty")), "no file in it"));
    ck_assert_str_eq(listed(in_folder("absent")), "absent|"); /* whoever opens it says so */
    golden_remove(folder);
}
END_TEST

static void add_gzip(struct buf *out, const char *text, size_t size)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)size};
    uLong most = compressBound(size) + 64;
    mem_autofree uint8_t *packed = mem_alloc(most);
    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = packed;
    z.avail_out = (uInt)most;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    ck_assert(!buf_add(out, packed, z.total_out));
    deflateEnd(&z);
}

static void add_zstd(struct buf *out, const char *text, size_t size)
{
    size_t most = ZSTD_compressBound(size);
    mem_autofree uint8_t *packed = mem_alloc(most);
    size_t n = ZSTD_compress(packed, most, text, size, 3);
    ck_assert(!ZSTD_isError(n) && !buf_add(out, packed, n));
}

static const struct {
    const char *name;
    void (*add)(struct buf *, const char *, size_t);
} kinds[] = {{"a.txt.gz", add_gzip}, {"a.jsonl.ZST", add_zstd}};

static int map_is(const char *path, const char *text, size_t size)
{
    struct io_map map;
    int rc = source_map(path, cache, NULL, &map, &e);
    if (rc)
        return rc;
    ck_assert_uint_eq(map.size, size);
    ck_assert(!size || !memcmp(map.data, text, size));
    io_unmap(&map);
    return 0;
}

static int names_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *f; d && (f = readdir(d));)
        n += *f->d_name != '.';
    if (d)
        closedir(d);
    return n;
}

/* Of exactly what is unpacked at once, of less, of more; of several parts. */
START_TEST(parquet_is_known_by_its_name_and_its_beginning)
{
    ck_assert_int_eq(source_check("a/train.Parquet", NULL, 0, &e), -ERR_USER);
    ck_assert_str_eq(
        e.text, "a/train.Parquet: Parquet is not read: docs/parquet_to_jsonl.py makes JSONL of it");
    ck_assert_int_eq(source_check("train.jsonl", "PAR1", 4, &e), -ERR_USER);
    ck_assert_int_eq(source_check("train.jsonl", "PAR", 3, &e), 0);
    ck_assert_int_eq(source_check("parquet", NULL, 0, &e), 0);
}
END_TEST

START_TEST(packed_files_are_unpacked)
{
    static const size_t sizes[] = {1, 1000, 1 << 20, (1 << 20) + 1, 5 << 20};
    mem_autofree char *text = mem_alloc(5 << 20);
    for (size_t i = 0; i < 5 << 20; i++)
        text[i] = (char)('a' + i * i / 7 % 23);
    begin();
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            buf_auto struct buf packed;
            buf_init(&packed, 16 << 20);
            for (size_t parts = 1; parts < 3; parts++) {
                size_t half = parts == 2 ? sizes[i] / 2 : 0;
                buf_reset(&packed);
                if (half)
                    kinds[k].add(&packed, text, half);
                kinds[k].add(&packed, text + half, sizes[i] - half);
                golden_write(in_folder(kinds[k].name), packed.data, packed.len);
                ck_assert_msg(!map_is(in_folder(kinds[k].name), text, sizes[i]), "%s", e.text);
            }
        }
    ck_assert_int_eq(names_in(cache), 0);
    ck_assert_uint_eq(source_stem("/x/a.txt.gz"), 8);
    ck_assert_uint_eq(source_stem("/x/a.txt"), 8);
    golden_write(in_folder("plain.txt"), "as it is", 8);
    ck_assert(!map_is(in_folder("plain.txt"), "as it is", 8));
    golden_remove(folder);
}
END_TEST

START_TEST(damage_is_refused)
{
    static const char text[] = "the light was good and the light was day";
    begin();
    for (size_t k = 0; k < 2; k++) {
        const char *path = in_folder(kinds[k].name);
        char own[200];
        snprintf(own, sizeof own, "%s", path);
        buf_auto struct buf packed;
        buf_init(&packed, 1 << 16);
        kinds[k].add(&packed, text, sizeof text - 1);
        for (size_t n = 0; n < packed.len; n++) {
            golden_write(own, packed.data, n);
            ck_assert_msg(map_is(own, text, 0) == -ERR_DATA, "%zu of %zu", n, packed.len);
            ck_assert_ptr_nonnull(strstr(e.text, own));
        }
        golden_write(own, text, sizeof text - 1);
        ck_assert_int_eq(map_is(own, text, 0), -ERR_DATA);
        ck_assert_ptr_nonnull(strstr(e.text, k ? "not zstd" : "not gzip"));
        ck_assert(!buf_str(&packed, "behind it"));
        golden_write(own, packed.data, packed.len);
        ck_assert_int_eq(map_is(own, text, 0), -ERR_DATA);
    }
    ck_assert_int_eq(names_in(cache), 0);
    golden_remove(folder);
}
END_TEST

/* A gzip file from a tape ends with zeros. */
START_TEST(zeros_behind_a_member_are_no_damage)
{
    static const char zeros[512];
    buf_auto struct buf packed;
    begin();
    buf_init(&packed, 1 << 16);
    add_gzip(&packed, "text", 4);
    ck_assert(!buf_add(&packed, zeros, sizeof zeros));
    golden_write(in_folder("a.gz"), packed.data, packed.len);
    ck_assert_msg(!map_is(in_folder("a.gz"), "text", 4), "%s", e.text);
    golden_remove(folder);
}
END_TEST

/* What names a file's texts or words have, with a bar behind each. */
static const char *labels_of(const char *path, bool words)
{
    static char out[2][100];
    static int next;
    char *o = out[next++ % 2];
    struct data_labels l = {.names = NULL};
    int rc = words ? data_labels_learn_words(&l, path, &e)
                   : data_labels_learn_texts(&l, path, FORMAT_AUTO, &e);
    ck_assert_msg(!rc, "%s", e.text);
    *o = 0;
    for (int i = 0; i < l.count; i++)
        snprintf(o + strlen(o), 100 - strlen(o), "%s|", l.names[i]);
    data_labels_done(&l);
    return o;
}

START_TEST(labelled_files_are_unpacked_in_memory)
{
    static const struct {
        const char *name, *text;
        bool words;
    } files[] = {{"t.csv", "text,label\none,up\ntwo,down\n", false},
        {"t.jsonl", "{\"text\":\"one\",\"label\":\"x\"}\n{\"text\":\"two\",\"label\":\"y\"}\n",
            false},
        {"t.conll", "Abel B-PER\nwent O\n\nto O\nNod B-LOC\n", true}};
    static const char *const ends[] = {".gz", ".zst"};
    begin();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n = strlen(files[i].text);
        golden_write(in_folder(files[i].name), files[i].text, n);
        for (size_t k = 0; k < 2; k++) {
            char name[20];
            buf_auto struct buf packed;
            buf_init(&packed, 1 << 16);
            kinds[k].add(&packed, files[i].text, n);
            snprintf(name, sizeof name, "%s%s", files[i].name, ends[k]);
            golden_write(in_folder(name), packed.data, packed.len);
            ck_assert_str_eq(labels_of(in_folder(name), files[i].words),
                labels_of(in_folder(files[i].name), files[i].words));
        }
    }
    ck_assert_int_eq(names_in(folder), 9); /* and nothing else */
    golden_remove(folder);
}
END_TEST

START_TEST(memory_to_unpack_has_a_bound)
{
    enum { PART = 1 << 22 };
    mem_autofree char *zeros = mem_zalloc(PART);
    buf_auto struct buf part, packed;
    struct io_map map;
    begin();
    buf_init(&part, 1 << 16);
    buf_init(&packed, 16 << 20);
    add_zstd(&part, zeros, PART);
    for (int i = 0; i < SOURCE_MEMORY_BYTES / PART; i++)
        ck_assert(!buf_add(&packed, part.data, part.len));
    add_zstd(&packed, "0", 1);
    golden_write(in_folder("a.zst"), packed.data, packed.len);
    ck_assert_int_eq(source_map(in_folder("a.zst"), NULL, NULL, &map, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.zst: more than 1024 MiB when unpacked"));
    golden_remove(folder);
}
END_TEST

static int open_all(void *user)
{
    struct source s;
    int rc = source_list(user, &s, &e);
    if (rc)
        return rc;
    for (int i = 0; i < s.count && !rc; i++)
        rc = map_is(s.paths[i], "text", 4);
    source_done(&s);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    char in[200];
    begin();
    snprintf(in, sizeof in, "%s", in_folder("in"));
    ck_assert(!io_mkdirs(in, 0755, &e) && !io_mkdirs(cache, 0755, &e));
    for (size_t k = 0; k < 2; k++) {
        char path[300];
        buf_auto struct buf packed;
        buf_init(&packed, 1 << 16);
        kinds[k].add(&packed, "text", 4);
        snprintf(path, sizeof path, "%s/%s", in, kinds[k].name);
        golden_write(path, packed.data, packed.len);
    }
    fault_each(FAULT_MEM, open_all, in);
    fault_each(FAULT_IO, open_all, in);
    ck_assert_int_eq(names_in(cache), 0);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("source", a_path_is_files_in_order, parquet_is_known_by_its_name_and_its_beginning,
    packed_files_are_unpacked, damage_is_refused, zeros_behind_a_member_are_no_damage,
    labelled_files_are_unpacked_in_memory, memory_to_unpack_has_a_bound, failed_calls_are_reported)
