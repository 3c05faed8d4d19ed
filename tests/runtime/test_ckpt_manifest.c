/*
 * Goal: a manifest reads back as it was written, to the bit, and any damage to it is seen. Method:
 * values at their extremes; every single bit of the file flipped; every truncation.
 */
#include "runtime/ckpt_manifest.h"

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
			  .first_loss = 5.8315763473510742,
			  .loss = 1.0 / 3,
			  .first_validation_loss = NAN,
			  .validation_loss = 1e-300},
		.files = files,
		.file_count = 2,
	};
	snprintf(m->state.spec_hash, sizeof m->state.spec_hash, "%064d", 5);
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
	ck_assert_str_eq(a->spec_hash, b->spec_hash);
	ck_assert_int_eq(back.file_count, 2);
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(back.files[i].name, files[i].name);
		ck_assert_str_eq(back.files[i].hash, files[i].hash);
		ck_assert_int_eq(back.files[i].bytes, files[i].bytes);
	}
	ckpt_manifest_done(&back);
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

UNIT_MAIN("ckpt_manifest", what_was_written_is_read, every_damage_is_seen)
