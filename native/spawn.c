/*
 * Starting a shim from the daemon.
 *
 * fork() copies the page tables of a process that may be hundreds of megabytes large, and any code
 * between fork and exec in a threaded Python may deadlock. clone(CLONE_VM|CLONE_VFORK) borrows the
 * memory instead: the parent stands still until the child has executed. The child therefore must
 * not allocate, lock or return; it makes plain system calls only.
 */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPAWN_STACK = 64 * 1024, SPAWN_FDS_MAX = 64 };

struct request {
    int program;
    char *const *argv;
    char *const *envp;
    const int *fds;
    size_t fd_count;
    sigset_t signals;
    int error;
};

/* Moves fds[] to 3, 4, … in two passes, so that no target overwrites a source still needed. */
static int arrange_descriptors(const struct request *request, int *program) {
    int moved[SPAWN_FDS_MAX];
    const int floor = 3 + (int)request->fd_count + 1;
    *program = fcntl(request->program, F_DUPFD_CLOEXEC, floor);
    if (*program < 0)
        return -errno;
    for (size_t i = 0; i < request->fd_count; i++) {
        moved[i] = fcntl(request->fds[i], F_DUPFD_CLOEXEC, floor);
        if (moved[i] < 0)
            return -errno;
    }
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    const int null_high = fcntl(null, F_DUPFD_CLOEXEC, floor);
    if (null_high < 0)
        return -errno;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null_high, fd) < 0)
            return -errno;
    for (size_t i = 0; i < request->fd_count; i++)
        if (dup2(moved[i], 3 + (int)i) < 0)
            return -errno;
    /* Close the rest on exec rather than now: `program` is among it. */
    if (syscall(SYS_close_range, (unsigned)(3 + request->fd_count), ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static int child_main(void *argument) {
    struct request *request = argument;
    int program = -1;
    request->error = arrange_descriptors(request, &program);
    if (request->error < 0)
        _exit(127);
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &fallback, NULL);
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || setsid() < 0) {
        request->error = -errno;
        _exit(127);
    }
    (void)syscall(SYS_execveat, program, "", request->argv, request->envp, AT_EMPTY_PATH);
    request->error = -errno;
    _exit(127);
}

int lk_spawn(int program, char *const argv[], char *const envp[], const int *fds, size_t fd_count,
             int *pid) {
    if (fd_count > SPAWN_FDS_MAX)
        return -E2BIG;
    struct request request = {
        .program = program, .argv = argv, .envp = envp, .fds = fds, .fd_count = fd_count};
    char *stack = mmap(NULL, SPAWN_STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    /* A handler running in the child would run on the parent's memory: none may. */
    sigset_t all;
    sigfillset(&all);
    int status = -sigprocmask(SIG_BLOCK, &all, &request.signals);
    if (status == 0) {
        const int child =
            clone(child_main, stack + SPAWN_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &request);
        status = child < 0 ? -errno : request.error;
        if (child > 0 && status == 0)
            *pid = child;
        if (child > 0 && status < 0)
            (void)syscall(SYS_waitid, 0x1 /* P_PID */, child, NULL, 4 /* WEXITED */, NULL);
        (void)sigprocmask(SIG_SETMASK, &request.signals, NULL);
    }
    (void)munmap(stack, SPAWN_STACK);
    return status;
}

/* Linux 6.3 lets an administrator make memory files not executable unless they say that they are
 * (sysctl vm.memfd_noexec); older kernels do not know the flag. */
static int executable_memory(void) {
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING, exec = 0x0010; /* MFD_EXEC */
    const int fd = memfd_create("labkit-shim", flags | exec);
    return fd >= 0 || errno != EINVAL ? fd : memfd_create("labkit-shim", flags);
}

int lk_sealed_copy(const char *path) {
    const int source = open(path, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return -errno;
    struct stat found;
    int error = 0, copy = -1;
    if (fstat(source, &found) < 0)
        error = -errno;
    else if ((copy = executable_memory()) < 0)
        error = -errno;
    for (off_t left = error < 0 ? 0 : found.st_size; left > 0 && error == 0;) {
        const ssize_t count = sendfile(copy, source, NULL, (size_t)left);
        if (count > 0)
            left -= count;
        else
            error = count < 0 ? -errno : -EIO;
    }
    if (error == 0 && (fchmod(copy, 0500) < 0 ||
                       fcntl(copy, F_ADD_SEALS,
                             F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0))
        error = -errno;
    (void)close(source);
    if (error < 0) {
        if (copy >= 0)
            (void)close(copy);
        return error;
    }
    return copy;
}
