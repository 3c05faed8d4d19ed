/*
 * exitcode: the exit classes of every program of the house. The restart policy decides on the
 * class, never on a number read elsewhere. A rank that was killed by a signal has no class of its
 * own: the agent calls SIGKILL with a grown oom counter EXIT_CLASS_MEMORY, SIGSEGV/SIGABRT
 * EXIT_CLASS_BUG, others EXIT_CLASS_PEER.
 */
#ifndef API_EXITCODE_H
#define API_EXITCODE_H

#include "base/err.h"

enum exit_class {
    EXIT_CLASS_DONE = 0,
    EXIT_CLASS_USER = 64,    /* never restarted, but for a server that has served */
    EXIT_CLASS_DATA = 65,    /* likewise */
    EXIT_CLASS_CORRUPT = 66, /* restarted from an older generation */
    EXIT_CLASS_DEVICE = 67,  /* restarted, elsewhere if it repeats */
    EXIT_CLASS_PEER = 68,    /* restarted in place */
    EXIT_CLASS_HANG = 69,    /* restarted in place */
    EXIT_CLASS_MEMORY = 70,  /* restarted when the kernel killed it, or a server said it; else
                                never: the same plan would need the same memory */
    EXIT_CLASS_DRAINED = 71, /* stopped on request, checkpoint committed */
    EXIT_CLASS_BUG = 72,     /* restarted, counted */
    EXIT_CLASS_RETRY = 75,   /* restarted in place */
};

/* The class of an error; ERR_NONE is EXIT_CLASS_DONE. */
enum exit_class exit_class_of(enum err_code code);

/* Reverse; a number that is no class (a shell's 1, a signal's 137) is ERR_BUG. */
enum err_code exit_class_code(int status);

#endif
