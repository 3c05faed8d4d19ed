/*
 * train/save: one generation of a checkpoint: every rank writes its slice, and rank 0 the manifest
 * when all slices are there. Where the training waits for that, nobody goes on before it stands.
 * Else a slice is copied, which is all that the training waits for, and a thread of each rank's
 * writes the copy (runtime/ckpt/saver.h); when the sum that every step makes says that all have
 * done so, all act at the same step: hashes come together, and rank 0's thread commits. One save
 * is on its way at a time; a next one waits for it, and so does whatever ends a training well.
 */
#include "runtime/train/internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/train/shard.h"

#define LOOK_MS  1000   /* between two looks at a save that is waited for */
#define STILL_MS 120000 /* without a byte: as long as a collective is waited for */

/* What whoever lists checkpoints wants to know. Of a long path the end says more. */
void train_describe(const struct train *t, struct ckpt_state *s)
{
    const char *source = t->spec->model.source;
    size_t n = strlen(source);
    if (n >= sizeof s->source)
        source += n - sizeof s->source + 1;
    while (((unsigned char)*source & 0xc0) == 0x80) /* not within a character */
        source++;
    snprintf(s->source, sizeof s->source, "%s", source);
    layout_text(&t->plan.layout, s->layout);
    s->written_ms = clock_wall_ms();
}

int train_put_slice(struct train *t, struct ckpt_writer *w, struct err *e)
{
    const struct layout_group same = train_same(t);
    int rc = shard_write(w, t->dev, t->model, t->optim, same.size, same.index, e);
    for (int i = 0; i < t->extra_count && !rc; i++)
        rc = shard_write_extra(w, t->dev, t->model, &t->extras[i], same.size, same.index, e);
    return rc;
}

/* What all ranks have written becomes known to each. */
static int gather(struct train *t, const struct save_file *mine, struct err *e)
{
    struct saving *s = &t->saving;
    int rc = coll_allgather(t->coll, mine, sizeof *mine, s->files, e);
    for (int i = 0; i < t->orders->world && !rc; i++) {
        memcpy(s->hashes[i], s->files[i].hash, sizeof s->hashes[i]);
        s->sizes[i] = s->files[i].bytes;
    }
    return rc;
}

static struct ckpt_generation generation_of(const struct train *t)
{
    return (struct ckpt_generation){.path = t->spec->checkpoint.path,
        .state = &t->saving.state,
        .files = t->orders->world,
        .hashes = (const char(*)[17])t->saving.hashes,
        .bytes = t->saving.sizes,
        .keep = t->spec->checkpoint.keep};
}

/* A newer world goes on without us: that is no orderly end. */
static int fail_commit(int rc, struct err *e)
{
    return rc == -ERR_DRAINED ? err_set(e, ERR_PEER, "a newer incarnation has begun") : rc;
}

static int tell_saved(struct train *t, struct err *e)
{
    return door_send_fields(t->door, WIRE_SAVED,
        (struct door_field[]){{"step", (double)t->saving.state.step, NULL},
            {"path", 0, t->spec->checkpoint.path}, {NULL, 0, NULL}},
        e);
}

/* Of what is saved now. */
static void begin(struct train *t)
{
    t->saving.begun_ms = clock_ms();
    t->saving.state = t->state;
    train_describe(t, &t->saving.state);
}

/* -- the training waits -- */

static int write_slice(struct train *t, struct save_file *mine, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc = ckpt_begin(t->spec->checkpoint.path, t->state.step, t->orders->rank, &w, e);
    if (rc)
        return rc;
    rc = train_put_slice(t, w, e);
    if (!rc)
        return ckpt_finish(w, mine->hash, &mine->bytes, e);
    ckpt_abandon(w);
    return rc;
}

static int commit(struct train *t, struct err *e)
{
    const struct ckpt_generation g = generation_of(t);
    int rc = ckpt_commit(g.path, g.state, g.files, g.hashes, g.bytes, g.keep, e);
    return rc ? fail_commit(rc, e) : tell_saved(t, e);
}

/* No later run makes the points and lines of these steps again: they must last as the checkpoint
   does, so they go first. */
static int sync_logs(struct train *t, struct err *e)
{
    int rc = io_fsync(t->log_fd, e);
    return rc || !t->board ? rc : tensorboard_sync(t->board, e);
}

static int save_now(struct train *t, struct err *e)
{
    int64_t begun = trace_begin(t->trace);
    begin(t);
    struct save_file mine = {0};
    int rc;
    if ((rc = sync_logs(t, e)) || (rc = write_slice(t, &mine, e)) || (rc = gather(t, &mine, e)) ||
        (train_leads(t) && (rc = commit(t, e))) || (rc = coll_barrier(t->coll, e)))
        return rc;
    trace_end(t->trace, begun, TRACE_RANK, "checkpoint", "bytes", mine.bytes);
    t->saved_step = t->state.step;
    t->saved_ms = clock_ms();
    if (train_leads(t)) /* for so long no step was taken */
        log_info("checkpoint saved", LOG_I("step", t->state.step),
            LOG_I("ms", t->saved_ms - t->saving.begun_ms), LOG_I("bytes", mine.bytes));
    return 0;
}

/* -- it goes on -- */

/* All ranks' threads have done what they were at. */
int train_save_goes_on(struct train *t, struct err *e)
{
    struct saving *s = &t->saving;
    struct save_file mine = {0};
    if (!s->phase)
        return 0;
    int rc = ckpt_saver_result(t->saver, mine.hash, &mine.bytes, e);
    if (rc)
        return fail_commit(rc, e);
    if (s->phase == SAVING_COMMITS) {
        s->phase = SAVING_NOTHING;
        if (!train_leads(t))
            return 0;
        log_info("checkpoint saved", LOG_I("step", s->state.step), LOG_I("ms", s->held_up_ms),
            LOG_I("behindMs", clock_ms() - s->begun_ms - s->held_up_ms),
            LOG_I("bytes", mine.bytes));
        return tell_saved(t, e);
    }
    rc = gather(t, &mine, e);
    if (rc)
        return rc;
    s->phase = SAVING_COMMITS;
    const struct ckpt_generation g = generation_of(t);
    if (train_leads(t))
        ckpt_saver_commit(t->saver, &g);
    return 0;
}

int train_saving(struct train *t, bool *busy, struct err *e)
{
    struct save_file mine;
    *busy = t->saving.phase && !ckpt_saver_ended(t->saver, 0);
    if (!t->saving.phase || *busy)
        return 0;
    int rc = ckpt_saver_result(t->saver, mine.hash, &mine.bytes, e);
    return rc ? fail_commit(rc, e) : 0;
}

/* For this rank's thread; the agent hears of what comes forward. */
static int wait_for_own(struct train *t, struct err *e)
{
    int64_t written = -1, moved_ms = clock_ms();
    while (!ckpt_saver_ended(t->saver, LOOK_MS)) {
        if (ckpt_saver_written(t->saver) != written) {
            written = ckpt_saver_written(t->saver);
            moved_ms = clock_ms();
            beat(t->door->page);
        }
        if (clock_ms() - moved_ms > STILL_MS)
            return err_set(e, ERR_HANG, "%.160s: nothing of step %lld was written for %d s",
                t->spec->checkpoint.path, (long long)t->saving.state.step, STILL_MS / 1000);
    }
    return 0;
}

/* Until what is on its way is committed. */
static int wait_for_save(struct train *t, struct err *e)
{
    while (t->saving.phase) {
        int rc = wait_for_own(t, e);
        if (rc || (rc = train_save_goes_on(t, e)) || (rc = coll_barrier(t->coll, e)))
            return rc;
    }
    return 0;
}

static int take_snapshot(struct train *t, struct ckpt_writer **out, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc =
        ckpt_saver_begin(t->saver, t->spec->checkpoint.path, t->state.step, t->orders->rank, &w, e);
    if (rc)
        return rc;
    rc = train_put_slice(t, w, e);
    if (rc) {
        ckpt_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int begin_save(struct train *t, struct err *e)
{
    struct ckpt_writer *w;
    int64_t begun = trace_begin(t->trace);
    begin(t);
    int beside[CKPT_SAVER_BESIDE] = {t->log_fd}, n = 1, rc;
    if ((t->board && (rc = tensorboard_flush(t->board, e))) || (rc = take_snapshot(t, &w, e)))
        return rc;
    if (t->board)
        beside[n++] = tensorboard_fd(t->board);
    ckpt_saver_write(t->saver, w, beside, n);
    trace_end(t->trace, begun, TRACE_RANK, "checkpoint", NULL, 0);
    t->saving.phase = SAVING_WRITES;
    return 0;
}

/* -- both -- */

int train_save(struct train *t, enum save_how how, struct err *e)
{
    int64_t start_ms = clock_ms();
    bool behind = how == SAVE_BEHIND && t->saver;
    if (t->saved_step == t->state.step && (behind || !t->saving.phase))
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_CHECKPOINT);
    int rc = wait_for_save(t, e);
    if (rc || t->saved_step == t->state.step)
        return rc;
    if (!behind)
        return save_now(t, e);
    rc = begin_save(t, e);
    if (rc)
        return rc;
    t->saved_step = t->state.step;
    t->saved_ms = clock_ms();
    t->saving.held_up_ms = t->saved_ms - start_ms;
    return 0;
}

/* -- before the first step -- */

/* A snapshot for nothing: its memory is touched, and is known to hold it. */
static int rehearse(struct train *t, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc = take_snapshot(t, &w, e);
    ckpt_abandon(w);
    return rc;
}

static int make_saver(struct train *t, struct err *e)
{
    int64_t bytes = t->plan.memory.snapshot;
    if (bytes > t->snapshot_room)
        return err_set(e, ERR_MEMORY, "a copy of %lld MiB, and %lld MiB are left for it",
            (long long)(bytes >> 20), (long long)(t->snapshot_room >> 20));
    int rc = ckpt_saver_create(bytes, &t->saver, e);
    return rc ? rc : rehearse(t, e);
}

int train_open_saver(struct train *t, struct err *e)
{
    size_t world = (size_t)t->orders->world;
    struct saving *s = &t->saving;
    s->files = mem_array(world, sizeof *s->files);
    s->hashes = mem_array(world, sizeof *s->hashes);
    s->sizes = mem_array(world, sizeof *s->sizes);
    if (!s->files || !s->hashes || !s->sizes)
        return err_set(e, ERR_MEMORY, "no memory for a world of %d ranks", t->orders->world);
    if (!t->spec->checkpoint.asynchronous)
        return 0;
    struct err why = {.code = ERR_NONE, .text = "another rank has no memory for a copy"};
    int32_t lacks = make_saver(t, &why) ? 1 : 0;
    int rc = coll_allreduce(t->coll, &lacks, 1, DTYPE_I32, COLL_MAX, e);
    if (rc || !lacks)
        return rc;
    ckpt_saver_destroy(t->saver);
    t->saver = NULL;
    if (train_leads(t))
        log_warn("the training waits for its checkpoints", LOG_S("because", why.text));
    return 0;
}

void train_close_saver(struct train *t)
{
    ckpt_saver_destroy(t->saver);
    mem_free(t->saving.files);
    mem_free(t->saving.hashes);
    mem_free(t->saving.sizes);
}
