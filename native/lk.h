/*
 * What every file of the shim shares: the error convention, cleanup attributes, raw system calls.
 *
 * Convention: a function that can fail takes a `struct lk_error *` and returns a negative errno
 * with the error filled in, or zero (or a descriptor) with the error untouched. Every descriptor is
 * close-on-exec from birth, and -1 is the only "none".
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

enum { LK_STEP_NAME = 32, LK_DETAIL = 480, LK_FDS_MAX = 64 };

struct lk_error {
    int number;                 /* positive errno */
    char step[LK_STEP_NAME];    /* what was being done, in words */
    char detail[LK_DETAIL];     /* the object: a path, a name */
};

/* Fill in the error and return -number. `lk_fail` takes the number from errno. */
int lk_fail(struct lk_error *error, const char *step, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int lk_fail_with(struct lk_error *error, int number, const char *step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static inline void lk_close_fd(const int *fd) {
    if (*fd >= 0) {
        const int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
}
#define LK_FD __attribute__((cleanup(lk_close_fd))) int

/* Hands a descriptor on to the caller, past its cleanup. */
static inline int lk_take_fd(int *fd) {
    const int taken = *fd;
    *fd = -1;
    return taken;
}

/* Text of a descriptor's magic link; the buffer belongs to the caller. */
struct lk_fd_path {
    char text[32];
};
const char *lk_fd_path(struct lk_fd_path *path, int fd);

/* Writes all of `size` bytes to a blocking descriptor; -errno on failure. */
int lk_write_all(int fd, const void *data, size_t size);

uint64_t lk_monotonic_ns(void);
int64_t lk_realtime_ns(void);

/* System calls glibc has no wrapper for. They return -1 with errno set, as glibc's would. */
int lk_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int lk_pidfd_open(int pid);
int lk_close_range_on_exec(unsigned first);

struct clone_args;
long lk_clone3(struct clone_args *arguments);

/* Sends up to LK_FDS_MAX descriptors with a message over a unix socket; -errno on failure. */
int lk_send_fds(int socket, const void *data, size_t size, const int *fds, size_t count, int flags);
/* Receives up to `size` bytes and `room` descriptors (*count come); the bytes' number or -errno. */
ssize_t lk_receive_fds(int socket, void *data, size_t size, int *fds, size_t room, size_t *count,
                       int flags);
/* The same with one descriptor, or none: -1. */
int lk_send_fd(int socket, const void *data, size_t size, int fd, int flags);
ssize_t lk_receive_fd(int socket, void *data, size_t size, int *fd, int flags);
