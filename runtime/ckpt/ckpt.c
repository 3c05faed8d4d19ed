/*
 * ckpt: the order of writing is the whole guarantee. A rank writes under a temporary name, fsyncs,
 * hashes, and renames the file to a name that holds its hash; so no committed file is ever written
 * again, though the same step may be saved twice. Rank 0 then writes the manifest, which alone
 * makes a generation. Claim and commit hold <path>/lock, so an older incarnation cannot commit once
 * a newer has claimed. What a crash leaves behind is removed by the next claim. Must not look into
 * a tensor, nor know what a model is.
 */
#include "runtime/ckpt/ckpt.h"

#include "base/io.h"
#include "api/incarnation.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/point.h"
#include "runtime/ckpt/folder.h"
#include "runtime/files/hash.h"
#include "runtime/files/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/file.h>
#include <unistd.h>

#define HEADER_BYTES CKPT_HEADER_BYTES /* written last */
#define WRITER_ARENA ((size_t)16 << 20)
#define CHUNK_BYTES  ((int64_t)8 << 20) /* of what was held, between two looks whether to stop */

/* -- incarnations -- */

/* Waits for whoever claims or commits just now; they hold it for milliseconds. */
static int lock_folder(const char *path, struct err *e)
{
    char file[LIMIT_PATH_BYTES];
    int rc = ckpt_folder_path(file, e, "%s/lock", path);
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

/* "" where nobody said: a claim of an earlier version. */
static int read_owner(const char *path, char out[65], struct err *e)
{
    char file[LIMIT_PATH_BYTES];
    struct err why = {0};
    buf_auto struct buf text;
    buf_init(&text, 80);
    int rc = ckpt_folder_path(file, e, "%s/" CKPT_FOLDER_OWNER, path);
    if (rc)
        return rc;
    out[0] = 0;
    rc = io_read_file(file, 64, &text, &why);
    if (rc && why.sys == ENOENT)
        return 0;
    if (rc && e)
        *e = why;
    if (!rc)
        snprintf(out, 65, "%s", buf_cstr(&text));
    return rc;
}

static int refuse_older(const char *path, int64_t incarnation, const char *owner, struct err *e)
{
    char other[65];
    int64_t newest;
    int rc = incarnation_read(path, &newest, e);
    if (rc || newest < incarnation)
        return rc;
    if (newest > incarnation)
        return err_set(e, ERR_DRAINED, "%s: incarnation %" PRId64 " has begun, this is %" PRId64,
            path, newest, incarnation);
    rc = read_owner(path, other, e);
    if (rc || !*other || !strcmp(other, owner))
        return rc;
    return err_set(
        e, ERR_DRAINED, "%s: another incarnation %" PRId64 " has begun", path, incarnation);
}

int ckpt_claim(const char *path, int64_t incarnation, const char *owner, struct err *e)
{
    char file[LIMIT_PATH_BYTES], owners[LIMIT_PATH_BYTES];
    struct err why = {0};
    int rc = incarnation_path(path, file, e);
    if (rc)
        return rc;
    if (incarnation < 1 || incarnation > NUMBER_EXACT)
        return err_set(
            e, ERR_DATA, "%s: incarnation %" PRId64 " follows what it holds", file, incarnation);
    rc = io_mkdirs(path, 0755, e);
    if (rc)
        return rc;
    io_auto_fd int locked = lock_folder(path, e);
    if (locked < 0)
        return locked;
    if ((rc = refuse_older(path, incarnation, owner, e)) ||
        (rc = ckpt_folder_path(owners, e, "%s/" CKPT_FOLDER_OWNER, path)) ||
        /* first: without it the number would be anybody's */
        (rc = io_write_file(owners, owner, strlen(owner), 0644, e)))
        return rc;
    point_pass("claim");
    if ((rc = incarnation_write(path, incarnation, e)))
        return rc;
    /* Whoever wrote them cannot commit them any more. They are in nobody's way but the disk's. */
    if (ckpt_folder_sweep(path, &why))
        log_warn("leftovers stay", LOG_ERR(&why));
    return 0;
}

/* -- writing -- */

struct ckpt_writer {
    char path[LIMIT_PATH_BYTES], folder[LIMIT_PATH_BYTES], temporary[LIMIT_PATH_BYTES];
    int64_t step;
    int rank, fd;
    struct ckpt_memory *held; /* NULL: what is put is written at once */
    int64_t held_bytes;
    struct arena *arena; /* metadata strings */
    struct safetensors_entry *entries;
    const char **metadata; /* key and value of each entry, NULL-ended */
    int count, room;
    const char *last_name; /* of the newest entry, for joining pieces */
    struct ckpt_piece last;
};

static int sync_folder(const char *path, struct err *e)
{
    io_auto_fd int fd = io_open_read(path, e);
    return fd < 0 ? fd : io_fsync(fd, e);
}

static int begin_file(struct ckpt_writer *w, struct err *e)
{
    uint32_t random;
    int rc = io_random(&random, sizeof random, e);
    if (rc)
        return rc;
    rc = ckpt_folder_path(w->temporary, e, "%s/.rank-%05d-%08x", w->folder, w->rank, random);
    if (rc || (rc = io_mkdirs(w->folder, 0755, e)) || (rc = sync_folder(w->path, e)))
        return rc;
    w->fd = io_create(w->temporary, 0644, e);
    if (w->fd < 0)
        return w->fd;
    if (lseek(w->fd, (off_t)HEADER_BYTES, SEEK_SET) < 0)
        return err_sys(e, ERR_DATA, errno, "%s", w->temporary);
    return 0;
}

static int create_writer(
    const char *path, int64_t step, int rank, struct ckpt_writer **out, struct err *e)
{
    struct ckpt_writer *w = mem_zalloc(sizeof *w);
    struct arena *arena = w ? arena_create(WRITER_ARENA) : NULL;
    if (!arena) {
        mem_free(w);
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    }
    w->step = step;
    w->rank = rank;
    w->fd = -1;
    w->arena = arena;
    int rc = ckpt_folder_path(w->path, e, "%s", path);
    if (rc || (rc = ckpt_folder_step(path, step, w->folder, e))) {
        ckpt_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

int ckpt_begin(const char *path, int64_t step, int rank, struct ckpt_writer **out, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc = create_writer(path, step, rank, &w, e);
    if (rc)
        return rc;
    rc = begin_file(w, e);
    if (rc) {
        ckpt_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

int ckpt_hold(const char *path, int64_t step, int rank, struct ckpt_memory *m,
    struct ckpt_writer **out, struct err *e)
{
    int rc = create_writer(path, step, rank, out, e);
    if (rc)
        return rc;
    atomic_store(&m->written, 0);
    (*out)->held = m;
    return 0;
}

void *ckpt_place(const struct ckpt_writer *w, int64_t bytes)
{
    bool has = w->held && bytes <= w->held->bytes - w->held_bytes;
    return has ? w->held->at + w->held_bytes : NULL;
}

static int grow_entries(struct ckpt_writer *w, struct err *e)
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

/* The entry's name says where the piece begins, its metadata what it is a piece of. */
static int name_entry(struct ckpt_writer *w, const char *name, const struct ckpt_piece *p,
    struct safetensors_entry *x, struct err *e)
{
    bool flat = ckpt_piece_is_flat(p);
    int n = flat
        ? snprintf(x->name, sizeof x->name, "%s@%" PRId64, name, p->column)
        : snprintf(x->name, sizeof x->name, "%s@%" PRId64 ",%" PRId64, name, p->row, p->column);
    if (n >= (int)sizeof x->name)
        return err_set(e, ERR_BUG, "tensor name %.64s is too long", name);
    const char *key = arena_strdup(w->arena, x->name);
    const char *whole = flat ? arena_printf(w->arena, "%" PRId64, p->columns)
                             : arena_printf(w->arena, "%" PRId64 "x%" PRId64, p->rows, p->columns);
    const char *last_name = arena_strdup(w->arena, name);
    if (!key || !whole || !last_name)
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    w->metadata[2 * w->count] = key;
    w->metadata[2 * w->count + 1] = whole;
    w->last_name = last_name;
    return 0;
}

static int add_entry(struct ckpt_writer *w, const char *name, const struct ckpt_piece *p,
    enum dtype t, struct err *e)
{
    int rc = grow_entries(w, e);
    if (rc)
        return rc;
    struct safetensors_entry *x = &w->entries[w->count];
    *x = (struct safetensors_entry){.type = t, .dims = ckpt_piece_is_flat(p) ? 1 : 2};
    rc = name_entry(w, name, p, x, e);
    if (rc)
        return rc;
    w->count++;
    w->last = *p;
    return 0;
}

static void size_entry(struct ckpt_writer *w, int64_t bytes)
{
    struct safetensors_entry *x = &w->entries[w->count - 1];
    x->bytes += bytes;
    x->shape[0] = ckpt_piece_is_flat(&w->last) ? w->last.width : w->last.height;
    x->shape[1] = ckpt_piece_is_flat(&w->last) ? 0 : w->last.width;
}

/* What was made in its place is there. */
static int hold(struct ckpt_writer *w, const void *data, int64_t bytes, struct err *e)
{
    void *place = ckpt_place(w, bytes);
    if (!place)
        return err_set(e, ERR_MEMORY, "no room in the %lld MiB that hold a checkpoint",
            (long long)(w->held->bytes >> 20));
    if (place != data)
        memcpy(place, data, (size_t)bytes);
    w->held_bytes += bytes;
    return 0;
}

int ckpt_put_piece(struct ckpt_writer *w, const char *name, const struct ckpt_piece *piece,
    enum dtype t, const void *data, struct err *e)
{
    if (!ckpt_piece_fits(piece) || ckpt_piece_count(piece) < 1 || dtype_block(t) != 1)
        return err_set(e, ERR_BUG, "tensor %.64s: piece lies outside it", name);
    const struct ckpt_piece p = ckpt_piece_simplest(piece);
    int64_t bytes = dtype_bytes(t, ckpt_piece_count(&p));
    if (bytes < 0)
        return err_set(e, ERR_BUG, "tensor %.64s: piece is too large", name);
    bool joins = w->count && w->entries[w->count - 1].type == t && !strcmp(w->last_name, name) &&
        ckpt_piece_join(&w->last, &p);
    int rc = joins ? 0 : add_entry(w, name, &p, t, e);
    if (rc)
        return rc;
    size_entry(w, bytes);
    if (w->held)
        return hold(w, data, bytes, e);
    if (io_write_full(w->fd, data, (size_t)bytes, e))
        return err_wrap(e, "%s", w->temporary);
    point_pass_at("shard", w->step);
    return 0;
}

int ckpt_put(struct ckpt_writer *w, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, const void *data, struct err *e)
{
    const struct ckpt_piece p = ckpt_piece_flat(total, offset, count);
    return ckpt_put_piece(w, name, &p, t, data, e);
}

/* As a reader will find it. */
static int hash_written(const struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
    io_auto_fd int fd = io_open_read(w->temporary, e);
    if (fd < 0)
        return fd;
    int64_t size = io_file_size(w->temporary, e);
    if (size < 0)
        return (int)size;
    *bytes = size;
    return hash_xxh3_file(fd, size, hash, e);
}

static int make_header(struct ckpt_writer *w, struct buf *header, struct err *e)
{
    if (w->count) /* a rank with no slice writes an empty file */
        w->metadata[2 * w->count] = NULL;
    return safetensors_header(w->entries, w->count, w->metadata, HEADER_BYTES, header, e);
}

static int finish_file(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
    buf_auto struct buf header;
    buf_init(&header, HEADER_BYTES);
    int rc = make_header(w, &header, e);
    if (rc)
        return rc;
    if (lseek(w->fd, 0, SEEK_SET) < 0)
        return err_sys(e, ERR_DATA, errno, "%s", w->temporary);
    if ((rc = io_write_full(w->fd, header.data, header.len, e)))
        return rc;
    point_pass_at("fsync", w->step);
    if ((rc = io_fsync(w->fd, e)) || (rc = hash_written(w, hash, bytes, e)))
        return rc;
    char name[64], final[LIMIT_PATH_BYTES];
    ckpt_file_name(w->rank, hash, name);
    rc = ckpt_folder_path(final, e, "%s/%s", w->folder, name);
    point_pass_at("rename", w->step);
    return rc ? rc : io_rename(w->temporary, final, e);
}

static int write_held(struct ckpt_writer *w, struct err *e)
{
    struct ckpt_memory *m = w->held;
    int rc = begin_file(w, e);
    for (int64_t at = 0, n; at < w->held_bytes && !rc; at += n) {
        if (atomic_load(&m->stop))
            return err_set(e, ERR_DRAINED, "%s: given up", w->temporary);
        n = w->held_bytes - at < CHUNK_BYTES ? w->held_bytes - at : CHUNK_BYTES;
        rc = io_write_full(w->fd, m->at + at, (size_t)n, e);
        if (rc)
            return err_wrap(e, "%s", w->temporary);
        atomic_fetch_add(&m->written, n);
        point_pass_at("shard", w->step);
    }
    return rc;
}

int ckpt_finish(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
    char h[HASH_XXH3_HEX];
    int64_t n;
    int rc = w->held ? write_held(w, e) : 0;
    if (!rc)
        rc = finish_file(w, h, &n, e);
    if (!rc) {
        memcpy(hash, h, sizeof h);
        *bytes = n;
        w->temporary[0] = 0; /* it has its name */
    }
    ckpt_abandon(w);
    return rc;
}

int ckpt_finish_held(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e)
{
    buf_auto struct buf header;
    buf_init(&header, HEADER_BYTES);
    int rc = make_header(w, &header, e);
    if (!rc && header.len != HEADER_BYTES)
        rc = err_set(e, ERR_BUG, "a header of %zu bytes", header.len);
    if (!rc) {
        char *file = w->held->at - HEADER_BYTES;
        memcpy(file, header.data, header.len);
        *bytes = HEADER_BYTES + w->held_bytes;
        hash_xxh3_hex(file, (size_t)*bytes, hash);
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

/* One that a failed or killed world had just renamed into place is on the disk for sure before
 * those go that it stands for. */
static int sync_generation(const char *path, int64_t step, struct err *e)
{
    char folder[LIMIT_PATH_BYTES];
    int rc = ckpt_folder_step(path, step, folder, e);
    return rc ? rc : sync_folder(folder, e);
}

/* Keeps the newest `keep` generations; what was never completed before `step` goes too. */
static int prune_generations(const char *path, int64_t step, int keep, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    int count = 0, rc = ckpt_folder_list(path, &steps, &count, e);
    int complete = 0;
    for (int i = 0; i < count && !rc; i++) {
        bool committed = false;
        if (steps[i] > step)
            continue;
        rc = ckpt_folder_committed(path, steps[i], &committed, e);
        complete += committed;
        if (!rc && committed && complete <= keep)
            rc = sync_generation(path, steps[i], e);
        else if (!rc && (committed || steps[i] < step))
            rc = ckpt_folder_clear(path, steps[i], NULL, e);
    }
    return rc;
}

int ckpt_commit(const char *path, const struct ckpt_state *s, int files, const char (*hashes)[17],
    const int64_t *bytes, int keep, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    mem_autofree struct ckpt_file *list = mem_array((size_t)files, sizeof *list);
    struct ckpt_manifest m = {.state = *s, .files = list, .file_count = files};
    int rc = ckpt_folder_manifest(path, s->step, manifest, e);
    if (rc)
        return rc;
    if (!list)
        return err_set(e, ERR_MEMORY, "no memory to commit a checkpoint");
    for (int i = 0; i < files; i++) {
        memcpy(list[i].hash, hashes[i], 17);
        list[i].bytes = bytes[i];
        ckpt_file_name(i, hashes[i], list[i].name);
    }
    io_auto_fd int locked = lock_folder(path, e);
    if (locked < 0)
        return locked;
    point_pass_at("manifest", s->step);
    if ((rc = refuse_older(path, s->incarnation, s->owner, e)) ||
        (rc = ckpt_manifest_write(manifest, &m, e)))
        return rc;
    point_pass_at("prune", s->step);
    if ((rc = ckpt_folder_clear(path, s->step, &m, e)))
        return rc;
    return prune_generations(path, s->step, keep < 2 ? 2 : keep, e);
}

/* -- what cannot be read -- */

int ckpt_set_aside(const char *path, struct ckpt_state *s, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    int count = 0;
    s->aside[0] = 0;
    s->aside_bytes = 0;
    io_auto_fd int locked = lock_folder(path, e);
    if (locked < 0)
        return locked;
    int rc = refuse_older(path, s->incarnation, s->owner, e);
    if (rc || (rc = ckpt_folder_list(path, &steps, &count, e)))
        return rc;
    for (int i = count - 1; i >= 0; i--) {
        bool committed = false;
        struct err why = {0};
        if (steps[i] <= s->step)
            continue;
        rc = ckpt_folder_committed(path, steps[i], &committed, &why);
        if (!rc && committed)
            rc = ckpt_folder_set_aside(path, steps[i], s->aside, &why);
        if (rc)
            log_warn("a damaged checkpoint keeps its name", LOG_I("step", steps[i]), LOG_ERR(&why));
        else if (committed)
            log_warn("a damaged checkpoint is set aside", LOG_I("step", steps[i]),
                LOG_I("goesOnFrom", s->step), LOG_S("folder", s->aside));
    }
    struct err why = {0};
    if (ckpt_folder_aside(path, &count, &s->aside_bytes, &why))
        log_warn("what is set aside is not counted", LOG_ERR(&why));
    else if (count)
        log_info("checkpoints are set aside and stay until somebody removes them",
            LOG_I("folders", count), LOG_I("bytes", s->aside_bytes));
    return 0;
}
