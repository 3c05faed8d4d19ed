/*
 * point: labelled points, at one of which a process can be told to end by SIGKILL, as a crash would
 * end it: by LLMJOB_DIE_AT, "<point>:<round>:<who>:<life>", of which several may stand there with
 * commas between them. Of a rank these are the steps that are complete, its number and that of its
 * incarnation. Only builds with FAULT=1 end; in others a point is nothing. Any thread.
 */
#ifndef BASE_POINT_H
#define BASE_POINT_H

#include <stdint.h>

#define POINT_DIE_AT "LLMJOB_DIE_AT"

#ifdef LLMJOB_FAULT
void point_tell(int who, int64_t life);
void point_round(int64_t n);
void point_pass(const char *name);
void point_pass_at(const char *name, int64_t round); /* of another round than the one that runs */
#else
static inline void point_tell(int who, int64_t life)
{
    (void)who, (void)life;
}
static inline void point_round(int64_t n)
{
    (void)n;
}
static inline void point_pass(const char *name)
{
    (void)name;
}
static inline void point_pass_at(const char *name, int64_t round)
{
    (void)name, (void)round;
}
#endif

#endif
