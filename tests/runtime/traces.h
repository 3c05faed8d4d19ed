/*
 * traces: reads a file of runtime/door/trace.h with a JSON parser, as those who show it do.
 */
#ifndef TESTS_RUNTIME_TRACES_H
#define TESTS_RUNTIME_TRACES_H

#include <stdint.h>

#define TRACES_MAX 20000

struct traces_span {
    char name[24];
    int line;
    double begin, end; /* us */
    int64_t number;    /* of its argument; -1: it has none */
    int inside;        /* the span that it lies in, as an index; -1: none */
};
struct traces {
    int rank, count, lost;
    struct traces_span span[TRACES_MAX]; /* by line, and by their beginnings */
};

/* All must be well formed, and the spans of a line lie one in another: else the test fails. */
void traces_read(const char *path, struct traces *t);
/* How many of them have this name, lie in one named `in` (NULL: anywhere) at any depth, and are of
   the line (-1: of any). */
int traces_count(const struct traces *t, const char *name, const char *in, int line);

#endif
