#include "lk.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

static void fill(struct lk_error *error, int number, const char *step, const char *format,
                 va_list arguments) __attribute__((format(printf, 4, 0)));
static void fill(struct lk_error *error, int number, const char *step, const char *format,
                 va_list arguments) {
    error->number = number > 0 ? number : EIO;
    (void)snprintf(error->step, sizeof error->step, "%s", step);
    (void)vsnprintf(error->detail, sizeof error->detail, format, arguments);
}

int lk_fail(struct lk_error *error, const char *step, const char *format, ...) {
    const int number = errno;
    va_list arguments;
    va_start(arguments, format);
    fill(error, number, step, format, arguments);
    va_end(arguments);
    return -error->number;
}

int lk_fail_with(struct lk_error *error, int number, const char *step, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fill(error, number, step, format, arguments);
    va_end(arguments);
    return -error->number;
}

const char *lk_fd_path(struct lk_fd_path *path, int fd) {
    (void)snprintf(path->text, sizeof path->text, "/proc/self/fd/%d", fd);
    return path->text;
}

int lk_write_all(int fd, const void *data, size_t size) {
    const char *next = data;
    while (size > 0) {
        const ssize_t count = write(fd, next, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        next += count;
        size -= (size_t)count;
    }
    return 0;
}

static uint64_t now_ns(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t lk_monotonic_ns(void) {
    return now_ns(CLOCK_MONOTONIC);
}

int64_t lk_realtime_ns(void) {
    return (int64_t)now_ns(CLOCK_REALTIME);
}

int lk_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    /* EAGAIN: something was renamed beneath us while ".." was walked; the kernel asks to retry. */
    for (int attempt = 0; attempt < 64; attempt++) {
        const long fd = syscall(SYS_openat2, directory, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            return (int)fd;
    }
    return -1;
}

int lk_pidfd_open(int pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int lk_close_range_on_exec(unsigned first) {
    return (int)syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC);
}

long lk_clone3(struct clone_args *arguments) {
    return syscall(SYS_clone3, arguments, sizeof *arguments);
}

/* SCM_MAX_FD of the kernel is 253; nobody here sends more than a few dozen. */
union rights {
    char bytes[CMSG_SPACE(LK_FDS_MAX * sizeof(int))];
    struct cmsghdr align;
};

int lk_send_fds(int socket, const void *data, size_t size, const int *fds, size_t count, int flags) {
    union rights control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > LK_FDS_MAX)
        return -E2BIG;
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    for (;;) {
        const ssize_t sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
        if (sent >= 0)
            return (size_t)sent == size ? 0 : -EMSGSIZE;
        if (errno != EINTR)
            return -errno;
    }
}

int lk_send_fd(int socket, const void *data, size_t size, int fd, int flags) {
    return lk_send_fds(socket, data, size, &fd, fd >= 0 ? 1 : 0, flags);
}

ssize_t lk_receive_fds(int socket, void *data, size_t size, int *fds, size_t room, size_t *count,
                       int flags) {
    union rights control;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(room * sizeof(int))};
    *count = 0;
    if (room > LK_FDS_MAX)
        return -E2BIG;
    ssize_t size_got;
    do {
        size_got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    } while (size_got < 0 && errno == EINTR);
    if (size_got < 0)
        return -errno;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
         header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            *count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(header), *count * sizeof(int));
        }
    return size_got;
}

ssize_t lk_receive_fd(int socket, void *data, size_t size, int *fd, int flags) {
    size_t count;
    *fd = -1;
    return lk_receive_fds(socket, data, size, fd, 1, &count, flags);
}
