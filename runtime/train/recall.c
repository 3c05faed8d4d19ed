/*
 * recall: a round is a gathering of what each misses and one sum over all of it; ranks that miss
 * the same bytes, as replicas do, get them once. What a pod's own memory has is read without one.
 */
#include "runtime/train/recall.h"

#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/ckpt/copy.h"
#include "runtime/ckpt/manifest.h"

#define ROUND_BYTES ((int64_t)32 << 20) /* that a round carries, at most */
#define PIECE_MOST  ((int64_t)4 << 20)  /* and of it a rank's */
#define PIECE_LEAST ((int64_t)16 << 10)

struct want { /* of a rank, in a round */
    int64_t at;
    int32_t file, bytes; /* 0 bytes: nothing */
    int32_t done, failed;
};

struct recall {
    struct recall_conf conf;
    struct ckpt_copy *all, *parts; /* what all hold, sorted; of it the generation */
    int count, part_count;
    struct ckpt_manifest manifest;
    const struct ckpt_copy **server; /* (files) whose copy is told to the others */
    const struct ckpt_copy **here;   /* (files) that lies in this pod; NULL: none */
    struct want *wants;              /* (world) */
    int64_t *place;                  /* (world) where in `bytes` a rank's are */
    uint8_t *bytes;
    int64_t piece;
    bool failed;     /* this rank cannot give what it holds */
    struct err lost; /* why there are no more rounds; ERR_NONE: there are */
};

/* -- what there is -- */

static int pod_of(const struct recall_conf *c, int rank)
{
    return c->peers[rank].replica;
}

/* Ranks of this pod look at its slots in turn. */
static void find_place(const struct recall_conf *c, int *local, int *count)
{
    *local = *count = 0;
    for (int i = 0; i < c->world; i++) {
        *local += i < c->rank && pod_of(c, i) == pod_of(c, c->rank);
        *count += pod_of(c, i) == pod_of(c, c->rank);
    }
}

static int look(const struct recall_conf *c, struct ckpt_copy *out, int *count, struct err *e)
{
    int local, ranks;
    find_place(c, &local, &ranks);
    *count = 0;
    for (int i = local; i < LIMIT_RANKS_PER_REPLICA && c->fd >= 0; i += ranks)
        for (int k = 0; k < CKPT_COPY_SLOTS; k++) {
            int rc = ckpt_copy_look(c->fd, i * CKPT_COPY_SLOTS + k, &out[*count], NULL, e);
            if (rc)
                return rc;
            out[*count].holder = c->rank;
            *count += out[*count].world > 0;
        }
    return 0;
}

/* What all ranks hold, `mine` being this one's. */
static int gather(struct recall *r, const struct ckpt_copy *mine, int count, struct err *e)
{
    int32_t most = count;
    int rc = coll_allreduce(r->conf.coll, &most, 1, DTYPE_I32, COLL_MAX, e);
    if (rc)
        return rc;
    size_t each = (size_t)most;
    mem_autofree struct ckpt_copy *padded = mem_array(each + 1, sizeof *padded);
    mem_free(r->all);
    r->all = mem_array(each * (size_t)r->conf.world + 1, sizeof *r->all);
    if (!padded || !r->all)
        return err_set(e, ERR_MEMORY, "no memory to compare the copies of %d ranks", r->conf.world);
    memcpy(padded, mine, (size_t)count * sizeof *mine);
    r->count = most * r->conf.world;
    return coll_allgather(r->conf.coll, padded, each * sizeof *padded, r->all, e);
}

/* Hashes what this rank holds of a generation; what is damaged is a part no more. */
static void check(
    const struct recall_conf *c, struct ckpt_copy *mine, int count, const struct ckpt_copy *of)
{
    struct err why;
    for (int i = 0; i < count; i++) {
        struct ckpt_copy *x = &mine[i];
        if (x->intact || !x->world || x->step != of->step || x->incarnation != of->incarnation)
            continue;
        x->intact = !ckpt_copy_check(c->fd, x, &why);
        if (x->intact)
            continue;
        x->world = 0;
        log_warn("a copy in memory is passed over", LOG_I("step", x->step), LOG_ERR(&why));
    }
}

/* All parts are there as they were sealed. */
static bool is_intact(const struct ckpt_copy *parts, int count)
{
    int intact = 0;
    for (int i = 0; i < count; i++)
        intact += parts[i].intact && parts[i].rank == intact;
    return intact == parts->world;
}

/* Those that belong to the generation of all[first]. */
static int count_parts(const struct recall *r, int first)
{
    const struct ckpt_copy *x = &r->all[first];
    int n = first;
    while (n < r->count && r->all[n].step == x->step && r->all[n].incarnation == x->incarnation &&
        r->all[n].world == x->world)
        n++;
    return n - first;
}

static int choose(struct recall *r, int64_t above, int64_t limit, struct err *e)
{
    struct ckpt_copy mine[LIMIT_RANKS_PER_REPLICA * CKPT_COPY_SLOTS + 1];
    int count, rc = look(&r->conf, mine, &count, e);
    for (;;) {
        if (rc || (rc = gather(r, mine, count, e)))
            return rc;
        int first = ckpt_copy_newest(r->all, r->count, above, limit);
        r->parts = first < 0 ? NULL : &r->all[first];
        r->part_count = first < 0 ? 0 : count_parts(r, first);
        if (!r->parts || is_intact(r->parts, r->part_count))
            return 0;
        check(&r->conf, mine, count, r->parts);
    }
}

static int name_files(struct recall *r, struct err *e)
{
    int files = r->parts->world;
    struct ckpt_manifest *m = &r->manifest;
    m->files = mem_array((size_t)files, sizeof *m->files);
    r->server = mem_array((size_t)files, sizeof *r->server);
    r->here = mem_array((size_t)files, sizeof *r->here);
    if (!m->files || !r->server || !r->here)
        return err_set(e, ERR_MEMORY, "no memory for a generation of %d parts", files);
    m->file_count = files;
    for (int i = 0; i < r->part_count; i++) {
        const struct ckpt_copy *x = &r->parts[i];
        if (!x->intact)
            continue;
        if (!r->server[x->rank]) {
            struct ckpt_file *f = &m->files[x->rank];
            r->server[x->rank] = x;
            f->bytes = x->bytes;
            memcpy(f->hash, x->hash, sizeof f->hash);
            ckpt_file_name(x->rank, x->hash, f->name);
        }
        if (pod_of(&r->conf, x->holder) == pod_of(&r->conf, r->conf.rank))
            r->here[x->rank] = x;
    }
    return 0;
}

static int prepare_rounds(struct recall *r, struct err *e)
{
    int64_t world = r->conf.world;
    r->piece = ROUND_BYTES / world / 4 * 4;
    r->piece = r->piece < PIECE_LEAST ? PIECE_LEAST : r->piece > PIECE_MOST ? PIECE_MOST : r->piece;
    r->wants = mem_array((size_t)world, sizeof *r->wants);
    r->place = mem_array((size_t)world, sizeof *r->place);
    r->bytes = mem_alloc((size_t)(r->piece * world));
    return r->wants && r->place && r->bytes
        ? 0
        : err_set(e, ERR_MEMORY, "no memory to pass on copies among %d ranks", r->conf.world);
}

/* What its manifest would say, of whoever tells of the first part. */
static int share_state(struct recall *r, struct ckpt_state *state, struct err *e)
{
    const struct ckpt_copy *x = r->server[0];
    struct ckpt_copy is;
    struct ckpt_state *s = &r->manifest.state;
    int rc = x->holder == r->conf.rank ? ckpt_copy_look(r->conf.fd, x->slot, &is, s, e) : 0;
    if (rc || (rc = coll_broadcast(r->conf.coll, s, sizeof *s, x->holder, e)))
        return rc;
    *state = *s;
    return 0;
}

int recall_find(const struct recall_conf *c, int64_t above, int64_t limit, struct recall **out,
    struct ckpt_state *state, struct err *e)
{
    struct recall *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory to look for copies");
    r->conf = *c;
    int rc = choose(r, above, limit, e);
    if (rc || !r->parts) {
        recall_destroy(r);
        return rc;
    }
    if ((rc = name_files(r, e)) || (rc = prepare_rounds(r, e)) || (rc = share_state(r, state, e))) {
        recall_destroy(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* -- rounds -- */

static bool same_bytes(const struct want *a, const struct want *b)
{
    return a->file == b->file && a->at == b->at && a->bytes == b->bytes;
}

/* Where in a round's bytes each rank's are; the same for those that want the same. */
static int64_t lay_out(struct recall *r)
{
    int64_t all = 0;
    for (int i = 0; i < r->conf.world; i++) {
        int same = 0;
        while (same < i && !same_bytes(&r->wants[i], &r->wants[same]))
            same++;
        r->place[i] = same < i ? r->place[same] : all;
        all += same < i ? 0 : (r->wants[i].bytes + 3) / 4 * 4;
    }
    return all;
}

static bool is_sane(const struct recall *r, const struct want *w)
{
    return w->file >= 0 && w->file < r->parts->world && w->bytes >= 0 && w->bytes <= r->piece;
}

/* Fills in what this rank is to tell. */
static int give(struct recall *r, struct err *e)
{
    for (int i = 0; i < r->conf.world; i++) {
        const struct want *w = &r->wants[i];
        const struct ckpt_copy *x = r->server[w->file];
        int rc = w->bytes && x->holder == r->conf.rank
            ? ckpt_copy_read(r->conf.fd, x, r->bytes + r->place[i], w->bytes, w->at, e)
            : 0;
        if (rc)
            return rc;
    }
    return 0;
}

/* *over: all are done; *broken: of one of them this is no whole answer. */
static int take_round(
    struct recall *r, const struct want *mine, void *to, bool *over, bool *broken, struct err *e)
{
    struct err why;
    int rc = coll_allgather(r->conf.coll, mine, sizeof *mine, r->wants, e);
    if (rc)
        return rc;
    *over = true;
    *broken = false;
    for (int i = 0; i < r->conf.world; i++) {
        if (!is_sane(r, &r->wants[i]))
            return err_set(e, ERR_BUG, "rank %d asks for what no copy has", i);
        *over &= r->wants[i].done;
        *broken |= r->wants[i].failed;
    }
    int64_t all = lay_out(r);
    memset(r->bytes, 0, (size_t)all);
    if (give(r, &why) && !r->failed) {
        log_warn("a copy in memory cannot be read", LOG_ERR(&why));
        r->failed = true;
    }
    rc = all ? coll_allreduce(r->conf.coll, r->bytes, all / 4, DTYPE_I32, COLL_SUM, e) : 0;
    if (!rc && to)
        memcpy(to, r->bytes + r->place[r->conf.rank], (size_t)mine->bytes);
    return rc;
}

/* ckpt_read_fn */
static int read_part(void *user, int file, void *to, int64_t bytes, int64_t at, struct err *e)
{
    struct recall *r = user;
    if (r->here[file])
        return ckpt_copy_read(r->conf.fd, r->here[file], to, bytes, at, e);
    for (int64_t done = 0, n; done < bytes; done += n) {
        bool over, broken;
        n = bytes - done < r->piece ? bytes - done : r->piece;
        const struct want w = {
            .at = at + done, .file = file, .bytes = (int32_t)n, .failed = r->failed};
        if (take_round(r, &w, (uint8_t *)to + done, &over, &broken, &r->lost)) {
            *e = r->lost;
            return -(int)e->code;
        }
        point_pass("recall");
    }
    return 0;
}

/* This rank is done: until all are. Whether one has failed. */
static int end_rounds(struct recall *r, bool failed, bool *broken, struct err *e)
{
    if (r->lost.code != ERR_NONE) {
        *e = r->lost;
        return -(int)e->code;
    }
    for (bool over = false; !over;) {
        const struct want w = {.done = 1, .failed = failed || r->failed};
        int rc = take_round(r, &w, NULL, &over, broken, e);
        if (rc)
            return rc;
    }
    return 0;
}

int recall_open(struct recall *r, struct ckpt_reader **out, struct err *e)
{
    struct ckpt_reader *reader = NULL;
    struct err why = {.text = "another rank cannot read them"};
    bool broken;
    bool failed = ckpt_open_files(&r->manifest, read_part, r, &reader, &why) != 0;
    int rc = end_rounds(r, failed, &broken, e);
    if (!rc && broken)
        rc = err_set(e, ERR_CORRUPT, "copies in memory: %s", why.text);
    if (rc)
        ckpt_close(reader);
    else
        *out = reader;
    return rc;
}

int recall_end(struct recall *r, bool failed, struct err *e)
{
    bool broken;
    int rc = end_rounds(r, failed, &broken, e);
    return !rc && broken ? err_set(e, ERR_PEER, "a copy in memory broke while it was read") : rc;
}

void recall_destroy(struct recall *r)
{
    if (!r)
        return;
    ckpt_manifest_done(&r->manifest);
    mem_free(r->all);
    mem_free(r->server);
    mem_free(r->here);
    mem_free(r->wants);
    mem_free(r->place);
    mem_free(r->bytes);
    mem_free(r);
}
