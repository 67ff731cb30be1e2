/*
 * The shim: parent of one container's (or one exec's) first process.
 *
 * It owns stdio and the terminal, writes the log, serves attached clients, reaps the process and
 * records how it ended. It outlives the daemon; when it dies itself, the process dies with it. One
 * thread, one epoll loop, no allocation after the start.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "applets.h"
#include "launch.h"
#include "protocol.h"
#include "streams.h"

enum { CONTROLS_MAX = 16 };
static const uint64_t DRAIN_NS = 3000000000u; /* how long a stuck client may delay the exit event */

struct control {
    int fd; /* -1: free */
    uint32_t release_serial, wait_serial; /* requests not answered yet; 0 is none */
    uint64_t wait_position;
};

struct shim {
    struct lk_spec spec;
    struct lk_launched launched;
    struct lk_timeline *timeline;
    struct lk_streams streams;
    struct lk_log log;
    struct control controls[CONTROLS_MAX];
    int epoll, listener, signals, terminal;
    int mounts; /* the container's mount namespace, see hold_mounts(); -1: none */
    uint32_t state; /* LK_STATE_* */
    int64_t started_ns, finished_ns;
    uint64_t drain_until_ns;
    int exit_code;
    bool published, acknowledged, quit;
    void *message; /* the mapped spec, until the process runs */
    size_t message_size;
    char id[128], log_name[256]; /* outlive it */
};

static void reply(struct shim *shim, struct control *control, const struct lk_message *message,
                  const char *text, size_t size, int fd) {
    char packet[sizeof *message + LK_MESSAGE_TEXT];
    if (size > LK_MESSAGE_TEXT)
        size = LK_MESSAGE_TEXT;
    memcpy(packet, message, sizeof *message);
    if (size > 0)
        memcpy(packet + sizeof *message, text, size);
    /* A daemon that does not read its replies is stopped or gone: it can connect again. */
    if (lk_send_fd(control->fd, packet, sizeof *message + size, fd, MSG_DONTWAIT) < 0) {
        (void)close(control->fd);
        *control = (struct control){.fd = -1};
    }
    (void)shim;
}

static void broadcast(struct shim *shim, const struct lk_message *message, const char *text,
                      size_t size, int fd) {
    for (int i = 0; i < CONTROLS_MAX; i++)
        if (shim->controls[i].fd >= 0)
            reply(shim, &shim->controls[i], message, text, size, fd);
}

static bool has_controls(const struct shim *shim) {
    for (int i = 0; i < CONTROLS_MAX; i++)
        if (shim->controls[i].fd >= 0)
            return true;
    return false;
}

static struct lk_message message_of(uint16_t type, uint32_t serial, int32_t status, int64_t a,
                                    int64_t b) {
    return (struct lk_message){.version = LK_PROTOCOL, .type = type, .serial = serial,
                               .status = status, .a = a, .b = b};
}

/* Writes a file so that a reader finds either all of it or none, whichever process is killed when.
 * It is not forced to the disk: after a power cut there is no container whose end could be told. */
static void write_file(struct shim *shim, const char *name, const char *text, size_t size) {
    char draft[64];
    const int directory = shim->spec.basics.state_fd;
    (void)snprintf(draft, sizeof draft, "%s.new", name);
    LK_FD fd = openat(directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || lk_write_all(fd, text, size) < 0)
        return;
    (void)renameat(directory, draft, directory, name);
}

static uint64_t start_ticks(int pid) {
    char path[32], text[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    LK_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size <= 0)
        return 0;
    text[size] = 0;
    char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int i = 2; field != NULL && i < 22; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field + 1, NULL, 10) : 0;
}

static void write_identity(struct shim *shim) {
    char text[512];
    const int size = snprintf(
        text, sizeof text,
        "{\"version\":%d,\"id\":\"%s\",\"pid\":%d,\"start_ticks\":%llu,\"init_pid\":%d,"
        "\"init_start_ticks\":%llu,\"exec\":%s,\"tty\":%s}\n",
        LK_PROTOCOL, shim->id, getpid(), (unsigned long long)start_ticks(getpid()),
        shim->launched.pid, (unsigned long long)start_ticks(shim->launched.pid),
        shim->spec.basics.flags & LK_EXEC ? "true" : "false",
        shim->spec.basics.flags & LK_TTY ? "true" : "false");
    write_file(shim, "shim.json", text, (size_t)size);
}

/* A mount namespace dies with the last process in it, and the kernel takes apart all its file systems
 * before it tells the parent that the process is gone. While we hold the namespace the end can be
 * told first; letting go of it does the work then, before this shim is gone itself. */
static void hold_mounts(struct shim *shim) {
    char path[32];
    if (!(shim->spec.basics.clone_flags & CLONE_NEWNS))
        return;
    (void)snprintf(path, sizeof path, "/proc/%d/ns/mnt", shim->launched.pid);
    shim->mounts = open(path, O_RDONLY | O_CLOEXEC);
}

static void forget_start(struct shim *shim) {
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

static void answer_release(struct shim *shim, int status, const char *text, size_t size) {
    for (int i = 0; i < CONTROLS_MAX; i++) {
        struct control *control = &shim->controls[i];
        if (control->fd < 0 || control->release_serial == 0)
            continue;
        const struct lk_message message =
            message_of(LK_RELEASE, control->release_serial, status, shim->launched.pid, shim->started_ns);
        control->release_serial = 0;
        reply(shim, control, &message, text, size, -1);
    }
}

/* Step and object, each with its NUL, as FAILED and a refused RELEASE carry them. */
static size_t error_text(const struct lk_error *error, char text[LK_MESSAGE_TEXT]) {
    const int size = snprintf(text, LK_MESSAGE_TEXT, "%s%c%s", error->step, 0, error->detail);
    return (size_t)size + 1;
}

static void fail_start(struct shim *shim, const struct lk_error *error) {
    char text[LK_MESSAGE_TEXT];
    const size_t size = error_text(error, text);
    answer_release(shim, -error->number, text, size);
    const struct lk_message message = message_of(LK_EVENT_FAILED, 0, -error->number, 0, 0);
    broadcast(shim, &message, text, size, -1);
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
static void child_left_sync(struct shim *shim) {
    struct lk_shared *shared = shim->launched.shared;
    struct lk_error error = shared->error;
    struct lk_step *exec = last_exec(shim->timeline);
    if (error.number == 0 && exec == NULL)
        (void)lk_fail_with(&error, ECHILD, "start the process",
                           "it was killed while being set up (is the memory limit too small?)");
    if (error.number != 0) {
        fail_start(shim, &error);
        return;
    }
    exec->end_ns = lk_monotonic_ns();
    shim->started_ns = lk_realtime_ns();
    shim->state = LK_STATE_RUNNING;
    answer_release(shim, 0, shared->warnings, strlen(shared->warnings));
    const struct lk_message message =
        message_of(LK_EVENT_STARTED, 0, 0, shim->launched.pid, shim->started_ns);
    broadcast(shim, &message, shared->warnings, strlen(shared->warnings), shim->launched.pidfd);
    forget_start(shim);
    /* Megabytes of environment should not stay with us as long as the container lives. */
    lk_spec_free(&shim->spec);
    (void)munmap(shim->message, shim->message_size);
}

static void adopt_terminal(struct shim *shim, int master) {
    shim->terminal = fcntl(master, F_DUPFD_CLOEXEC, 3);
    int input = -1;
    if (shim->spec.basics.flags & LK_OPEN_STDIN)
        input = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (lk_streams_open(&shim->streams, master, -1, input) < 0)
        shim->quit = true;
}

static void let_go(struct shim *shim) {
    shim->state = LK_STATE_STARTING;
    (void)lk_send_fd(shim->launched.sync, (char[]){LK_SYNC_GO}, 1, -1, 0);
}

static void sync_ready(struct shim *shim) {
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
        const struct lk_message message = message_of(LK_EVENT_HELD, 0, 0, shim->launched.pid, 0);
        broadcast(shim, &message, NULL, 0, shim->launched.pidfd);
        /* A daemon that came back may have asked before the process got this far. */
        for (int i = 0; i < CONTROLS_MAX; i++)
            if (shim->controls[i].fd >= 0 && shim->controls[i].release_serial != 0) {
                let_go(shim);
                break;
            }
    }
}

static void publish_exit(struct shim *shim) {
    char text[256];
    lk_streams_close_input(&shim->streams);
    const int size = snprintf(text, sizeof text,
                              "{\"code\":%d,\"finished_at_ns\":%lld,\"log_dropped_bytes\":%llu}\n",
                              shim->exit_code, (long long)shim->finished_ns,
                              (unsigned long long)shim->log.dropped);
    write_file(shim, "exit.json", text, (size_t)size);
    shim->published = true;
    const struct lk_message message =
        message_of(LK_EVENT_EXITED, 0, 0, shim->exit_code, shim->finished_ns);
    broadcast(shim, &message, NULL, 0, -1);
    lk_close_fd(&shim->mounts);
    shim->mounts = -1;
}

static void answer_waits(struct shim *shim) {
    const bool ended = lk_streams_ended(&shim->streams) || shim->published;
    for (int i = 0; i < CONTROLS_MAX; i++) {
        struct control *control = &shim->controls[i];
        if (control->fd < 0 || control->wait_serial == 0 ||
            (!ended && shim->log.total <= control->wait_position))
            continue;
        struct lk_message message = message_of(LK_WAIT_LOG, control->wait_serial, 0,
                                               (int64_t)shim->log.total, (int64_t)shim->log.rotations);
        message.flags = ended;
        control->wait_serial = 0;
        reply(shim, control, &message, NULL, 0, -1);
    }
}

/* Everything that follows from the process's end, as far as it can be done now. */
static void advance(struct shim *shim) {
    answer_waits(shim);
    if (shim->state != LK_STATE_EXITED)
        return;
    const bool ended = lk_streams_ended(&shim->streams);
    if (!shim->published && (ended || lk_monotonic_ns() >= shim->drain_until_ns)) {
        publish_exit(shim);
        answer_waits(shim);
    }
    if (ended)
        lk_streams_finish(&shim->streams);
    if (shim->published && ended && (shim->acknowledged || !has_controls(shim)))
        shim->quit = true;
}

static void process_ended(struct shim *shim, int status) {
    /* The end may be seen before the last words on the sync socket. */
    while (shim->launched.sync >= 0 && !shim->quit) {
        if (shim->state == LK_STATE_HELD)
            shim->state = LK_STATE_STARTING;
        sync_ready(shim);
    }
    if (shim->quit)
        return;
    shim->state = LK_STATE_EXITED;
    shim->finished_ns = lk_realtime_ns();
    shim->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    shim->drain_until_ns = lk_monotonic_ns() + DRAIN_NS;
    lk_streams_drain(&shim->streams);
}

static void reap(struct shim *shim) {
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

static void attach(struct shim *shim, struct control *control, const struct lk_message *request,
                   int fd) {
    int status = fd < 0 ? -EBADF : 0;
    if (status == 0 && lk_streams_ended(&shim->streams) && shim->state == LK_STATE_EXITED)
        status = -ESRCH;
    if (status == 0)
        status = lk_streams_attach(&shim->streams, fd, (uint32_t)request->a);
    if (status < 0 && fd >= 0)
        (void)close(fd);
    const struct lk_message message = message_of(LK_ATTACH, request->serial, status, 0, 0);
    reply(shim, control, &message, NULL, 0, -1);
}

static void release(struct shim *shim, struct control *control, const struct lk_message *request) {
    /* Asking twice, or for a process that was never held, is no error. */
    if (shim->state == LK_STATE_RUNNING || shim->state == LK_STATE_EXITED) {
        const struct lk_message message =
            message_of(LK_RELEASE, request->serial, 0, shim->launched.pid, shim->started_ns);
        reply(shim, control, &message, NULL, 0, -1);
        return;
    }
    control->release_serial = request->serial;
    if (shim->state == LK_STATE_HELD)
        let_go(shim);
}

static int resize(struct shim *shim, const struct lk_message *request) {
    const struct winsize size = {.ws_row = (unsigned short)request->a,
                                 .ws_col = (unsigned short)request->b};
    if (shim->terminal < 0)
        return -ENOTTY;
    return ioctl(shim->terminal, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static void handle(struct shim *shim, struct control *control, const struct lk_message *request,
                   int fd) {
    struct lk_message message = message_of(request->type, request->serial, 0, 0, 0);
    switch (request->type) {
    case LK_HELLO:
        message.a = shim->launched.pid;
        message.b = shim->started_ns;
        message.flags = shim->state;
        reply(shim, control, &message, NULL, 0, shim->launched.pidfd);
        if (shim->published) {
            message = message_of(LK_EVENT_EXITED, 0, 0, shim->exit_code, shim->finished_ns);
            reply(shim, control, &message, NULL, 0, -1);
        }
        break;
    case LK_ATTACH:
        attach(shim, control, request, fd);
        return;
    case LK_RELEASE:
        release(shim, control, request);
        break;
    case LK_RESIZE:
        message.status = resize(shim, request);
        reply(shim, control, &message, NULL, 0, -1);
        break;
    case LK_CLOSE_STDIN:
        lk_streams_close_input(&shim->streams);
        reply(shim, control, &message, NULL, 0, -1);
        break;
    case LK_WAIT_LOG:
        control->wait_serial = request->serial;
        control->wait_position = (uint64_t)request->a;
        break;
    case LK_ACKNOWLEDGE:
        shim->acknowledged = true;
        break;
    case LK_QUIT:
        shim->quit = true;
        break;
    default:
        message.status = -ENOSYS;
        reply(shim, control, &message, NULL, 0, -1);
    }
    lk_close_fd(&fd);
}

static void control_gone(struct shim *shim, struct control *control) {
    (void)close(control->fd);
    *control = (struct control){.fd = -1};
    /* A start that nobody waits for any more is given up: its record was never written. */
    if (shim->state == LK_STATE_HELD && !has_controls(shim)) {
        const struct lk_error error = {.number = ECONNRESET, .step = "exec", .detail = "the daemon is gone"};
        fail_start(shim, &error);
    }
}

static void control_ready(struct shim *shim, struct control *control) {
    for (int i = 0; i < 16 && control->fd >= 0; i++) {
        struct lk_message request;
        int fd;
        const ssize_t count =
            lk_receive_fd(control->fd, &request, sizeof request, &fd, MSG_DONTWAIT);
        if (count == -EAGAIN)
            return;
        if (count != sizeof request || request.version != LK_PROTOCOL) {
            lk_close_fd(&fd);
            control_gone(shim, control);
            return;
        }
        handle(shim, control, &request, fd);
    }
}

static int add_control(struct shim *shim, int fd) {
    for (int i = 0; i < CONTROLS_MAX; i++) {
        if (shim->controls[i].fd >= 0)
            continue;
        const int status = lk_watch(shim->epoll, EPOLL_CTL_ADD, fd, LK_ON_CONTROL + (uint32_t)i, EPOLLIN);
        if (status == 0)
            shim->controls[i] = (struct control){.fd = fd};
        return status;
    }
    return -EUSERS;
}

static void accept_control(struct shim *shim) {
    const int fd = accept4(shim->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && add_control(shim, fd) < 0)
        (void)close(fd);
}

static void dispatch(struct shim *shim, uint32_t source, uint32_t events) {
    if (source == LK_ON_SYNC) {
        if (shim->launched.sync >= 0)
            sync_ready(shim);
    } else if (source == LK_ON_SIGNAL) {
        reap(shim);
    } else if (source == LK_ON_LISTEN) {
        accept_control(shim);
    } else if (source >= LK_ON_CONTROL && source < LK_ON_CLIENT) {
        struct control *control = &shim->controls[source - LK_ON_CONTROL];
        if (control->fd >= 0)
            control_ready(shim, control);
    } else {
        lk_streams_ready(&shim->streams, source, events);
    }
}

static void loop(struct shim *shim) {
    while (!shim->quit) {
        struct epoll_event events[16];
        int timeout = -1;
        if (shim->state == LK_STATE_EXITED && !shim->published)
            timeout = 100;
        const int count = epoll_wait(shim->epoll, events, 16, timeout);
        for (int i = 0; i < count && !shim->quit; i++)
            dispatch(shim, events[i].data.u32, events[i].events);
        if (!shim->quit)
            advance(shim);
    }
}

static int listen_on(struct shim *shim, struct lk_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By descriptor: the folder's own path may be longer than a socket address holds. */
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/shim.sock",
                   shim->spec.basics.state_fd);
    shim->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* A socket is born 0777 less the mask; 0600 is meant from the first moment. */
    const mode_t before = umask(0177);
    int status = 0;
    if (shim->listener < 0 ||
        bind(shim->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(shim->listener, CONTROLS_MAX) < 0)
        status = lk_fail(error, "listen for the daemon", "shim.sock");
    (void)umask(before);
    return status;
}

static int read_spec(struct shim *shim, struct lk_error *error) {
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

static int watch_signals(struct shim *shim) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    shim->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sigfillset(&set);
    if (shim->signals < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    return lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->signals, LK_ON_SIGNAL, EPOLLIN);
}

/* Descriptors named in the spec are needed by the child only. */
static void close_passed(struct shim *shim) {
    const struct lk_basics *basics = &shim->spec.basics;
    const int fds[] = {basics->target_pidfd, basics->host_mnt, basics->host_net, basics->cgroup_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        lk_close_fd(&fds[i]);
    for (size_t i = 0; i < shim->spec.join_count; i++)
        lk_close_fd(&shim->spec.joins[i].fd);
    for (size_t i = 0; i < shim->spec.cgroup_count; i++)
        lk_close_fd(&shim->spec.cgroups[i]);
}

static int begin(struct shim *shim, struct lk_error *error) {
    shim->epoll = epoll_create1(EPOLL_CLOEXEC);
    shim->streams.epoll = shim->epoll;
    shim->streams.log = &shim->log;
    if (shim->epoll < 0 || watch_signals(shim) < 0 || add_control(shim, LK_CONTROL_FD) < 0)
        return lk_fail(error, "begin", "event loop");
    int status = read_spec(shim, error);
    if (status < 0)
        return status;
    const struct lk_basics *basics = &shim->spec.basics;
    shim->streams.tty = basics->flags & LK_TTY;
    shim->streams.stdin_once = basics->flags & LK_STDIN_ONCE;
    shim->timeline = lk_timeline_create(basics->state_fd, "timeline.bin");
    if (shim->timeline == NULL)
        return lk_fail(error, "begin", "timeline.bin");
    if (snprintf(shim->id, sizeof shim->id, "%s", shim->spec.id) >= (int)sizeof shim->id ||
        snprintf(shim->log_name, sizeof shim->log_name, "%s", shim->spec.log_name) >=
            (int)sizeof shim->log_name ||
        strpbrk(shim->id, "\"\\/") != NULL || strchr(shim->log_name, '/') != NULL)
        return lk_fail_with(error, EINVAL, "begin", "id or name of the log");
    struct lk_step *step = lk_begin(shim->timeline, LK_BY_SHIM, "prepare log and socket",
                                    "openat(), bind(), listen()", "%s", shim->spec.log_name);
    if ((status = listen_on(shim, error)) == 0 &&
        (status = lk_log_open(&shim->log, basics->log_fd, shim->log_name, basics->log_bytes,
                              basics->log_files)) < 0)
        status = lk_fail_with(error, -status, "open the log", "%s", shim->spec.log_name);
    if (lk_end(step, status) < 0)
        return status;
    /* Orphans of a container without a PID namespace of its own come to us to be reaped. */
    if (!(basics->flags & LK_EXEC) && !(basics->clone_flags & CLONE_NEWPID))
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if ((status = lk_launch(&shim->spec, shim->timeline, &shim->launched, error)) < 0)
        return status;
    close_passed(shim);
    /* While the child builds its root. */
    hold_mounts(shim);
    write_identity(shim);
    if (!(basics->flags & LK_TTY) && lk_streams_open(&shim->streams, shim->launched.output,
                                                     shim->launched.errors, shim->launched.input) < 0)
        return lk_fail(error, "begin", "stdio");
    if (lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->launched.sync, LK_ON_SYNC, EPOLLIN) < 0 ||
        lk_watch(shim->epoll, EPOLL_CTL_ADD, shim->listener, LK_ON_LISTEN, EPOLLIN) < 0)
        return lk_fail(error, "begin", "event loop");
    return 0;
}

int lk_shim_main(int argc, char **argv) {
    static struct shim shim;
    struct lk_error error = {0};
    (void)argc;
    (void)argv;
    shim.epoll = shim.listener = shim.signals = shim.terminal = shim.mounts = -1;
    shim.launched = (struct lk_launched){-1, -1, -1, -1, -1, -1, NULL};
    shim.streams.output[0] = shim.streams.output[1] = shim.streams.input = -1;
    for (int i = 0; i < CONTROLS_MAX; i++)
        shim.controls[i].fd = -1;
    for (int i = 0; i < LK_CLIENTS_MAX; i++)
        shim.streams.clients[i].fd = -1;
    (void)prctl(PR_SET_NAME, "labkit-shim", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(077);
    if (begin(&shim, &error) < 0)
        fail_start(&shim, &error);
    else
        loop(&shim);
    if (shim.listener >= 0)
        (void)unlinkat(shim.spec.basics.state_fd, "shim.sock", 0);
    return 0;
}
