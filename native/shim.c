#include "shim.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "network.h"

static void dispatch(struct lk_shim *shim, uint32_t source, uint32_t events) {
    if (source == LK_ON_SYNC) {
        if (shim->launched.sync >= 0)
            lk_shim_sync_ready(shim);
    } else if (source == LK_ON_SIGNAL) {
        lk_shim_reap(shim);
    } else if (source == LK_ON_LISTEN) {
        lk_shim_accept(shim);
    } else if (source >= LK_ON_CONTROL && source < LK_ON_CLIENT) {
        struct lk_control *control = &shim->controls[source - LK_ON_CONTROL];
        if (control->fd >= 0)
            lk_shim_control_ready(shim, control);
    } else {
        lk_streams_ready(&shim->streams, source, events);
    }
}

static void loop(struct lk_shim *shim) {
    while (!shim->quit) {
        struct epoll_event events[16];
        int timeout = -1;
        if (shim->state == LK_STATE_EXITED && !shim->published)
            timeout = 100;
        const int count = epoll_wait(shim->epoll, events, 16, timeout);
        for (int i = 0; i < count && !shim->quit; i++)
            dispatch(shim, events[i].data.u32, events[i].events);
        if (!shim->quit)
            lk_shim_advance(shim);
    }
}

static int read_spec(struct lk_shim *shim, struct lk_error *error) {
    struct stat found;
    if (fstat(LK_SPEC_FD, &found) < 0 || found.st_size <= 0)
        return lk_fail(error, "decode the spec", "no message");
    shim->message_size = (size_t)found.st_size;
    shim->message = mmap(NULL, shim->message_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, LK_SPEC_FD, 0);
    if (shim->message == MAP_FAILED)
        return lk_fail(error, "decode the spec", "%zu bytes", shim->message_size);
    (void)close(LK_SPEC_FD);
    return lk_spec_decode(&shim->spec, shim->message, shim->message_size, error);
}

static int watch_signals(struct lk_shim *shim) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    shim->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sigfillset(&set);
    if (shim->signals < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    return lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->signals, LK_ON_SIGNAL, EPOLLIN);
}

/* Descriptors named in the spec are needed by the child only, and so is the network namespace. */
static void close_passed(struct lk_shim *shim) {
    const struct lk_basics *basics = &shim->spec.basics;
    const int fds[] = {basics->target_pidfd, basics->host_mnt, basics->host_net, basics->cgroup_fd,
                       shim->spec.group_program, shim->ground->spare_network, shim->ground->program};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        lk_close_fd(&fds[i]);
    for (size_t i = 0; i < shim->spec.join_count; i++)
        lk_close_fd(&shim->spec.joins[i].fd);
    for (size_t i = 0; i < shim->spec.cgroup_count; i++)
        lk_close_fd(&shim->spec.cgroups[i]);
    lk_groups_discard(shim->ground); /* that are left, if these were not the ones needed */
    for (size_t i = 0; i < shim->ground->base_count; i++)
        lk_close_fd(&shim->ground->bases[i]);
}

/* All that can be done without knowing what will be started. */
static int prepare(struct lk_shim *shim, int socket, bool container, struct lk_error *error) {
    if (container) {
        shim->ground->spare_network = lk_spare_network();
        lk_groups_prepare(shim->ground);
    }
    shim->epoll = epoll_create1(EPOLL_CLOEXEC);
    shim->streams.epoll = shim->epoll;
    shim->streams.log = &shim->log;
    shim->timeline = lk_timeline_share();
    if (shim->epoll < 0 || watch_signals(shim) < 0 || lk_shim_add_control(shim, socket) < 0 ||
        shim->timeline == NULL)
        return lk_fail(error, "begin", "event loop");
    /* Out of the way of the descriptors to come. */
    int *const own[] = {&shim->epoll, &shim->signals, &shim->ground->spare_network};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (*own[i] >= 0 && (*own[i] = lk_keep_high(*own[i])) < 0)
            return lk_fail(error, "begin", "descriptors");
    shim->streams.epoll = shim->epoll;
    return 0;
}

/* Sleeps until there is something to start. Free numbers are given out in ascending order, so what
 * comes has the numbers that the spec counts on; that is checked all the same. */
static int await_spec(const struct lk_shim *shim, int socket, struct lk_error *error) {
    int fds[LK_FDS_MAX];
    size_t count;
    char byte;
    const ssize_t size = lk_receive_fds(socket, &byte, 1, fds, LK_FDS_MAX, &count, 0);
    if (size == 0) { /* nobody will ever want us */
        lk_groups_discard(shim->ground);
        _exit(0);
    }
    if (size != 1 || count == 0)
        return lk_fail_with(error, EPROTO, "begin", "no descriptors came");
    for (size_t i = 0; i < count; i++)
        if (fds[i] != LK_SPEC_FD + (int)i)
            return lk_fail_with(error, EPROTO, "begin", "descriptor %d came as %d", LK_SPEC_FD + (int)i,
                                fds[i]);
    return 0;
}

static int begin(struct lk_shim *shim, struct lk_error *error) {
    int status = read_spec(shim, error);
    if (status < 0)
        return status;
    const struct lk_basics *basics = &shim->spec.basics;
    shim->streams.tty = basics->flags & LK_TTY;
    shim->streams.stdin_once = basics->flags & LK_STDIN_ONCE;
    if (snprintf(shim->id, sizeof shim->id, "%s", shim->spec.id) >= (int)sizeof shim->id ||
        snprintf(shim->log_name, sizeof shim->log_name, "%s", shim->spec.log_name) >=
            (int)sizeof shim->log_name ||
        strpbrk(shim->id, "\"\\/") != NULL || strchr(shim->log_name, '/') != NULL ||
        strpbrk(shim->spec.group_name, "\"\\/") != NULL)
        return lk_fail_with(error, EINVAL, "begin", "id, group or name of the log");
    lk_set_title(shim->id);
    if ((status = lk_shim_start(shim, error)) < 0)
        return status;
    close_passed(shim);
    /* The child builds its root meanwhile. */
    struct lk_step *step = lk_begin(shim->timeline, LK_BY_SHIM, "prepare log and socket",
                                    "openat(), bind(), listen()", "%s", shim->spec.log_name);
    lk_shim_record_run(shim);
    lk_shim_record_identity(shim);
    if ((status = lk_shim_listen(shim, error)) == 0 &&
        (status = lk_log_open(&shim->log, basics->log_fd, shim->log_name, basics->log_bytes,
                              basics->log_files)) < 0)
        status = lk_fail_with(error, -status, "open the log", "%s", shim->spec.log_name);
    if (lk_end(step, status) < 0)
        return status;
    if (lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->listener, LK_ON_LISTEN, EPOLLIN) < 0)
        return lk_fail(error, "begin", "event loop");
    return 0;
}

_Noreturn void lk_shim_serve(int socket, struct lk_ground *ground, bool container) {
    static struct lk_shim shim;
    struct lk_error error = {0};
    shim.ground = ground;
    shim.epoll = shim.listener = shim.signals = shim.terminal = shim.mounts = -1;
    shim.spec.basics.state_fd = -1;
    shim.launched = (struct lk_launched){-1, -1, -1, -1, -1, -1, NULL};
    shim.streams.output[0] = shim.streams.output[1] = shim.streams.input = -1;
    for (int i = 0; i < LK_CONTROLS_MAX; i++)
        shim.controls[i].fd = -1;
    for (int i = 0; i < LK_CLIENTS_MAX; i++)
        shim.streams.clients[i].fd = -1;
    (void)signal(SIGCHLD, SIG_DFL); /* the nursery does not wait for its children, we do */
    if (prepare(&shim, socket, container, &error) < 0 || await_spec(&shim, socket, &error) < 0 ||
        begin(&shim, &error) < 0)
        lk_shim_fail(&shim, &error);
    else
        loop(&shim);
    if (shim.listener >= 0)
        (void)unlinkat(shim.spec.basics.state_fd, "shim.sock", 0);
    _exit(0);
}
