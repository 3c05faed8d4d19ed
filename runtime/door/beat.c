/*
 * beat: stores into the heartbeat page. The time is stored before the count, so a reader that sees
 * the count grow also sees a time at least as new; what a beat is about is stored before both. Must
 * not block, allocate or log: it runs inside the step.
 */
#include "runtime/door/beat.h"

#include "base/clock.h"
#include "base/point.h"

#include <errno.h>
#include <sys/mman.h>

#define STORE(field, value) atomic_store_explicit(&(field), value, memory_order_release)

int beat_map(int fd, struct wire_page **out, struct err *e)
{
    void *p = mmap(NULL, sizeof(struct wire_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(e, ERR_BUG, errno, "cannot map the heartbeat page");
    *out = p;
    atomic_store(&(*out)->waiting_for, -1);
    beat_phase(*out, WIRE_PHASE_START);
    STORE((*out)->magic, WIRE_PAGE_MAGIC);
    return 0;
}

void beat(struct wire_page *p)
{
    if (!p)
        return;
    STORE(p->beat_ms, clock_ms());
    atomic_fetch_add_explicit(&p->beats, 1, memory_order_release);
}

void beat_phase(struct wire_page *p, enum wire_phase phase)
{
    point_pass(wire_phase_name(phase));
    if (!p)
        return;
    STORE(p->phase, (uint32_t)phase);
    beat(p);
}

void beat_step(struct wire_page *p, int64_t step)
{
    if (!p)
        return;
    STORE(p->step, step);
    beat(p);
}

void beat_share(struct wire_page *p, int64_t sequences)
{
    if (p)
        STORE(p->share, (uint32_t)sequences);
}

/* -- collectives -- */

void beat_enter(struct wire_page *p, enum wire_operation operation, int64_t bytes)
{
    if (!p)
        return;
    STORE(p->operation, (uint32_t)operation);
    STORE(p->operation_bytes, bytes);
    if (operation != WIRE_EXCHANGE)
        atomic_fetch_add_explicit(&p->collective, 1, memory_order_release);
    STORE(p->in_collective, 1);
    beat_progress(p, -1);
}

void beat_progress(struct wire_page *p, int waiting_for)
{
    beat_wait(p, waiting_for);
    beat(p);
}

void beat_leave(struct wire_page *p)
{
    if (!p)
        return;
    STORE(p->in_collective, 0);
    beat_progress(p, -1);
}

void beat_wait(struct wire_page *p, int waiting_for)
{
    if (p)
        STORE(p->waiting_for, waiting_for);
}

void beat_note(struct wire_page *p, const char *text)
{
    if (p)
        wire_page_note(p, text);
}
