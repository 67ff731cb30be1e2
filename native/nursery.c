#include "shim.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "applets.h"
#include "protocol.h"

/* <sched.h> and <linux/sched.h> do not mix. */
int setns(int fd, int kind);

/* Descriptors of our own stay above those that a spec names by number (protocol.h). */
enum { OWN_FDS = 128 };

/* All that ps(1) and the views know a shim by; a ready one carries the nursery's own words. */
struct title {
    char *text;
    size_t size;
};

static struct title title;

void lk_set_title(const char *id) {
    static const char name[] = "labkit-shim\0shim";
    if (title.size <= sizeof name)
        return;
    memset(title.text, 0, title.size);
    memcpy(title.text, name, sizeof name);
    (void)strncpy(title.text + sizeof name, id, title.size - sizeof name - 1);
}

int lk_keep_high(int fd) {
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS);
    (void)close(fd);
    return high;
}

static int set_up(int control, struct lk_ground *ground) {
    struct lk_nursery_setup setup;
    int fds[LK_FDS_MAX];
    size_t count, first = 0;
    const ssize_t size = lk_receive_fds(control, &setup, sizeof setup, fds, LK_FDS_MAX, &count, 0);
    if (size != sizeof setup || setup.version != LK_PROTOCOL ||
        count != setup.base_count + (setup.has_host ? 2 : 0) || setup.base_count > LK_BASES_MAX)
        return -EPROTO;
    if (setup.has_host) {
        if (setns(fds[1], CLONE_NEWNET) < 0 || setns(fds[0], CLONE_NEWNS) < 0)
            return -errno;
        (void)close(fds[0]);
        (void)close(fds[1]);
        first = 2;
    }
    ground->base_count = setup.base_count;
    ground->unified = setup.unified;
    for (size_t i = 0; i < ground->base_count; i++)
        if ((ground->bases[i] = lk_keep_high(fds[first + i])) < 0)
            return -errno;
    ground->program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    if (ground->program < 0 || (ground->program = lk_keep_high(ground->program)) < 0)
        return -errno;
    return 0;
}

static void bear(int control, struct lk_ground *ground, uint32_t flags) {
    int pair[2] = {-1, -1}, pidfd = -1;
    struct clone_args arguments = {
        .flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (uint64_t)(uintptr_t)&pidfd};
    struct lk_nursery_reply reply = {0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        reply.status = -errno;
        (void)lk_send_fd(control, &reply, sizeof reply, -1, 0);
        return;
    }
    const long pid = lk_clone3(&arguments);
    if (pid == 0) {
        (void)close(control);
        (void)close(pair[0]);
        /* All others being high, what the shim is sent takes the numbers after this one. */
        const int socket = lk_keep_high(pair[1]);
        if (dup3(socket, LK_CONTROL_FD, O_CLOEXEC) < 0)
            _exit(1);
        (void)close(socket);
        lk_shim_serve(LK_CONTROL_FD, ground, flags & LK_NURSERY_CONTAINER);
    }
    if (pid < 0)
        reply.status = -errno;
    reply.pid = (int32_t)pid;
    (void)lk_send_fds(control, &reply, sizeof reply, (int[]){pair[0], pidfd}, pid < 0 ? 0 : 2, 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
    lk_close_fd(&pidfd);
}

int lk_nursery_main(int argc, char **argv) {
    struct lk_ground ground = {.spare_network = -1, .program = -1};
    (void)prctl(PR_SET_NAME, "labkit-shim", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(077);
    /* Nobody here waits for shims: they end on their own, and whoever cares has a pidfd. */
    (void)signal(SIGCHLD, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    title = (struct title){argv[-1], (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[-1])};
    const int control = lk_keep_high(LK_CONTROL_FD);
    if (control < 0 || set_up(control, &ground) < 0)
        return 1;
    for (;;) {
        struct lk_nursery_request request;
        int fd;
        const ssize_t size = lk_receive_fd(control, &request, sizeof request, &fd, 0);
        lk_close_fd(&fd);
        if (size != sizeof request)
            return 0;
        bear(control, &ground, request.flags);
    }
}
