/*
 * hang: a folder that does not answer, as one of a network whose server is gone: over it a file
 * system of FUSE is mounted that nobody serves, in a mount namespace of the test's own. Whoever
 * looks up a name there waits, in the kernel, until it is taken away; then the folder is as it was.
 * Threads see it that were started after hang_possible. Needs root and /dev/fuse.
 */
#ifndef TESTS_HANG_H
#define TESTS_HANG_H

#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static inline int hang_mount(const char *folder)
{
    char options[96];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, getuid(),
        getgid());
    if (fd < 0 || mount("hang", folder, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline void hang_end(const char *folder, int hang)
{
    ck_assert_int_eq(umount2(folder, MNT_DETACH), 0);
    close(hang); /* and those who wait are told of an error */
}

/* Once in a test, before its threads; false, and said: not here. */
static inline bool hang_possible(void)
{
    int hang = -1;
    if (!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
        (hang = hang_mount("/mnt")) >= 0)
        hang_end("/mnt", hang);
    if (hang < 0)
        printf("SKIP: no folder can be made to hang: that needs root and /dev/fuse\n");
    return hang >= 0;
}

/* For hang_end. */
static inline int hang_begin(const char *folder)
{
    int hang = hang_mount(folder);
    ck_assert_int_ge(hang, 0);
    return hang;
}

#endif
