/*
 * train/save: one generation of a checkpoint: every rank writes its slice, rank 0 the manifest when
 * all slices are there, and nobody goes on before it stands.
 */
#include "runtime/train/internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/train/shard.h"

/* What whoever lists checkpoints wants to know. Of a long path the end says more. */
static void describe(struct train *t)
{
    struct ckpt_state *s = &t->state;
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

static int commit(struct train *t, struct err *e)
{
    describe(t);
    const char *path = t->spec->checkpoint.path;
    int world = t->orders->world;
    mem_autofree char(*hashes)[17] = mem_array((size_t)world, 17);
    mem_autofree int64_t *bytes = mem_array((size_t)world, sizeof *bytes);
    if (!hashes || !bytes)
        return err_set(e, ERR_MEMORY, "no memory to commit a checkpoint");
    for (int i = 0; i < world; i++) {
        memcpy(hashes[i], t->files[i].hash, 17);
        bytes[i] = t->files[i].bytes;
    }
    int rc = ckpt_commit(
        path, &t->state, world, (const char(*)[17])hashes, bytes, t->spec->checkpoint.keep, e);
    if (rc == -ERR_DRAINED) /* a newer world goes on without us: that is no orderly end */
        return err_set(e, ERR_PEER, "a newer incarnation has begun");
    if (rc)
        return rc;
    return door_send_fields(t->door, WIRE_SAVED,
        (struct door_field[]){
            {"step", (double)t->state.step, NULL}, {"path", 0, path}, {NULL, 0, NULL}},
        e);
}

static int write_slice(struct train *t, struct save_file *mine, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc = ckpt_begin(t->spec->checkpoint.path, t->state.step, t->orders->rank, &w, e);
    if (rc)
        return rc;
    const struct layout_group same = train_same(t);
    rc = shard_write(w, t->dev, t->model, t->optim, same.size, same.index, e);
    for (int i = 0; i < t->extra_count && !rc; i++)
        rc = shard_write_extra(w, t->dev, t->model, &t->extras[i], same.size, same.index, e);
    if (!rc)
        return ckpt_finish(w, mine->hash, &mine->bytes, e);
    ckpt_abandon(w);
    return rc;
}

/* No later run makes the points and lines of these steps again: they must last as the checkpoint
   does, so they go first. */
static int sync_logs(struct train *t, struct err *e)
{
    int rc = io_fsync(t->log_fd, e);
    return rc || !t->board ? rc : tensorboard_sync(t->board, e);
}

int train_save(struct train *t, struct err *e)
{
    if (t->saved_step == t->state.step)
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_CHECKPOINT);
    int64_t start_ms = clock_ms();
    struct save_file mine = {0};
    int rc;
    if ((rc = sync_logs(t, e)) || (rc = write_slice(t, &mine, e)) ||
        (rc = coll_allgather(t->coll, &mine, sizeof mine, t->files, e)) ||
        (train_leads(t) && (rc = commit(t, e))) || (rc = coll_barrier(t->coll, e)))
        return rc;
    t->saved_step = t->state.step;
    t->saved_ms = clock_ms();
    if (train_leads(t)) /* for so long no step was taken */
        log_info("checkpoint saved", LOG_I("step", t->state.step),
            LOG_I("ms", t->saved_ms - start_ms), LOG_I("bytes", mine.bytes));
    return 0;
}
