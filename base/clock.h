/*
 * clock: time, fakeable by tests. Monotonic milliseconds drive every deadline; wall time is only
 * shown. A wait that is bounded ends by the monotonic clock, too, so that one that is set neither
 * shortens nor prolongs it. Thread: clock_set_fake is for single-threaded tests.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

int64_t clock_ms(void);        /* monotonic */
int64_t clock_ns(void);        /* monotonic */
int64_t clock_wall_ms(void);   /* since 1970, UTC */
int64_t clock_thread_ms(void); /* processor time of the calling thread; is never faked */

/* When wait_ms (0 where below) from now are over, of CLOCK_MONOTONIC: for pthread_cond_clockwait
   and the like. Never faked. */
struct timespec clock_after(int64_t wait_ms);
/* Joins a thread that ends within wait_ms. 0, or the error's number: ETIMEDOUT. */
int clock_join(pthread_t thread, int64_t wait_ms);

/* RFC 3339 in UTC with seconds, as Kubernetes prints times; size of out at least 32. */
void clock_format(int64_t wall_ms, char *out, size_t size);
/* Parses what clock_format and Kubernetes (with fraction) print; -1 when malformed. */
int64_t clock_parse(const char *rfc3339);

/* Tests: all three clocks stand at these values until set again; clock_set_real() ends it. */
void clock_set_fake(int64_t mono_ms, int64_t wall_ms);
void clock_set_real(void);

#endif
