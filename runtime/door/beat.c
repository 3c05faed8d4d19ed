/*
 * beat: stores into the heartbeat page. One writer at a time: the thread that owns the model, or
 * coll on its behalf. The time is stored before the count, so a reader that sees the count grow
 * also sees a time at least as new. Must not block, allocate or log: it runs inside the step.
 */
#include "runtime/door/beat.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/mman.h>

int beat_map(int fd, struct wire_page **out, struct err *e)
{
    void *p = mmap(NULL, sizeof(struct wire_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return err_sys(e, ERR_BUG, errno, "cannot map the heartbeat page");
    *out = p;
    atomic_store(&(*out)->waiting_for, -1);
    beat_phase(*out, WIRE_PHASE_START);
    atomic_store_explicit(&(*out)->magic, WIRE_PAGE_MAGIC, memory_order_release);
    return 0;
}

void beat(struct wire_page *p)
{
    if (!p)
        return;
    atomic_store_explicit(&p->beat_ms, clock_ms(), memory_order_release);
    atomic_fetch_add_explicit(&p->beats, 1, memory_order_release);
}

void beat_phase(struct wire_page *p, enum wire_phase phase)
{
    if (!p)
        return;
    atomic_store_explicit(&p->phase, (uint32_t)phase, memory_order_release);
    beat(p);
}

void beat_step(struct wire_page *p, int64_t step)
{
    if (!p)
        return;
    atomic_store_explicit(&p->step, step, memory_order_release);
    beat(p);
}
