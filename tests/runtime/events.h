/*
 * events: TensorBoard event files read back, by a decoder of the tests' own with a bitwise CRC-32C:
 * one file as it stands, and a folder as TensorBoard shows it: files by name, and at a session's
 * start the points of its step and later ones dropped.
 */
#ifndef TESTS_RUNTIME_EVENTS_H
#define TESTS_RUNTIME_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    double wall;
    uint64_t step;
    char version[32], tag[192];
    bool start; /* of a session */
    float value;
    struct { /* bounds 0: it is no histogram */
        double min, max, count, sum, squares;
        int bounds;
        double counted; /* what is in all buckets */
    } histogram;
    char text[400]; /* or the beginning of it */
};

uint32_t events_crc32c(const uint8_t *p, size_t n);
/* How many there are; fails the test when a record is not whole or there are more than room. */
int events_read(const char *path, struct event *out, int room);
int events_shown(const char *folder, struct event *out, int room);
/* How often a tag has a point at a step. */
int events_at(const struct event *events, int count, const char *tag, uint64_t step);

#endif
