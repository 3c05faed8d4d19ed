/*
 * Goal: however a tensor was cut when it was written, any cut of it is read, element by element;
 * what a checkpoint has twice, not at all, or as something else is refused by name. Method: a grid
 * of ways to cut, each written and read in each; random cuts, written by some ranks and row by row,
 * read as random pieces, with printed seed; files made by hand.
 */
#include "runtime/ckpt/ckpt.h"

#include "runtime/ckpt/manifest.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/ckpt/cuts.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include "base/random.h"

#include <time.h>

#define RANKS 3
#define BYTES (1 << 21) /* of a piece, at most */

static const struct tensor_cut {
    const char *name;
    enum dtype type;
    int64_t rows, columns;
} tensors[] = {{"model.embed@weight", DTYPE_F32, 61, 24},
    {"model.embed@weight.exp_avg", DTYPE_BF16, 61, 24}, {"q", DTYPE_U8, 7, 13},
    {"norm", DTYPE_F32, 1, 101}, {"column", DTYPE_F32, 50, 1}, {"one", DTYPE_F32, 1, 1},
    /* wider than what is read at once */
    {"wide", DTYPE_F32, 5, 60000}};
#define TENSORS (int)(sizeof tensors / sizeof *tensors)

static char folder[64];

/* The bytes of a piece: those of an element tell tensor and place. */
static void fill(int tensor, const struct ckpt_piece *p, uint8_t *out)
{
    size_t size = (size_t)dtype_block_bytes(tensors[tensor].type);
    for (int64_t i = 0; i < p->height; i++)
        for (int64_t k = 0; k < p->width; k++) {
            int64_t at = (p->row + i) * p->columns + p->column + k;
            uint64_t x = random_mix((uint64_t)(at * TENSORS + tensor));
            memcpy(out, &x, size);
            out += size;
        }
}

struct writing {
    struct ckpt_writer *w[RANKS];
    char hashes[RANKS][17];
    int64_t bytes[RANKS];
};

static void begin(struct writing *g, int64_t step)
{
    struct err e = {0};
    for (int i = 0; i < RANKS; i++)
        ck_assert_msg(!ckpt_begin(folder, step, i, &g->w[i], &e), "%s", e.text);
}

static void commit(struct writing *g, int64_t step)
{
    struct err e = {0};
    const struct ckpt_state s = {.step = step, .incarnation = 1, .world = RANKS};
    for (int i = 0; i < RANKS; i++)
        ck_assert_msg(!ckpt_finish(g->w[i], g->hashes[i], &g->bytes[i], &e), "%s", e.text);
    ck_assert_msg(!ckpt_commit(folder, &s, RANKS, (const char(*)[17])g->hashes, g->bytes, 2, &e),
        "%s", e.text);
}

static void put(struct writing *g, int rank, int tensor, const struct ckpt_piece *p)
{
    static uint8_t data[BYTES];
    struct err e = {0};
    fill(tensor, p, data);
    ck_assert_msg(!ckpt_put_piece(
                      g->w[rank % RANKS], tensors[tensor].name, p, tensors[tensor].type, data, &e),
        "%s", e.text);
}

static void expect(struct ckpt_reader *r, int tensor, const struct ckpt_piece *p)
{
    static uint8_t is[BYTES], should[BYTES];
    struct err e = {0};
    size_t bytes = (size_t)dtype_bytes(tensors[tensor].type, ckpt_piece_count(p));
    memset(is, 0xaa, bytes + 1);
    ck_assert_msg(
        !ckpt_get_piece(r, tensors[tensor].name, p, tensors[tensor].type, is, &e), "%s", e.text);
    fill(tensor, p, should);
    ck_assert_mem_eq(is, should, bytes);
    ck_assert_int_eq(is[bytes], 0xaa);
}

static struct ckpt_reader *open_newest(void)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    ck_assert_msg(!ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), "%s", e.text);
    ck_assert_ptr_nonnull(r);
    return r;
}

START_TEST(any_cut_reads_any_cut)
{
    struct cuts c;
    golden_folder(folder);
    for (int way = 0; way < CUTS_WAYS; way++) {
        struct writing g;
        begin(&g, 1 + way);
        for (int t = 0; t < TENSORS; t++) {
            cuts_make(&c, (enum cuts_way)way, tensors[t].rows, tensors[t].columns);
            for (int i = 0; i < c.count; i++)
                put(&g, i, t, &c.at[i]);
        }
        commit(&g, 1 + way);
        struct ckpt_reader *r = open_newest();
        for (int other = 0; other < CUTS_WAYS; other++)
            for (int t = 0; t < TENSORS; t++) {
                cuts_make(&c, (enum cuts_way)other, tensors[t].rows, tensors[t].columns);
                for (int i = 0; i < c.count; i++)
                    expect(r, t, &c.at[i]);
            }
        ckpt_close(r);
    }
    golden_remove(folder);
}
END_TEST

/* A piece as its rank hands it over: whole, or by and by, some rows at once. */
static void put_in_parts(
    struct writing *g, int rank, int tensor, const struct ckpt_piece *p, uint64_t *state)
{
    struct ckpt_piece part = *p;
    bool flat = ckpt_piece_is_flat(p);
    int64_t n = flat ? p->width : p->height, step = 1 + cuts_below(n, state);
    for (int64_t at = 0; at < n; at += step) {
        int64_t rest = n - at < step ? n - at : step;
        *(flat ? &part.width : &part.height) = rest;
        put(g, rank, tensor, &part);
        *(flat ? &part.column : &part.row) += rest;
    }
}

/* How many entries the ranks' files have. */
static int count_entries(const struct writing *g, int64_t step)
{
    int n = 0;
    for (int i = 0; i < RANKS; i++) {
        char name[64], path[200];
        struct safetensors *s = NULL;
        struct err e = {0};
        ckpt_file_name(i, g->hashes[i], name);
        snprintf(path, sizeof path, "%s/step-%08d/%s", folder, (int)step, name);
        ck_assert_msg(!safetensors_open(path, &s, &e), "%s", e.text);
        n += safetensors_count(s);
        safetensors_close(s);
    }
    return n;
}

START_TEST(random_cuts_are_read_as_random_pieces)
{
    uint64_t state = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)state);
    golden_folder(folder);
    for (int64_t step = 1; step <= 8; step++) {
        struct writing g;
        struct cuts c;
        int pieces = 0;
        begin(&g, step);
        for (int t = 0; t < TENSORS; t++) {
            cuts_draw(&c, tensors[t].rows, tensors[t].columns, &state);
            for (int i = 0; i < c.count; i++)
                put_in_parts(&g, (int)cuts_below(RANKS, &state), t, &c.at[i], &state);
            pieces += c.count;
        }
        commit(&g, step);
        /* pieces that happen to follow one another become one, too */
        ck_assert_int_le(count_entries(&g, step), pieces);
        struct ckpt_reader *r = open_newest();
        for (int i = 0; i < 300; i++) {
            int t = (int)cuts_below(TENSORS, &state);
            const struct ckpt_piece p = cuts_any(tensors[t].rows, tensors[t].columns, &state);
            expect(r, t, &p);
        }
        ckpt_close(r);
    }
    golden_remove(folder);
}
END_TEST

/* -- what is refused -- */

/* Writes what it is given as steps 1; the sentence by which it is refused. */
static void refuse(const struct ckpt_piece *p, int count, enum dtype last, const char *says)
{
    static const uint8_t zero[BYTES];
    struct writing g;
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    golden_folder(folder);
    begin(&g, 1);
    for (int i = 0; i < count; i++) {
        enum dtype t = i == count - 1 ? last : DTYPE_F32;
        ck_assert_msg(!ckpt_put_piece(g.w[i], "some.weight", &p[i], t, zero, &e), "%s", e.text);
    }
    commit(&g, 1);
    ck_assert_int_eq(ckpt_open_step(folder, 1, CKPT_HASHES, &r, &s, &e), -ERR_CORRUPT);
    ck_assert_msg(strstr(e.text, says) != NULL, "%s", e.text);
    ck_assert_ptr_nonnull(strstr(e.text, "some.weight"));
    ck_assert_ptr_nonnull(strstr(e.text, folder));
    ck_assert_int_eq(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), -ERR_CORRUPT);
    ck_assert_msg(strstr(e.text, says) && strstr(e.text, "none of the 1"), "%s", e.text);
    golden_remove(folder);
}

START_TEST(holes_doubles_and_strangers_are_refused_by_name)
{
    static const struct {
        struct ckpt_piece parts[3];
        int count;
        enum dtype last;
        const char *says;
    } rows[] = {
        {{{4, 6, 0, 0, 4, 2}, {4, 6, 0, 3, 4, 3}}, 2, DTYPE_F32, "a gap at row 0, column 2"},
        {{{4, 6, 0, 0, 4, 3}, {4, 6, 0, 3, 4, 3}, {4, 6, 0, 3, 4, 3}}, 3, DTYPE_F32,
            "two pieces at row 0, column 3"}, /* replicas: written by more than one */
        {{{4, 6, 0, 0, 4, 3}, {1, 24, 0, 0, 1, 24}}, 2, DTYPE_F32, "two pieces at row 0"},
        {{{4, 6, 0, 0, 4, 3}, {4, 6, 0, 3, 4, 3}}, 2, DTYPE_BF16, "is not as in rank-00000"},
        {{{4, 6, 0, 0, 4, 3}, {6, 4, 0, 3, 6, 1}}, 2, DTYPE_F32, "is not as in rank-00000"},
        {{{1, 24, 0, 0, 1, 12}, {1, 25, 0, 12, 1, 13}}, 2, DTYPE_F32, "is not as in rank-00000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse(rows[i].parts, rows[i].count, rows[i].last, rows[i].says);
}
END_TEST

START_TEST(what_is_asked_for_must_be_what_is_there)
{
    static uint8_t data[BYTES];
    static const struct ckpt_piece left = {4, 6, 0, 0, 4, 3}, right = {4, 6, 0, 3, 4, 3},
                                   range = {1, 24, 0, 0, 1, 24};
    static const struct {
        struct ckpt_piece p;
        enum dtype type;
        int rc;
        const char *says;
    } rows[] = {
        {{4, 6, 1, 1, 2, 4}, DTYPE_F32, 0, ""},
        {{3, 8, 1, 1, 2, 4}, DTYPE_F32, -ERR_CORRUPT, "is 4 x 6, not 3 x 8"},
        {{4, 7, 1, 1, 2, 4}, DTYPE_F32, -ERR_CORRUPT, "24 elements of f32, not 28"},
        {{4, 6, 1, 1, 2, 4}, DTYPE_BF16, -ERR_CORRUPT, "not 24 of bf16"},
        {{4, 6, 1, 1, 4, 4}, DTYPE_F32, -ERR_BUG, "lies outside"},
        {{INT64_MAX, 6, 1, 1, 4, 4}, DTYPE_F32, -ERR_BUG, "lies outside"},
    };
    struct writing g;
    struct err e = {0};
    golden_folder(folder);
    begin(&g, 1);
    ck_assert_int_eq(ckpt_put_piece(g.w[0], "w", &left, DTYPE_F32, data, &e), 0);
    ck_assert_int_eq(ckpt_put_piece(g.w[1], "w", &right, DTYPE_F32, data, &e), 0);
    ck_assert_int_eq(ckpt_put_piece(g.w[2], "flat", &range, DTYPE_F32, data, &e), 0);
    ck_assert_int_eq(ckpt_put_piece(g.w[2], "w", &rows[4].p, DTYPE_F32, data, &e), -ERR_BUG);
    commit(&g, 1);
    struct ckpt_reader *r = open_newest();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_int_eq(ckpt_get_piece(r, "w", &rows[i].p, rows[i].type, data, &e), rows[i].rc);
        ck_assert_msg(strstr(e.text, rows[i].says) != NULL, "%s", e.text);
    }
    /* what was written without a shape is read in any */
    ck_assert_int_eq(ckpt_get_piece(r, "flat", &rows[1].p, DTYPE_F32, data, &e), 0);
    ckpt_close(r);
    golden_remove(folder);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"ckpt_read", 120, NULL, NULL}, /* disks may be slow */
        (const TTest *const[]){any_cut_reads_any_cut, random_cuts_are_read_as_random_pieces,
            holes_doubles_and_strangers_are_refused_by_name,
            what_is_asked_for_must_be_what_is_there, NULL});
}
