/*
 * io: the system calls of the house, restarted on EINTR, whole reads and writes, deadlines on
 * sockets, and a counter that can fail the n-th call (FAULT=1). Errors name the path. File
 * descriptors are O_CLOEXEC.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include "base/buf.h"
#include "base/err.h"
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int io_open_read(const char *path, struct err *e);           /* fd or -code: ENOENT is ERR_DATA */
int io_create(const char *path, mode_t mode, struct err *e); /* truncates */
int io_append(const char *path, mode_t mode, struct err *e);
void io_close(int fd); /* negative is fine */
#define io_auto_fd __attribute__((cleanup(io_close_at)))
void io_close_at(int *fd);

/* Short is ERR_DATA. */
int io_pread_full(int fd, void *p, size_t n, int64_t offset, struct err *e);
int io_write_full(int fd, const void *p, size_t n, struct err *e);
int io_pwrite_full(int fd, const void *p, size_t n, int64_t offset, struct err *e);
int io_fsync(int fd, struct err *e);
int io_read_file(const char *path, size_t limit, struct buf *out, struct err *e);
/* Writes path atomically: temporary beside it, fsync, rename, fsync of the folder. */
int io_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *e);
/* Writes path in place and fsyncs it: in a folder that nobody reads yet. */
int io_write_new(const char *path, const void *p, size_t n, mode_t mode, struct err *e);
int io_rename(const char *from, const char *to, struct err *e); /* and fsyncs the folder */
/* Only where nothing is there (ERR_USER, EEXIST). No fsync. */
int io_rename_new(const char *from, const char *to, struct err *e);
/* Each in the other's place, in one step; both exist. Not every file system can. No fsync. */
int io_exchange(const char *a, const char *b, struct err *e);
int io_mkdirs(const char *path, mode_t mode, struct err *e); /* like mkdir -p, durable */
int io_sync_folder(const char *path, struct err *e);
int io_remove(const char *path, struct err *e); /* a file or an empty folder; absent is fine */
/* Absent is fine; follows no link and enters no other mount. For folders that none but this program
 * puts files in. */
int io_remove_tree(const char *path, struct err *e);
int64_t io_file_size(const char *path, struct err *e);
bool io_exists(const char *path);
/* 1: something is mounted there, also a folder of the same file system; 0: not; or -code. */
int io_is_mount(const char *path, struct err *e);

struct io_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
};
/* The whole file, read-only, private. */
int io_map(const char *path, struct io_map *out, struct err *e);
void io_unmap(struct io_map *m);
/* [from, to) of it has been read and need not stay in memory; it can be read again. */
void io_map_forget(const struct io_map *m, size_t from, size_t to);

/*
 * Stream sockets. host is a numeric address or a name; all block at most until deadline_ms
 * (clock_ms), also while a name is looked up. A peer that is not there yet is -ERR_RETRY, one that
 * closed or reset the connection -ERR_PEER, a deadline that passed -ERR_HANG.
 */
/* port 0: any; host NULL or "": all addresses, IPv6 and IPv4 */
int io_listen(const char *host, uint16_t port, uint16_t *bound_port, struct err *e);
int io_accept(int fd, int64_t deadline_ms, struct err *e); /* a blocking fd, TCP_NODELAY set */
int io_connect(const char *host, uint16_t port, int64_t deadline_ms, struct err *e); /* likewise */
int io_recv_full(int fd, void *p, size_t n, int64_t deadline_ms, struct err *e);
int io_send_full(int fd, const void *p, size_t n, int64_t deadline_ms, struct err *e);
/* What is there now: bytes (n > 0), 0 when it would block, -ERR_PEER when closed. */
int64_t io_recv_now(int fd, void *p, size_t n, struct err *e);
int64_t io_send_now(int fd, const void *p, size_t n, struct err *e); /* likewise: what fits now */
int io_wait_readable(int fd, int64_t deadline_ms, struct err *e);
int io_set_nonblocking(int fd, bool on, struct err *e);
/* Whether a connected socket's peer has this numeric address; true for a name, which is not looked
 * up. */
bool io_peer_is(int fd, const char *host);
/* Whether it was connected to at this numeric address and port; false for a name. */
bool io_own_is(int fd, const char *host, uint16_t port);

int io_random(void *p, size_t n, struct err *e);
void io_hex(const void *p, size_t n, char *out); /* out: 2n + 1 bytes */

extern struct fault io_faults; /* of the calls above */

#endif
