/*
 * ckpt_copy: a slot begins at a multiple of a stride that no part reaches; what is not written of
 * the file takes no memory. The length of the seal's text, which is stored last, is what makes a
 * part; the text has a hash of its own, and one of the file.
 */
#include "runtime/ckpt/copy.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/ckpt/manifest.h"
#include "runtime/files/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STRIDE     ((int64_t)1 << 40)
#define TEXT_AT    ((int64_t)sizeof(int64_t))
#define TEXT_LIMIT (CKPT_COPY_SEAL_BYTES - TEXT_AT)
#define PIECE      (1 << 20)
#define PAGE       4096

/* -- writing -- */

static int punch(int fd, int64_t from, int64_t to, struct err *e)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from))
        return err_sys(e, ERR_MEMORY, errno, "giving back memory of a copy");
    return 0;
}

int ckpt_copy_open(int fd, int slot, int64_t bytes, struct ckpt_copy_slot *out, struct err *e)
{
    int64_t at = slot * STRIDE, all = (bytes + CKPT_COPY_BESIDE + PAGE - 1) / PAGE * PAGE;
    if (bytes < 0 || bytes > STRIDE - CKPT_COPY_BESIDE - PAGE)
        return err_set(e, ERR_MEMORY, "a copy of %lld bytes", (long long)bytes);
    int rc = punch(fd, at + all, at + STRIDE, e); /* of a larger one before */
    if (rc)
        return rc;
    if (fallocate(fd, 0, at, all))
        return err_sys(
            e, ERR_MEMORY, errno, "no memory to keep %lld MiB in", (long long)(all >> 20));
    char *p = mmap(NULL, (size_t)all, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
    if (p == MAP_FAILED)
        return err_sys(e, ERR_MEMORY, errno, "mapping %lld MiB", (long long)(all >> 20));
    *out = (struct ckpt_copy_slot){.at = p, .bytes = all};
    out->memory.at = p + CKPT_COPY_BESIDE;
    out->memory.bytes = bytes;
    return 0;
}

void ckpt_copy_close(struct ckpt_copy_slot *s)
{
    if (s->at)
        munmap(s->at, (size_t)s->bytes);
    s->at = NULL;
}

int ckpt_copy_drop(int fd, int slot, struct err *e)
{
    return punch(fd, slot * STRIDE, (slot + 1) * STRIDE, e);
}

static _Atomic int64_t *seal_of(const struct ckpt_copy_slot *s)
{
    return (_Atomic int64_t *)s->at;
}

void ckpt_copy_break(struct ckpt_copy_slot *s)
{
    atomic_store(seal_of(s), 0);
}

void ckpt_copy_put_seal(struct ckpt_copy_slot *s, const char *text, int64_t bytes)
{
    memcpy(s->at + TEXT_AT, text, (size_t)bytes);
    atomic_store(seal_of(s), bytes);
}

int64_t ckpt_copy_sealed(const struct ckpt_copy_slot *s, const char **text)
{
    *text = s->at + TEXT_AT;
    return atomic_load(seal_of(s));
}

char *ckpt_copy_file(struct ckpt_copy_slot *s, int64_t bytes)
{
    return bytes <= s->bytes - CKPT_COPY_SEAL_BYTES ? s->at + CKPT_COPY_SEAL_BYTES : NULL;
}

int ckpt_copy_begin(struct ckpt_copy_slot *s, const char *path, int64_t step, int rank,
    struct ckpt_writer **out, struct err *e)
{
    ckpt_copy_break(s);
    point_pass_at("copy", step);
    return ckpt_hold(path, step, rank, &s->memory, out, e);
}

int ckpt_copy_seal(struct ckpt_copy_slot *s, struct ckpt_writer *w, const struct ckpt_state *state,
    int rank, struct err *e)
{
    struct ckpt_file file;
    const struct ckpt_manifest m = {.state = *state, .files = &file, .file_count = 1};
    buf_auto struct buf text;
    buf_init(&text, (size_t)TEXT_LIMIT);
    int rc = ckpt_finish_held(w, file.hash, &file.bytes, e);
    if (rc)
        return rc;
    ckpt_file_name(rank, file.hash, file.name);
    rc = ckpt_manifest_print(&m, &text, e);
    if (rc)
        return rc;
    point_pass_at("seal", state->step);
    ckpt_copy_put_seal(s, text.data, (int64_t)text.len);
    s->sealed = file.bytes;
    return 0;
}

/* -- reading -- */

static int read_seal(int fd, int slot, struct buf *text, struct err *e)
{
    int64_t n = 0;
    int rc = io_pread_full(fd, &n, sizeof n, slot * STRIDE, e);
    if (rc)
        return rc;
    if (n < 1 || n > TEXT_LIMIT)
        return 0;
    mem_autofree char *at = mem_alloc((size_t)n);
    if (!at)
        return err_set(e, ERR_MEMORY, "no memory to look at a copy");
    rc = io_pread_full(fd, at, (size_t)n, slot * STRIDE + TEXT_AT, e);
    if (!rc && buf_add(text, at, (size_t)n))
        rc = err_set(e, ERR_MEMORY, "no memory to look at a copy");
    return rc;
}

int ckpt_copy_look(int fd, int slot, struct ckpt_copy *out, struct ckpt_state *state, struct err *e)
{
    buf_auto struct buf text;
    struct ckpt_manifest m = {.files = NULL};
    struct err why;
    *out = (struct ckpt_copy){.slot = slot};
    buf_init(&text, (size_t)TEXT_LIMIT);
    int rc = read_seal(fd, slot, &text, e);
    if (rc || !text.len || ckpt_manifest_parse(&text, &m, &why))
        return rc;
    int rank = ckpt_file_rank(m.files[0].name);
    if (rank >= 0 && rank < m.state.world && m.files[0].bytes <= STRIDE - CKPT_COPY_SEAL_BYTES) {
        out->step = m.state.step;
        out->incarnation = m.state.incarnation;
        out->bytes = m.files[0].bytes;
        out->world = m.state.world;
        out->rank = rank;
        memcpy(out->hash, m.files[0].hash, sizeof out->hash);
        if (state)
            *state = m.state;
    }
    ckpt_manifest_done(&m);
    return 0;
}

int ckpt_copy_read(
    int fd, const struct ckpt_copy *c, void *to, int64_t bytes, int64_t at, struct err *e)
{
    if (at < 0 || bytes < 0 || at > c->bytes || bytes > c->bytes - at)
        return err_set(e, ERR_CORRUPT, "a copy of %lld bytes has none at %lld", (long long)c->bytes,
            (long long)at);
    return io_pread_full(fd, to, (size_t)bytes, c->slot * STRIDE + CKPT_COPY_SEAL_BYTES + at, e);
}

int ckpt_copy_check(int fd, const struct ckpt_copy *c, struct err *e)
{
    struct hash_stream *s = NULL;
    mem_autofree char *piece = mem_alloc(PIECE);
    char hash[HASH_XXH3_HEX];
    int rc = piece ? hash_stream_create(&s, e) : err_set(e, ERR_MEMORY, "no memory to hash a copy");
    for (int64_t at = 0, n; at < c->bytes && !rc; at += n) {
        n = c->bytes - at < PIECE ? c->bytes - at : PIECE;
        rc = ckpt_copy_read(fd, c, piece, n, at, e);
        if (!rc)
            hash_stream_add(s, piece, (size_t)n);
    }
    if (!rc) {
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_stream_xxh3(s));
        if (strcmp(hash, c->hash) != 0)
            rc = err_set(e, ERR_CORRUPT, "the copy of step %lld of rank %d is not as it was sealed",
                (long long)c->step, c->rank);
    }
    hash_stream_destroy(s);
    return rc;
}

/* -- which of them -- */

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* No two are alike: each is in a slot of its own. */
static int copy_compare(const void *a, const void *b)
{
    const struct ckpt_copy *x = a, *y = b;
    const int by[] = {compare(y->step, x->step), compare(y->incarnation, x->incarnation),
        compare(y->world, x->world), compare(x->rank, y->rank), compare(y->intact, x->intact),
        compare(x->holder, y->holder), compare(x->slot, y->slot)};
    for (size_t i = 0; i < sizeof by / sizeof *by; i++)
        if (by[i])
            return by[i];
    return 0;
}

static bool same_generation(const struct ckpt_copy *a, const struct ckpt_copy *b)
{
    return a->step == b->step && a->incarnation == b->incarnation && a->world == b->world;
}

int ckpt_copy_newest(struct ckpt_copy *all, int n, int64_t above, int64_t limit)
{
    qsort(all, (size_t)n, sizeof *all, copy_compare);
    for (int first = 0, i; first < n; first = i) {
        int parts = 0;
        for (i = first; i < n && same_generation(&all[i], &all[first]); i++)
            parts += all[i].rank == parts;
        if (all[first].world && parts == all[first].world && all[first].step > above &&
            all[first].step <= limit)
            return first;
    }
    return -1;
}
