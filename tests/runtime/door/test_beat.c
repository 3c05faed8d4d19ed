/*
 * Goal: what the rank stores in the heartbeat page is what a reader in another process sees, and a
 * missing page is no fault. Method: a memfd mapped twice; every function once.
 */
#include "runtime/door/beat.h"

#include "tests/unit.h"

#include <sys/mman.h>
#include <unistd.h>

START_TEST(reader_sees_what_was_stored)
{
    struct wire_page *mine;
    struct err e = {0};
    int fd = memfd_create("page", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    const struct wire_page *seen = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(seen != MAP_FAILED);
    ck_assert_uint_eq(seen->magic, 0);
    ck_assert_msg(!beat_map(fd, &mine, &e), "%s", e.text);
    ck_assert_uint_eq(seen->magic, WIRE_PAGE_MAGIC);
    ck_assert_uint_eq(seen->phase, WIRE_PHASE_START);
    ck_assert_int_eq(seen->waiting_for, -1);
    uint64_t beats = seen->beats;
    ck_assert_int_gt(seen->beat_ms, 0);
    beat_phase(mine, WIRE_PHASE_BACKWARD);
    beat_step(mine, 77);
    beat_share(mine, 6);
    beat(mine);
    ck_assert_uint_eq(seen->phase, WIRE_PHASE_BACKWARD);
    ck_assert_uint_eq(seen->share, 6);
    ck_assert_int_eq(seen->step, 77);
    ck_assert_uint_eq(seen->beats, beats + 3);
    close(fd);
}
END_TEST

/* A collective that fails is never left. */
START_TEST(a_collective_is_followed)
{
    struct wire_page p = {0};
    char note[WIRE_NOTE_BYTES];
    beat_enter(&p, WIRE_BROADCAST, 4096);
    ck_assert_uint_eq(p.collective, 1);
    ck_assert_uint_eq(p.operation, WIRE_BROADCAST);
    ck_assert_int_eq(p.operation_bytes, 4096);
    ck_assert_uint_eq(p.in_collective, 1);
    ck_assert_int_eq(p.waiting_for, -1);
    ck_assert_uint_eq(p.beats, 1);
    beat_wait(&p, 3);
    ck_assert_int_eq(p.waiting_for, 3);
    beat_note(&p, "no answer");
    wire_page_noted(&p, note);
    ck_assert_str_eq(note, "no answer");
    ck_assert_uint_eq(p.beats, 1); /* waiting is no beat */
    beat_progress(&p, 2);
    ck_assert_int_eq(p.waiting_for, 2);
    ck_assert_uint_eq(p.beats, 2);
    beat_leave(&p);
    ck_assert_uint_eq(p.in_collective, 0);
    ck_assert_int_eq(p.waiting_for, -1);
    ck_assert_uint_eq(p.beats, 3);
    beat_enter(&p, WIRE_BARRIER, 0);
    ck_assert_uint_eq(p.collective, 2);
}
END_TEST

START_TEST(no_page_is_no_fault)
{
    struct wire_page *p;
    struct err e = {0};
    beat(NULL);
    beat_phase(NULL, WIRE_PHASE_LOAD);
    beat_step(NULL, 1);
    beat_enter(NULL, WIRE_BARRIER, 0);
    beat_progress(NULL, 1);
    beat_wait(NULL, 1);
    beat_note(NULL, "");
    beat_leave(NULL);
    ck_assert_int_eq(beat_map(-1, &p, &e), -ERR_BUG);
}
END_TEST

UNIT_MAIN("beat", reader_sees_what_was_stored, a_collective_is_followed, no_page_is_no_fault)
