/*
 * ckpt: the order of writing is the whole guarantee. A rank writes under a temporary name, fsyncs,
 * hashes, and renames the file to a name that holds its hash; so no committed file is ever written
 * again, though the same step may be saved twice. Rank 0 then writes the manifest, which alone
 * makes a generation. Claim and commit hold a lock on <path>/incarnation, so an older incarnation
 * cannot commit once a newer has claimed. Deleting begins with the manifest. What a crash leaves
 * behind is removed at the next commit. Called by train.c and shard.c at step boundaries.
 */
#include "runtime/ckpt.h"

#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/ckpt_manifest.h"
#include "runtime/hash.h"
#include "runtime/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/file.h>
#include <unistd.h>

#define HEADER_BYTES      ((size_t)1 << 20) /* room for a file's header, written last */
#define WRITER_ARENA      ((size_t)16 << 20)
#define GENERATIONS_LIMIT 4096

/* -- the folder -- */

static int join(char out[LIMIT_PATH_BYTES], struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int join(char out[LIMIT_PATH_BYTES], struct err *e, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(out, LIMIT_PATH_BYTES, fmt, ap);
	va_end(ap);
	return n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "checkpoint path is too long");
}

static int step_folder(const char *path, int64_t step, char out[LIMIT_PATH_BYTES], struct err *e)
{
	return join(out, e, "%s/step-%08" PRId64, path, step);
}

static int descending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x < y) - (x > y);
}

/* The steps that have a folder, newest first; an absent path has none. Freed by the caller. */
static int list_steps(const char *path, int64_t **out, int *count, struct err *e)
{
	int64_t *steps = mem_array(GENERATIONS_LIMIT, sizeof *steps);
	if (!steps)
		return err_set(e, ERR_MEMORY, "%s: no memory to list it", path);
	*count = 0;
	*out = steps;
	DIR *d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : err_sys(e, ERR_DATA, errno, "%s", path);
	for (struct dirent *f; (f = readdir(d)) && *count < GENERATIONS_LIMIT;) {
		char *end;
		if (strncmp(f->d_name, "step-", 5) || f->d_name[5] < '0' || f->d_name[5] > '9')
			continue;
		int64_t step = strtoll(f->d_name + 5, &end, 10);
		if (!*end)
			steps[(*count)++] = step;
	}
	closedir(d);
	qsort(steps, (size_t)*count, sizeof *steps, descending);
	return 0;
}

static int read_manifest(const char *path, int64_t step, struct ckpt_manifest *out, struct err *e)
{
	char file[LIMIT_PATH_BYTES];
	int rc = join(file, e, "%s/step-%08" PRId64 "/manifest.json", path, step);
	return rc ? rc : ckpt_manifest_read(file, out, e);
}

/* -- incarnations -- */

/* 0 when nobody has claimed yet. */
static int read_claim(const char *path, int64_t *out, struct err *e)
{
	char file[LIMIT_PATH_BYTES];
	buf_auto struct buf text;
	buf_init(&text, 64);
	int rc = join(file, e, "%s/incarnation", path);
	*out = 0;
	if (rc || !io_exists(file))
		return rc;
	rc = io_read_file(file, 63, &text, e);
	if (!rc)
		*out = strtoll(buf_cstr(&text), NULL, 10);
	return rc;
}

/* Waits for whoever claims or commits just now; they hold it for milliseconds. */
static int lock(const char *path, struct err *e)
{
	char file[LIMIT_PATH_BYTES];
	int rc = join(file, e, "%s/lock", path);
	if (rc)
		return rc;
	int fd = io_append(file, 0644, e);
	if (fd >= 0 && flock(fd, LOCK_EX)) {
		rc = err_sys(e, ERR_DATA, errno, "%s: cannot lock", file);
		io_close(fd);
		return rc;
	}
	return fd;
}

static int refuse_older(const char *path, int64_t incarnation, struct err *e)
{
	int64_t newest;
	int rc = read_claim(path, &newest, e);
	if (rc || newest <= incarnation)
		return rc;
	return err_set(e, ERR_DRAINED, "%s: incarnation %" PRId64 " has begun, this is %" PRId64,
		       path, newest, incarnation);
}

int ckpt_claim(const char *path, int64_t incarnation, struct err *e)
{
	char file[LIMIT_PATH_BYTES], text[32];
	int rc = join(file, e, "%s/incarnation", path);
	if (!rc)
		rc = io_mkdirs(path, 0755, e);
	if (rc)
		return rc;
	io_auto_fd int locked = lock(path, e);
	if (locked < 0)
		return locked;
	rc = refuse_older(path, incarnation, e);
	if (rc)
		return rc;
	int n = snprintf(text, sizeof text, "%" PRId64 "\n", incarnation);
	return io_write_file(file, text, (size_t)n, 0644, e);
}

int64_t ckpt_incarnation(const char *path)
{
	int64_t newest;
	mem_autofree int64_t *steps = NULL;
	int count = 0;
	read_claim(path, &newest, NULL);
	list_steps(path, &steps, &count, NULL);
	for (int i = 0; steps && i < count; i++) {
		struct ckpt_manifest m;
		if (read_manifest(path, steps[i], &m, NULL))
			continue;
		if (m.state.incarnation > newest)
			newest = m.state.incarnation;
		ckpt_manifest_done(&m);
	}
	return newest;
}

/* -- writing -- */

struct ckpt_writer {
	char folder[LIMIT_PATH_BYTES], temporary[LIMIT_PATH_BYTES];
	int rank, fd;
	struct arena *arena; /* metadata strings */
	struct safetensors_entry *entries;
	const char **metadata; /* key and value of each entry, NULL-ended */
	int count, room;
	const char *last_name; /* of the newest entry, for joining slices */
	int64_t last_end;
};

static int sync_folder(const char *path, struct err *e)
{
	io_auto_fd int fd = io_open_read(path, e);
	return fd < 0 ? fd : io_fsync(fd, e);
}

static int begin(struct ckpt_writer *w, const char *path, int64_t step, struct err *e)
{
	uint32_t random;
	int rc = step_folder(path, step, w->folder, e);
	if (!rc)
		rc = io_random(&random, sizeof random, e);
	if (!rc)
		rc = join(w->temporary, e, "%s/.rank-%05d-%08x", w->folder, w->rank, random);
	if (!rc)
		rc = io_mkdirs(w->folder, 0755, e);
	if (!rc)
		rc = sync_folder(path, e);
	if (rc)
		return rc;
	w->arena = arena_create(WRITER_ARENA);
	if (!w->arena)
		return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
	w->fd = io_create(w->temporary, 0644, e);
	if (w->fd < 0)
		return w->fd;
	if (lseek(w->fd, (off_t)HEADER_BYTES, SEEK_SET) < 0)
		return err_sys(e, ERR_DATA, errno, "%s", w->temporary);
	return 0;
}

int ckpt_begin(const char *path, int64_t step, int rank, struct ckpt_writer **out, struct err *e)
{
	struct ckpt_writer *w = mem_zalloc(sizeof *w);
	if (!w)
		return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
	w->rank = rank;
	w->fd = -1;
	int rc = begin(w, path, step, e);
	if (rc) {
		ckpt_abandon(w);
		return rc;
	}
	*out = w;
	return 0;
}

static int grow(struct ckpt_writer *w, struct err *e)
{
	if (w->count < w->room)
		return 0;
	int room = w->room ? 2 * w->room : 64;
	void *entries = mem_grow(w->entries, (size_t)room, sizeof *w->entries);
	if (entries)
		w->entries = entries;
	void *metadata = mem_grow(w->metadata, 2 * (size_t)room + 1, sizeof *w->metadata);
	if (metadata)
		w->metadata = metadata;
	if (!entries || !metadata)
		return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
	w->room = room;
	return 0;
}

/* A slice is stored under "name@offset"; its metadata holds the tensor's total. */
static int add_entry(struct ckpt_writer *w, const char *name, int64_t total, int64_t offset,
		     enum dtype t, struct err *e)
{
	int rc = grow(w, e);
	if (rc)
		return rc;
	struct safetensors_entry *x = &w->entries[w->count];
	*x = (struct safetensors_entry){.type = t, .dims = 1};
	int n = snprintf(x->name, sizeof x->name, "%s@%" PRId64, name, offset);
	if (n >= (int)sizeof x->name)
		return err_set(e, ERR_BUG, "tensor name %.64s is too long", name);
	const char *key = arena_strdup(w->arena, x->name);
	const char *value = arena_printf(w->arena, "%" PRId64, total);
	w->last_name = arena_strdup(w->arena, name);
	if (!key || !value || !w->last_name)
		return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
	w->metadata[2 * w->count] = key;
	w->metadata[2 * w->count + 1] = value;
	w->count++;
	w->last_end = offset;
	return 0;
}

int ckpt_put(struct ckpt_writer *w, const char *name, int64_t total, int64_t offset, int64_t count,
	     enum dtype t, const void *data, struct err *e)
{
	int64_t bytes = dtype_bytes(t, count);
	if (offset < 0 || count < 1 || offset > total - count || bytes < 0)
		return err_set(e, ERR_BUG, "tensor %.64s: slice lies outside it", name);
	bool joins = w->count && w->last_end == offset && w->entries[w->count - 1].type == t &&
		     !strcmp(w->last_name, name);
	int rc = joins ? 0 : add_entry(w, name, total, offset, t, e);
	if (!rc && io_write_full(w->fd, data, (size_t)bytes, e))
		rc = err_wrap(e, "%s", w->temporary);
	if (rc)
		return rc;
	w->entries[w->count - 1].bytes += bytes;
	w->entries[w->count - 1].shape[0] += count;
	w->last_end += count;
	return 0;
}

static int finish(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
	buf_auto struct buf header;
	buf_init(&header, HEADER_BYTES);
	if (w->count) /* a rank with no slice writes an empty file */
		w->metadata[2 * w->count] = NULL;
	int rc = safetensors_header(w->entries, w->count, w->metadata, HEADER_BYTES, &header, e);
	if (!rc && lseek(w->fd, 0, SEEK_SET) < 0)
		rc = err_sys(e, ERR_DATA, errno, "%s", w->temporary);
	if (!rc)
		rc = io_write_full(w->fd, header.data, header.len, e);
	if (!rc)
		rc = io_fsync(w->fd, e);
	struct io_map map = {0};
	if (!rc)
		rc = io_map(w->temporary, &map, e);
	if (rc)
		return rc;
	hash_xxh3_hex(map.data, map.size, hash);
	*bytes = (int64_t)map.size;
	io_unmap(&map);
	char name[64], final[LIMIT_PATH_BYTES];
	ckpt_file_name(w->rank, hash, name);
	rc = join(final, e, "%s/%s", w->folder, name);
	return rc ? rc : io_rename(w->temporary, final, e);
}

int ckpt_finish(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
	char h[HASH_XXH3_HEX];
	int64_t n;
	int rc = finish(w, h, &n, e);
	if (!rc) {
		memcpy(hash, h, sizeof h);
		*bytes = n;
		w->temporary[0] = 0;
	}
	ckpt_abandon(w);
	return rc;
}

void ckpt_abandon(struct ckpt_writer *w)
{
	if (!w)
		return;
	io_close(w->fd);
	if (w->fd >= 0 && w->temporary[0])
		unlink(w->temporary);
	arena_destroy(w->arena);
	mem_free(w->entries);
	mem_free(w->metadata);
	mem_free(w);
}

/* -- committing -- */

static bool listed(const struct ckpt_manifest *m, const char *name)
{
	if (!strcmp(name, "manifest.json"))
		return true;
	for (int i = 0; i < m->file_count; i++)
		if (!strcmp(m->files[i].name, name))
			return true;
	return false;
}

/* Files in a committed folder that its manifest does not name: of an earlier try, or of an older
 * incarnation. */
static void remove_unlisted(const char *folder, const struct ckpt_manifest *m)
{
	DIR *d = opendir(folder);
	if (!d)
		return;
	for (struct dirent *f; (f = readdir(d));) {
		char file[LIMIT_PATH_BYTES];
		if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..") || listed(m, f->d_name))
			continue;
		if (!join(file, NULL, "%s/%s", folder, f->d_name))
			unlink(file);
	}
	closedir(d);
}

static int remove_step(const char *path, int64_t step, struct err *e)
{
	char folder[LIMIT_PATH_BYTES], manifest[LIMIT_PATH_BYTES];
	int rc = step_folder(path, step, folder, e);
	if (!rc)
		rc = join(manifest, e, "%s/step-%08" PRId64 "/manifest.json", path, step);
	if (rc)
		return rc;
	if (unlink(manifest) && errno != ENOENT)
		return err_sys(e, ERR_DATA, errno, "%s", manifest);
	return io_remove_tree(folder, e);
}

/* Keeps the newest `keep` generations; what was never completed before `step` goes too. */
static int prune(const char *path, int64_t step, int keep, struct err *e)
{
	mem_autofree int64_t *steps = NULL;
	int count, rc = list_steps(path, &steps, &count, e);
	int complete = 0;
	for (int i = 0; i < count && !rc; i++) {
		char manifest[LIMIT_PATH_BYTES];
		rc = join(manifest, e, "%s/step-%08" PRId64 "/manifest.json", path, steps[i]);
		if (rc || steps[i] > step)
			continue;
		if (io_exists(manifest) ? ++complete > keep : steps[i] < step)
			rc = remove_step(path, steps[i], e);
	}
	return rc;
}

int ckpt_commit(const char *path, const struct ckpt_state *s, int files, const char (*hashes)[17],
		const int64_t *bytes, int keep, struct err *e)
{
	char folder[LIMIT_PATH_BYTES], manifest[LIMIT_PATH_BYTES];
	mem_autofree struct ckpt_file *list = mem_array((size_t)files, sizeof *list);
	struct ckpt_manifest m = {.state = *s, .files = list, .file_count = files};
	int rc = step_folder(path, s->step, folder, e);
	if (!rc)
		rc = join(manifest, e, "%s/step-%08" PRId64 "/manifest.json", path, s->step);
	if (!rc && !list)
		rc = err_set(e, ERR_MEMORY, "no memory to commit a checkpoint");
	if (rc)
		return rc;
	for (int i = 0; i < files; i++) {
		memcpy(list[i].hash, hashes[i], 17);
		list[i].bytes = bytes[i];
		ckpt_file_name(i, hashes[i], list[i].name);
	}
	io_auto_fd int locked = lock(path, e);
	if (locked < 0)
		return locked;
	rc = refuse_older(path, s->incarnation, e);
	if (!rc)
		rc = ckpt_manifest_write(manifest, &m, e);
	if (rc)
		return rc;
	remove_unlisted(folder, &m);
	return prune(path, s->step, keep < 2 ? 2 : keep, e);
}

/* -- reading -- */

struct slice {
	const char *name; /* up to the '@' of the entry's */
	size_t name_len;
	int64_t total, offset, count;
	enum dtype type;
	const uint8_t *data;
};

struct ckpt_reader {
	struct safetensors **files;
	int file_count;
	struct slice *slices; /* by name, then offset */
	int slice_count;
};

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int slice_compare(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int d = name_compare(x->name, x->name_len, y->name, y->name_len);
	return d ? d : (x->offset > y->offset) - (x->offset < y->offset);
}

static int open_file(struct ckpt_reader *r, const char *folder, const struct ckpt_file *f,
		     struct err *e)
{
	char path[LIMIT_PATH_BYTES], hash[HASH_XXH3_HEX];
	int rc = join(path, e, "%s/%s", folder, f->name);
	struct safetensors **s = &r->files[r->file_count];
	if (!rc)
		rc = safetensors_open(path, s, e);
	if (rc)
		return rc;
	r->file_count++;
	size_t size;
	const void *bytes = safetensors_bytes(*s, &size);
	hash_xxh3_hex(bytes, size, hash);
	if ((int64_t)size != f->bytes || strcmp(hash, f->hash))
		return err_set(e, ERR_CORRUPT, "%s: its hash does not match", path);
	return 0;
}

static int index_slices(struct ckpt_reader *r, struct err *e)
{
	size_t count = 0;
	for (int i = 0; i < r->file_count; i++)
		count += (size_t)safetensors_count(r->files[i]);
	r->slices = mem_array(count + 1, sizeof *r->slices);
	if (!r->slices)
		return err_set(e, ERR_MEMORY, "no memory for %zu slices", count);
	for (int i = 0; i < r->file_count; i++) {
		for (int k = 0; k < safetensors_count(r->files[i]); k++) {
			const struct safetensors_tensor *t = safetensors_at(r->files[i], k);
			const char *at = strrchr(t->name, '@');
			const char *total = safetensors_metadata(r->files[i], t->name);
			struct slice s = {.name = t->name, .type = t->type, .data = t->data};
			if (!at || !total || t->dims != 1)
				return err_set(e, ERR_CORRUPT, "%s is no slice", t->name);
			s.name_len = (size_t)(at - t->name);
			s.offset = strtoll(at + 1, NULL, 10);
			s.total = strtoll(total, NULL, 10);
			s.count = t->shape[0];
			if (s.offset < 0 || s.offset > s.total - s.count)
				return err_set(e, ERR_CORRUPT, "%s lies outside its tensor",
					       t->name);
			r->slices[r->slice_count++] = s;
		}
	}
	qsort(r->slices, (size_t)r->slice_count, sizeof *r->slices, slice_compare);
	return 0;
}

static int open_generation(const char *path, int64_t step, struct ckpt_reader **out,
			   struct ckpt_state *state, struct err *e)
{
	char folder[LIMIT_PATH_BYTES];
	struct ckpt_manifest m = {0};
	int rc = step_folder(path, step, folder, e);
	if (!rc)
		rc = read_manifest(path, step, &m, e);
	if (rc)
		return rc;
	struct ckpt_reader *r = mem_zalloc(sizeof *r);
	if (r)
		r->files = mem_array((size_t)m.file_count, sizeof *r->files);
	if (!r || !r->files)
		rc = err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
	if (!rc && m.state.step != step)
		rc = err_set(e, ERR_CORRUPT, "%s holds step %" PRId64, folder, m.state.step);
	for (int i = 0; i < m.file_count && !rc; i++)
		rc = open_file(r, folder, &m.files[i], e);
	if (!rc)
		rc = index_slices(r, e);
	if (!rc) {
		*state = m.state;
		*out = r;
	} else {
		ckpt_close(r);
	}
	ckpt_manifest_done(&m);
	return rc;
}

int ckpt_open_newest(const char *path, struct ckpt_reader **out, struct ckpt_state *state,
		     struct err *e)
{
	mem_autofree int64_t *steps = NULL;
	int count, rc = list_steps(path, &steps, &count, e);
	if (rc)
		return rc;
	for (int i = 0; i < count; i++) {
		char manifest[LIMIT_PATH_BYTES];
		struct err why = {0};
		rc = join(manifest, e, "%s/step-%08" PRId64 "/manifest.json", path, steps[i]);
		if (rc)
			return rc;
		if (!io_exists(manifest))
			continue;
		rc = open_generation(path, steps[i], out, state, &why);
		if (!rc)
			return 0;
		if (rc != -ERR_CORRUPT && rc != -ERR_DATA) { /* not the generation's fault */
			if (e)
				*e = why;
			return rc;
		}
		log_warn("checkpoint skipped", LOG_I("step", steps[i]), LOG_ERR(&why));
	}
	*out = NULL;
	return 0;
}

void ckpt_close(struct ckpt_reader *r)
{
	if (!r)
		return;
	for (int i = 0; i < r->file_count; i++)
		safetensors_close(r->files[i]);
	mem_free(r->files);
	mem_free(r->slices);
	mem_free(r);
}

/* The first slice of a tensor, or NULL; those that follow it have the same name. */
static const struct slice *first_slice(const struct ckpt_reader *r, const char *name)
{
	size_t len = strlen(name);
	int low = 0, high = r->slice_count;
	while (low < high) {
		int middle = low + (high - low) / 2;
		const struct slice *s = &r->slices[middle];
		if (name_compare(s->name, s->name_len, name, len) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	const struct slice *s = &r->slices[low];
	return low < r->slice_count && !name_compare(s->name, s->name_len, name, len) ? s : NULL;
}

bool ckpt_has(struct ckpt_reader *r, const char *name)
{
	return first_slice(r, name) != NULL;
}

int ckpt_get(struct ckpt_reader *r, const char *name, int64_t total, int64_t offset, int64_t count,
	     enum dtype t, void *data, struct err *e)
{
	const struct slice *s = first_slice(r, name), *end = r->slices + r->slice_count;
	if (!s)
		return err_set(e, ERR_CORRUPT, "checkpoint has no tensor %.128s", name);
	if (offset < 0 || count < 0 || offset > total - count)
		return err_set(e, ERR_BUG, "tensor %.64s: slice lies outside it", name);
	int64_t size = dtype_block_bytes(t), at = offset;
	for (; s < end && at < offset + count; s++) {
		if (strlen(name) != s->name_len || memcmp(s->name, name, s->name_len))
			break;
		if (s->total != total || s->type != t)
			return err_set(e, ERR_CORRUPT,
				       "checkpoint's tensor %.128s has %" PRId64
				       " elements of %s, not %" PRId64 " of %s",
				       name, s->total, dtype_name(s->type), total, dtype_name(t));
		if (s->offset > at)
			break;
		if (s->offset + s->count <= at)
			continue;
		int64_t to = s->offset + s->count;
		to = to < offset + count ? to : offset + count;
		memcpy((uint8_t *)data + (at - offset) * size, s->data + (at - s->offset) * size,
		       (size_t)((to - at) * size));
		at = to;
	}
	if (at < offset + count)
		return err_set(e, ERR_CORRUPT, "checkpoint's tensor %.128s has a gap at %" PRId64,
			       name, at);
	return 0;
}
