/*
 * Goal: a manifest reads back as it was written, to the bit, and any damage to it is seen. Method:
 * values at their extremes and beyond; a bit of every byte flipped; truncations.
 */
#include "runtime/ckpt/manifest.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

static void make(struct ckpt_manifest *m, struct ckpt_file files[2])
{
    *m = (struct ckpt_manifest){
        .state = {.step = INT64_C(1) << 52,
            .samples = 3,
            .tokens = 0,
            .seed = UINT64_MAX - 1,
            .incarnation = 7,
            .world = 2,
            .layout = "dp1 x tp2",
            .source = "/data/\"m\".gguf",
            .written_ms = INT64_C(1790000000123),
            .first_loss = 5.8315763473510742,
            .loss = 1.0 / 3,
            .first_validation_loss = NAN,
            .validation_loss = 1e-300,
            .epoch_loss = 0.1,
            .epoch_labels = 17,
            .epochs = {{1, 16, 0.75, NAN, {NAN, NAN}}, {2, 32, 1.0 / 7, 0.5, {0.25, 0.5}}},
            .epoch_count = 2,
            .scale = {4096, 1999, 3}},
        .files = files,
        .file_count = 2,
    };
    snprintf(m->state.identity, sizeof m->state.identity, "{\"a.b\":\"\\\"1\",\"c\":\"2\"}");
    for (int i = 0; i < 2; i++) {
        snprintf(files[i].hash, sizeof files[i].hash, "%016x", 0xabc + i);
        ckpt_file_name(i, files[i].hash, files[i].name);
        files[i].bytes = 1000 + i;
    }
}

START_TEST(what_was_written_is_read)
{
    char folder[64], path[100];
    struct ckpt_manifest m, back;
    struct ckpt_file files[2];
    struct err e = {0};
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    make(&m, files);
    ck_assert_int_eq(ckpt_manifest_read(path, &back, &e), -ERR_DATA); /* absent */
    ck_assert_msg(ckpt_manifest_write(path, &m, &e) == 0, "%s", e.text);
    ck_assert_msg(ckpt_manifest_read(path, &back, &e) == 0, "%s", e.text);
    const struct ckpt_state *a = &m.state, *b = &back.state;
    ck_assert(a->step == b->step && a->samples == b->samples && a->tokens == b->tokens);
    ck_assert(a->seed == b->seed && a->incarnation == b->incarnation && a->world == b->world);
    ck_assert(a->first_loss == b->first_loss && a->loss == b->loss);
    ck_assert(isnan(b->first_validation_loss) && a->validation_loss == b->validation_loss);
    ck_assert_str_eq(a->identity, b->identity);
    ck_assert_str_eq(a->layout, b->layout);
    ck_assert_str_eq(a->source, b->source);
    ck_assert_int_eq(a->written_ms, b->written_ms);
    ck_assert(a->epoch_loss == b->epoch_loss && a->epoch_labels == b->epoch_labels);
    ck_assert_int_eq(b->epoch_count, 2);
    ck_assert(b->epochs[0].epoch == 1 && b->epochs[0].step == 16 && b->epochs[0].loss == 0.75);
    ck_assert(isnan(b->epochs[0].validation_loss) && isnan(b->epochs[0].scores[CKPT_SCORE_F1]));
    ck_assert(b->epochs[1].loss == 1.0 / 7 && b->epochs[1].validation_loss == 0.5);
    ck_assert(b->epochs[1].scores[CKPT_SCORE_F1] == 0.25);
    ck_assert(b->epochs[1].scores[CKPT_SCORE_MATCH] == 0.5);
    ck_assert(b->scale.scale == 4096 && b->scale.clean == 1999 && b->scale.skipped == 3);
    ck_assert_str_eq(b->spec_hash, "");
    ck_assert_int_eq(back.file_count, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(back.files[i].name, files[i].name);
        ck_assert_str_eq(back.files[i].hash, files[i].hash);
        ck_assert_int_eq(back.files[i].bytes, files[i].bytes);
    }
    ckpt_manifest_done(&back);
    m.state.scale = (struct ckpt_scale){0}; /* none, in other types than FP16 */
    ck_assert(!ckpt_manifest_write(path, &m, &e) && !ckpt_manifest_read(path, &back, &e));
    ck_assert(back.state.scale.scale == 0 && back.state.scale.skipped == 0);
    ckpt_manifest_done(&back);
    m.state.scale.scale = 0.5;
    ck_assert(!ckpt_manifest_write(path, &m, &e));
    ck_assert_int_eq(ckpt_manifest_read(path, &back, &e), -ERR_CORRUPT);
    ck_assert_msg(strstr(e.text, "lossScale.scale") != NULL, "%s", e.text);
    golden_remove(folder);
}
END_TEST

START_TEST(every_damage_is_seen)
{
    char folder[64], path[100];
    struct ckpt_manifest m, back;
    struct ckpt_file files[2];
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    make(&m, files);
    ck_assert_int_eq(ckpt_manifest_write(path, &m, &e), 0);
    ck_assert_int_eq(io_read_file(path, 1 << 16, &text, &e), 0);
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= (char)(1 << i % 8);
        golden_write(path, text.data, text.len);
        ck_assert_msg(ckpt_manifest_read(path, &back, &e) == -ERR_CORRUPT, "byte %zu", i);
        ck_assert_ptr_nonnull(strstr(e.text, path));
        text.data[i] ^= (char)(1 << i % 8);
    }
    for (size_t n = 0; n < text.len; n += 7) {
        golden_write(path, text.data, n);
        ck_assert_int_eq(ckpt_manifest_read(path, &back, &e), -ERR_CORRUPT);
    }
    golden_remove(folder);
}
END_TEST

/* A number that is whole in the text but absurd is as bad as damage, and is named. */
START_TEST(absurd_numbers_are_refused_by_name)
{
    enum { STEP, SAMPLES, TOKENS, INCARNATION, WORLD, BYTES, CASES };
    static const char *const keys[CASES] = {
        "step", "samples", "tokens", "incarnation", "world", "bytes"};
    static const int64_t absurd[] = {INT64_MIN, -1, (INT64_C(1) << 53) + 1, INT64_MAX};
    char folder[64], path[100];
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    for (int field = 0; field < CASES; field++)
        for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
            struct ckpt_manifest m, back;
            struct ckpt_file files[2];
            struct err e = {0};
            make(&m, files);
            int64_t *const at[CASES] = {&m.state.step, &m.state.samples, &m.state.tokens,
                &m.state.incarnation, NULL, &files[1].bytes};
            if (at[field])
                *at[field] = absurd[i];
            else
                m.state.world = (int)absurd[i] < 0 ? (int)absurd[i] : 0;
            ck_assert_int_eq(ckpt_manifest_write(path, &m, &e), 0);
            ck_assert_msg(ckpt_manifest_read(path, &back, &e) == -ERR_CORRUPT, "%s %lld",
                keys[field], (long long)absurd[i]);
            ck_assert_msg(strstr(e.text, path) && strstr(e.text, keys[field]), "%s", e.text);
        }
    golden_remove(folder);
}
END_TEST

/* What the greatest world writes is read: its list is longer than a stranger's JSON may be. */
START_TEST(a_list_of_many_files_is_read)
{
    enum { FILES = 20000 };
    char folder[64], path[100];
    struct ckpt_manifest m, back;
    struct ckpt_file two[2], *files = mem_array(FILES, sizeof *files);
    struct err e = {0};
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    make(&m, two);
    for (int i = 0; i < FILES; i++) {
        snprintf(files[i].hash, sizeof files[i].hash, "%016x", i);
        ckpt_file_name(i, files[i].hash, files[i].name);
    }
    m.files = files;
    m.file_count = FILES;
    ck_assert_int_eq(ckpt_manifest_write(path, &m, &e), 0);
    ck_assert_msg(ckpt_manifest_read(path, &back, &e) == 0, "%s", e.text);
    ck_assert_int_eq(back.file_count, FILES);
    ck_assert_str_eq(back.files[FILES - 1].name, files[FILES - 1].name);
    ckpt_manifest_done(&back);
    mem_free(files);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("ckpt_manifest", what_was_written_is_read, every_damage_is_seen,
    absurd_numbers_are_refused_by_name, a_list_of_many_files_is_read)
