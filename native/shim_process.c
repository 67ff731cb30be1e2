/* What becomes of the process: it is set up, held, running, ended, and each of these is told. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "shim.h"

static const uint64_t DRAIN_NS = 3000000000u; /* how long a stuck client may delay the exit event */

/* A mount namespace dies with the last process in it, and the kernel takes apart all its file systems
 * before it tells the parent that the process is gone. While we hold the namespace the end can be
 * told first; letting go of it does the work then, before this shim is gone itself. */
static void hold_mounts(struct lk_shim *shim) {
    char path[32];
    if (!(shim->spec.basics.clone_flags & CLONE_NEWNS))
        return;
    (void)snprintf(path, sizeof path, "/proc/%d/ns/mnt", shim->launched.pid);
    shim->mounts = open(path, O_RDONLY | O_CLOEXEC);
}

static void forget_start(struct lk_shim *shim) {
    if (shim->timeline != NULL)
        lk_timeline_close(shim->timeline);
    shim->timeline = NULL;
    if (shim->launched.sync >= 0)
        (void)close(shim->launched.sync);
    shim->launched.sync = -1;
    if (shim->launched.shared != NULL)
        (void)munmap(shim->launched.shared, sizeof *shim->launched.shared);
    shim->launched.shared = NULL;
}

static void save_steps(struct lk_shim *shim) {
    if (shim->timeline != NULL)
        (void)lk_timeline_save(shim->timeline, shim->spec.basics.state_fd, "timeline.bin");
}

/* What could not be done, one a line: first about the groups, then what the child has to say. */
static size_t all_warnings(const struct lk_shim *shim, char text[2 * LK_WARNINGS]) {
    const char *theirs = shim->launched.shared->warnings;
    const int size = snprintf(text, (size_t)2 * LK_WARNINGS, "%s%s%s", shim->group_warnings,
                              shim->group_warnings[0] && theirs[0] ? "\n" : "", theirs);
    return (size_t)size;
}

/* Step and object, each with its NUL, as FAILED and a refused RELEASE carry them. */
static size_t error_text(const struct lk_error *error, char text[LK_MESSAGE_TEXT]) {
    const int size = snprintf(text, LK_MESSAGE_TEXT, "%s%c%s", error->step, 0, error->detail);
    return (size_t)size + 1;
}

void lk_shim_fail(struct lk_shim *shim, const struct lk_error *error) {
    char text[LK_MESSAGE_TEXT];
    const size_t size = error_text(error, text);
    save_steps(shim);
    lk_shim_answer_release(shim, -error->number, text, size);
    lk_shim_broadcast(shim, LK_EVENT_FAILED, -error->number, 0, 0, text, size, -1);
    /* ECHILD from waitpid: it has been reaped already. */
    if (shim->launched.pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, shim->launched.pidfd, SIGKILL, NULL, 0);
    while (shim->launched.pid > 0 && waitpid(shim->launched.pid, NULL, 0) < 0 && errno == EINTR) {
    }
    shim->quit = true;
}

/* The step in which the child gave way to its program, if it came that far. */
static struct lk_step *last_exec(struct lk_timeline *timeline) {
    const uint32_t count = timeline->count < LK_STEPS_MAX ? timeline->count : LK_STEPS_MAX;
    for (uint32_t i = count; i-- > 0;)
        if (strcmp(timeline->steps[i].name, "exec") == 0)
            return &timeline->steps[i];
    return NULL;
}

/* The sync socket has closed: exec succeeded, or the child left an error, or somebody killed it. */
static void child_left_sync(struct lk_shim *shim) {
    struct lk_shared *shared = shim->launched.shared;
    struct lk_error error = shared->error;
    struct lk_step *exec = last_exec(shim->timeline);
    if (error.number == 0 && exec == NULL)
        (void)lk_fail_with(&error, ECHILD, "start the process",
                           "it was killed while being set up (is the memory limit too small?)");
    if (error.number != 0 || exec == NULL) {
        lk_shim_fail(shim, &error);
        return;
    }
    exec->end_ns = lk_monotonic_ns();
    shim->started_ns = lk_realtime_ns();
    shim->state = LK_STATE_RUNNING;
    save_steps(shim);
    char warnings[2 * LK_WARNINGS];
    const size_t size = all_warnings(shim, warnings);
    lk_shim_answer_release(shim, 0, warnings, size);
    lk_shim_broadcast(shim, LK_EVENT_STARTED, 0, shim->launched.pid, shim->started_ns, warnings, size,
                      shim->launched.pidfd);
    forget_start(shim);
    /* Megabytes of environment should not stay with us as long as the container lives. */
    lk_spec_free(&shim->spec);
    (void)munmap(shim->message, shim->message_size);
}

static void adopt_terminal(struct lk_shim *shim, int master) {
    shim->terminal = fcntl(master, F_DUPFD_CLOEXEC, 3);
    int input = -1;
    if (shim->spec.basics.flags & LK_OPEN_STDIN)
        input = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (lk_streams_open(&shim->streams, master, -1, input) < 0)
        shim->quit = true;
}

void lk_shim_let_go(struct lk_shim *shim) {
    shim->state = LK_STATE_STARTING;
    (void)lk_send_fd(shim->launched.sync, (char[]){LK_SYNC_GO}, 1, -1, 0);
}

void lk_shim_sync_ready(struct lk_shim *shim) {
    char byte;
    int fd;
    const ssize_t count = lk_receive_fd(shim->launched.sync, &byte, 1, &fd, MSG_DONTWAIT);
    if (count == -EAGAIN)
        return;
    if (count <= 0) {
        (void)close(shim->launched.sync);
        shim->launched.sync = -1;
        child_left_sync(shim);
    } else if (byte == LK_SYNC_TTY && fd >= 0) {
        adopt_terminal(shim, fd);
    } else if (byte == LK_SYNC_HELD) {
        shim->state = LK_STATE_HELD;
        save_steps(shim);
        lk_shim_broadcast(shim, LK_EVENT_HELD, 0, shim->launched.pid, 0, shim->group_warnings,
                          strlen(shim->group_warnings), shim->launched.pidfd);
        /* A daemon that came back may have asked before the process got this far. */
        for (int i = 0; i < LK_CONTROLS_MAX; i++)
            if (shim->controls[i].fd >= 0 && shim->controls[i].release_serial != 0) {
                lk_shim_let_go(shim);
                break;
            }
    }
}

static void publish_exit(struct lk_shim *shim) {
    lk_streams_close_input(&shim->streams);
    lk_shim_record_exit(shim);
    shim->published = true;
    lk_shim_broadcast(shim, LK_EVENT_EXITED, 0, shim->exit_code, shim->finished_ns, NULL, 0, -1);
    lk_close_fd(&shim->mounts);
    shim->mounts = -1;
}

void lk_shim_advance(struct lk_shim *shim) {
    lk_shim_answer_waits(shim);
    if (shim->state != LK_STATE_EXITED)
        return;
    const bool ended = lk_streams_ended(&shim->streams);
    if (!shim->published && (ended || lk_monotonic_ns() >= shim->drain_until_ns)) {
        publish_exit(shim);
        lk_shim_answer_waits(shim);
    }
    if (ended)
        lk_streams_finish(&shim->streams);
    if (shim->published && ended && (shim->acknowledged || !lk_shim_has_controls(shim)))
        shim->quit = true;
}

static void process_ended(struct lk_shim *shim, int status) {
    /* The end may be seen before the last words on the sync socket. */
    while (shim->launched.sync >= 0 && !shim->quit) {
        if (shim->state == LK_STATE_HELD)
            shim->state = LK_STATE_STARTING;
        lk_shim_sync_ready(shim);
    }
    if (shim->quit)
        return;
    shim->state = LK_STATE_EXITED;
    shim->finished_ns = lk_realtime_ns();
    shim->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    shim->drain_until_ns = lk_monotonic_ns() + DRAIN_NS;
    lk_streams_drain(&shim->streams);
}

void lk_shim_reap(struct lk_shim *shim) {
    struct signalfd_siginfo ignored;
    while (read(shim->signals, &ignored, sizeof ignored) > 0) {
    }
    for (;;) {
        int status;
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        if (pid == shim->launched.pid)
            process_ended(shim, status);
    }
}

int lk_shim_start(struct lk_shim *shim, struct lk_error *error) {
    const struct lk_basics *basics = &shim->spec.basics;
    /* Orphans of a container without a PID namespace of its own come to us to be reaped. */
    if (!(basics->flags & LK_EXEC) && !(basics->clone_flags & CLONE_NEWPID))
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    const int status = lk_launch(&shim->spec, shim->timeline, shim->ground, shim->group_warnings,
                                 &shim->launched, error);
    if (status < 0)
        return status;
    hold_mounts(shim);
    if (!(basics->flags & LK_TTY) && lk_streams_open(&shim->streams, shim->launched.output,
                                                     shim->launched.errors, shim->launched.input) < 0)
        return lk_fail(error, "begin", "stdio");
    if (lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->launched.sync, LK_ON_SYNC, EPOLLIN) < 0)
        return lk_fail(error, "begin", "event loop");
    return 0;
}
