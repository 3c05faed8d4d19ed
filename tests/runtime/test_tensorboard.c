/*
 * Goal: an event file holds what was recorded, framed as TensorBoard checks it. Method: the file is
 * read back by a decoder of the test's own with a bitwise CRC-32C; the CRC itself by its published
 * check value.
 */
#include "runtime/tensorboard.h"

#include "base/clock.h"
#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>

static uint32_t crc32c(const uint8_t *p, size_t n)
{
	uint32_t c = ~0u;
	for (size_t i = 0; i < n; i++) {
		c ^= p[i];
		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (0x82f63b78u & -(c & 1));
	}
	return ~c;
}

static uint32_t unmask(uint32_t m)
{
	m -= 0xa282ead8u;
	return m >> 17 | m << 15;
}

struct event {
	double wall;
	uint64_t step;
	char version[32], tag[64];
	float value;
};

static uint64_t varint(const uint8_t **p)
{
	uint64_t v = 0;
	for (int shift = 0;; shift += 7) {
		uint8_t b = *(*p)++;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (b < 0x80)
			return v;
	}
}

/* Fields of Event, Summary and Value do not clash but in their numbers, so depth tells them apart.
 */
static void decode(const uint8_t *p, const uint8_t *end, int depth, struct event *e)
{
	while (p < end) {
		uint64_t tag = varint(&p), n;
		switch (tag & 7) {
		case 0:
			e->step = varint(&p);
			break;
		case 1:
			memcpy(&e->wall, p, 8);
			p += 8;
			break;
		case 5:
			memcpy(&e->value, p, 4);
			p += 4;
			break;
		default:
			n = varint(&p);
			if (depth == 0 && tag >> 3 == 3)
				memcpy(e->version, p, n);
			else if (depth == 2 && tag >> 3 == 1)
				memcpy(e->tag, p, n);
			else
				decode(p, p + n, depth + 1, e);
			p += n;
		}
	}
	ck_assert_ptr_eq(p, end);
}

static int read_events(const char *path, struct event *out, int room)
{
	struct io_map m;
	struct err e = {0};
	int count = 0;
	ck_assert_int_eq(io_map(path, &m, &e), 0);
	for (size_t at = 0; at < m.size; count++) {
		uint64_t n;
		uint32_t crc;
		ck_assert_int_lt(count, room);
		memcpy(&n, m.data + at, 8);
		memcpy(&crc, m.data + at + 8, 4);
		ck_assert_uint_eq(unmask(crc), crc32c(m.data + at, 8));
		ck_assert_uint_le(at + 16 + n, m.size);
		memcpy(&crc, m.data + at + 12 + n, 4);
		ck_assert_uint_eq(unmask(crc), crc32c(m.data + at + 12, n));
		out[count] = (struct event){0};
		decode(m.data + at + 12, m.data + at + 12 + n, 0, &out[count]);
		at += 16 + n;
	}
	io_unmap(&m);
	return count;
}

static void only_file(const char *folder, char path[400])
{
	DIR *d = opendir(folder);
	int files = 0;
	for (struct dirent *f; (f = readdir(d));)
		if (f->d_name[0] != '.') {
			snprintf(path, 400, "%s/%s", folder, f->d_name);
			files++;
		}
	closedir(d);
	ck_assert_int_eq(files, 1);
}

START_TEST(scalars_read_back)
{
	static struct event events[3000];
	char folder[64], inner[80], path[400];
	struct tensorboard *t = NULL;
	struct err e = {0};
	ck_assert_uint_eq(crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
	golden_folder(folder);
	snprintf(inner, sizeof inner, "%s/a/b", folder); /* made when absent */
	clock_set_fake(0, 1700000000250);
	ck_assert_msg(tensorboard_create(inner, 3, &t, &e) == 0, "%s", e.text);
	only_file(inner, path);
	ck_assert_ptr_nonnull(strstr(path, "/events.out.tfevents.1700000000."));
	ck_assert_int_eq(read_events(path, events, 3000), 1); /* the version is there at once */
	for (int i = 0; i < 2000; i++)
		ck_assert_int_eq(tensorboard_scalar(t, i % 2 ? "loss/train" : "rate", i * 100000,
						    i / 8.0, &e),
				 0);
	ck_assert_int_eq(tensorboard_flush(t, &e), 0);
	ck_assert_int_eq(read_events(path, events, 3000), 2001);
	ck_assert_str_eq(events[0].version, "brain.Event:2");
	ck_assert_double_eq(events[0].wall, 1700000000.25);
	for (int i = 0; i < 2000; i++) {
		ck_assert_str_eq(events[i + 1].tag, i % 2 ? "loss/train" : "rate");
		ck_assert_uint_eq(events[i + 1].step, (uint64_t)i * 100000);
		ck_assert_float_eq(events[i + 1].value, (float)i / 8);
	}
	ck_assert_int_eq(tensorboard_scalar(t, "last", 1, 1, &e), 0);
	tensorboard_close(t); /* writes what is pending */
	ck_assert_int_eq(read_events(path, events, 3000), 2002);
	clock_set_real();
	golden_remove(folder);
}
END_TEST

static int write_one(void *user)
{
	struct tensorboard *t = NULL;
	struct err e = {0};
	int rc = tensorboard_create(user, 1, &t, &e);
	if (!rc)
		rc = tensorboard_scalar(t, "loss", 1, 2, &e);
	if (!rc)
		rc = tensorboard_flush(t, &e);
	tensorboard_close(t);
	return rc;
}

START_TEST(failed_calls_are_reported)
{
	char folder[64];
	golden_folder(folder);
	fault_each(FAULT_MEM, write_one, folder);
	fault_each(FAULT_IO, write_one, folder);
	golden_remove(folder);
}
END_TEST

UNIT_MAIN("tensorboard", scalars_read_back, failed_calls_are_reported)
