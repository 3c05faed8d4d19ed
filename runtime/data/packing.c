/*
 * packing: each document is given its sample's number first; counting sort then puts those of a
 * sample side by side, in their order.
 */
#include "runtime/data/packing.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define OPEN 64 /* samples that may still take a document: more would leave little less padding */

struct open_samples { /* the oldest first */
    struct {
        int64_t sample, room;
    } at[OPEN];
    int count;
};

static int64_t place_document(struct open_samples *o, int64_t size, int64_t room, int64_t *samples)
{
    for (int i = 0; i < o->count; i++)
        if (o->at[i].room >= size) {
            o->at[i].room -= size;
            return o->at[i].sample;
        }
    if (o->count == OPEN)
        memmove(o->at, o->at + 1, (size_t)--o->count * sizeof *o->at);
    o->at[o->count].sample = *samples;
    o->at[o->count++].room = room - size;
    return (*samples)++;
}

int packing_create(
    const int32_t *sizes, int64_t count, int64_t room, struct packing *out, struct err *e)
{
    struct open_samples open = {.count = 0};
    struct packing p = {.samples = 0};
    int64_t kept = 0;
    mem_autofree int64_t *sample = mem_array((size_t)count + 1, sizeof *sample);
    for (int64_t i = 0; sample && i < count; i++) {
        assert(sizes[i] <= room);
        sample[i] = sizes[i] < 0 ? -1 : place_document(&open, sizes[i], room, &p.samples);
        kept += sizes[i] >= 0;
    }
    p.rows = mem_array((size_t)kept + 1, sizeof *p.rows);
    p.begin = mem_array((size_t)p.samples + 2, sizeof *p.begin);
    if (!sample || !p.rows || !p.begin) {
        packing_done(&p);
        return err_set(e, ERR_MEMORY, "no memory to pack %lld documents", (long long)count);
    }
    /* begin[s + 1] goes from where s begins to where it ends while its rows are put down. */
    for (int64_t i = 0; i < count; i++)
        if (sample[i] >= 0)
            p.begin[sample[i] + 2]++;
    for (int64_t s = 2; s <= p.samples + 1; s++)
        p.begin[s] += p.begin[s - 1];
    for (int64_t i = 0; i < count; i++)
        if (sample[i] >= 0)
            p.rows[p.begin[sample[i] + 1]++] = i;
    *out = p;
    return 0;
}

void packing_done(struct packing *p)
{
    mem_free(p->rows);
    mem_free(p->begin);
    *p = (struct packing){.samples = 0};
}
