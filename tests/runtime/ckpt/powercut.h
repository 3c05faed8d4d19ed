/*
 * powercut: what a folder may hold after the power went. A test tells what it did to the files of a
 * folder, call by call; from that follow the states that a disk may be left in, which are built as
 * folders and shown to the test. Only what was synced is sure. Of the rest each entry of a folder
 * is there or not, whatever came later (a rename may also leave both names), and each file's data
 * is there, absent, zeros, cut short, or without its first or its last write. POSIX promises no
 * more; file systems that do leave fewer of these states. Renames stay within a folder. Any thread
 * may tell, one at a time.
 */
#ifndef TESTS_RUNTIME_CKPT_POWERCUT_H
#define TESTS_RUNTIME_CKPT_POWERCUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Watches what lies below root, an empty folder; forgets all that was told. */
void powercut_begin(const char *root);
void powercut_end(void); /* frees it */

/* -- what was done, each after it succeeded -- */
void powercut_opened(int fd, const char *path, bool made, bool truncated);
void powercut_wrote(int fd, int64_t at, const void *data, size_t n);
void powercut_synced(int fd);
void powercut_closed(int fd);
void powercut_made(const char *path); /* a folder */
void powercut_renamed(const char *from, const char *to);
void powercut_removed(const char *path); /* a file or an empty folder */
bool powercut_watches(int fd);

/* -- moments -- */
void powercut_settle(void); /* all that was done so far is sure */
void powercut_mark(int m);  /* what is done from now on bears it, for whoever sees the states */
int powercut_count(void);   /* calls told so far */

/* -- states -- */
struct powercut_states {
    const char *to;     /* a folder for one state after the other, and what it is linked from */
    int from, end;      /* the power goes after one of the first `from` to `end` calls */
    int most;           /* states after one call, of those that there are: some, when more */
    uint64_t seed;      /* which */
    uint64_t one_in;    /* of all states one is shown; 1: all */
    int shown, skipped; /* how many were different; a state that was shown is not shown again */
    /* folder is the root's stand-in; mark: of the last call. What fn writes there is lost. */
    void (*fn)(void *user, const char *folder, int mark);
    void *user;
};
void powercut_each(struct powercut_states *s);

#endif
