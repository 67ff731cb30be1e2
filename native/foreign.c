/*
 * Another OCI runtime in place of our own start.
 *
 * `RUNTIME create` makes the container, whose first process then falls to the shim (a sub-reaper) as
 * if it were the shim's own; `RUNTIME start` lets it go. Between the two stands the conductor, a
 * process that speaks for the container over the sync socket. Log, terminal, attached clients and
 * exit status are the shim's as ever. A further process is simpler: `RUNTIME exec` in the foreground
 * is what the shim looks after.
 */
#include "foreign.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "devices.h"
#include "rootfs.h"

int unshare(int flags); /* <sched.h> and <linux/sched.h> do not mix */
int umount2(const char *, int);

enum { WORDS_MAX = 64, DETACH = 2, CREATE_MS = 60000 };
static const char STEP[] = "foreign runtime";

/* A list of texts as an argument vector. */
static int words_of(const struct lk_texts *texts, char *words[WORDS_MAX + 1]) {
    size_t count = 0;
    for (size_t at = 0; at < texts->size && count < WORDS_MAX; at += strlen(texts->first + at) + 1)
        words[count++] = (char *)(uintptr_t)(texts->first + at);
    words[count] = NULL;
    return (int)count;
}

static void default_signals(void) {
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &fallback, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void connect_stdio(const struct lk_foreign_stdio *stdio) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int given[] = {stdio->input, stdio->output, stdio->errors};
    for (int fd = 0; fd < 3; fd++)
        if (dup2(given[fd] >= 0 ? given[fd] : null, fd) < 0)
            _exit(125);
}

static _Noreturn void execute(char *words[]) {
    static char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    default_signals();
    (void)execve(words[0], words, environment);
    _exit(127);
}

/* What `create` needs around it: the root mounted where the bundle says, and nothing in sight that the
 * runtime refuses. The mounts live on in the container's own namespace and die with it. */
static int prepare_mounts(const struct lk_spec *spec, struct lk_timeline *timeline,
                          struct lk_error *error) {
    if (unshare(CLONE_NEWNS) < 0)
        return lk_fail(error, STEP, "a mount namespace");
    int status = lk_detach_propagation(spec, timeline, error);
    if (status < 0)
        return status;
    if (spec->foreign_hidden[0] != 0)
        (void)umount2(spec->foreign_hidden, DETACH);
    /* Left open: the runtime finds the root by its path. */
    const int root = spec->basics.flags & LK_EXEC ? 0 : lk_mount_root(spec, timeline, error);
    return root < 0 ? root : 0;
}

static int wait_for(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 125;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The socket at which the runtime delivers the terminal's master. */
static int listen_for_console(int state) {
    LK_FD listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/console.sock", state);
    (void)unlinkat(state, "console.sock", 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1) < 0)
        return -1;
    return lk_take_fd(&listener);
}

/* The master, or -1 when the runtime ended without sending one. */
static int take_console(int listener, pid_t runtime) {
    LK_FD ended = lk_pidfd_open(runtime);
    struct pollfd watched[] = {{.fd = listener, .events = POLLIN}, {.fd = ended, .events = POLLIN}};
    if (poll(watched, 2, CREATE_MS) <= 0 || !(watched[0].revents & POLLIN))
        return -1;
    LK_FD link = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    char name[256];
    int master = -1;
    if (link < 0 || lk_receive_fd(link, name, sizeof name, &master, 0) <= 0)
        return -1;
    return master;
}

static int read_pid(int state) {
    char text[16] = "";
    LK_FD file = openat(state, "pid", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return file < 0 || read(file, text, sizeof text - 1) <= 0 ? -1 : atoi(text);
}

static int create(const struct lk_spec *spec, struct lk_timeline *timeline,
                  const struct lk_foreign_stdio *stdio, int *master, struct lk_error *error) {
    const int state = spec->basics.state_fd;
    const bool tty = spec->basics.flags & LK_TTY;
    char *words[WORDS_MAX + 1], console[64];
    (void)words_of(&spec->foreign_make, words);
    LK_FD listener = tty ? listen_for_console(state) : -1;
    if (tty && listener < 0)
        return lk_fail(error, STEP, "console.sock");
    /* By descriptor, for an address is short; ours, for the runtime has other descriptors. */
    (void)snprintf(console, sizeof console, "/proc/%d/fd/%d/console.sock", getpid(), state);
    for (char **word = words; *word != NULL; word++)
        if (strcmp(*word, "@console") == 0)
            *word = console;
    struct lk_step *step = lk_begin(timeline, LK_BY_SHIM, "foreign runtime creates",
                                    "execve(), wait()", "%s create", words[0]);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    const pid_t runtime = fork();
    if (runtime == 0) {
        struct lk_error inner = {0};
        if (prepare_mounts(spec, timeline, &inner) < 0)
            _exit(126);
        connect_stdio(stdio);
        execute(words);
    }
    if (runtime < 0)
        return lk_end(step, lk_fail(error, STEP, "fork"));
    if (tty)
        *master = take_console(listener, runtime);
    const int code = wait_for(runtime);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (tty)
        (void)unlinkat(state, "console.sock", 0);
    if (code != 0)
        return lk_end(step, lk_fail_with(error, ECHILD, STEP, "%s ended with status %d", words[0], code));
    return lk_end(step, 0);
}

/* Waits for the shim's word. */
static bool let_go(int sync) {
    char byte = 0;
    ssize_t count;
    do {
        count = recv(sync, &byte, 1, 0);
    } while (count < 0 && errno == EINTR);
    return count == 1 && byte == LK_SYNC_GO;
}

/* Speaks for a created container: hands over its terminal, waits, starts it. */
static _Noreturn void conduct(const struct lk_spec *spec, struct lk_timeline *timeline, int sync,
                              int master, struct lk_shared *shared) {
    char *words[WORDS_MAX + 1];
    (void)words_of(&spec->foreign_go, words);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (master >= 0 && lk_send_fd(sync, (char[]){LK_SYNC_TTY}, 1, master, MSG_NOSIGNAL) < 0)
        _exit(125);
    if (spec->basics.flags & LK_HOLD &&
        (lk_send_fd(sync, (char[]){LK_SYNC_HELD}, 1, -1, MSG_NOSIGNAL) < 0 || !let_go(sync)))
        _exit(125);
    struct lk_step *step =
        lk_begin(timeline, LK_BY_SHIM, "exec", "execve(), wait()", "%s start", words[0]);
    const pid_t runtime = fork();
    if (runtime == 0) {
        const struct lk_foreign_stdio nowhere = {-1, -1, -1, -1};
        struct lk_error ignored = {0};
        if (prepare_mounts(&(struct lk_spec){.basics = {.flags = LK_EXEC},
                                             .foreign_hidden = spec->foreign_hidden},
                           timeline, &ignored) < 0)
            _exit(126);
        connect_stdio(&nowhere);
        execute(words);
    }
    const int code = runtime < 0 ? 125 : wait_for(runtime);
    if (code != 0)
        (void)lk_end(step, lk_fail_with(&shared->error, ECHILD, STEP, "%s ended with status %d",
                                        words[0], code));
    _exit(0);
}

/* `RUNTIME exec`, which stays for as long as its process does. */
static _Noreturn void further_process(const struct lk_spec *spec, struct lk_timeline *timeline,
                                      const struct lk_foreign_stdio *stdio, struct lk_shared *shared) {
    char *words[WORDS_MAX + 1];
    struct lk_error error = {0};
    struct lk_tty tty = {-1, -1};
    struct lk_foreign_stdio own = *stdio;
    (void)words_of(&spec->foreign_make, words);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int status = prepare_mounts(spec, timeline, &error);
    if (status == 0 && spec->basics.flags & LK_TTY) {
        LK_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        status = lk_open_tty(spec, root, false, &tty, timeline, &error);
        own.input = own.output = own.errors = tty.slave;
        if (status == 0)
            status = lk_send_fd(stdio->sync, (char[]){LK_SYNC_TTY}, 1, tty.master, MSG_NOSIGNAL);
    }
    if (status < 0) {
        shared->error = error;
        _exit(125);
    }
    (void)setsid();
    connect_stdio(&own);
    if (tty.slave >= 0)
        (void)ioctl(0, TIOCSCTTY, 0);
    if (spec->basics.flags & LK_HOLD &&
        (lk_send_fd(stdio->sync, (char[]){LK_SYNC_HELD}, 1, -1, MSG_NOSIGNAL) < 0 || !let_go(stdio->sync)))
        _exit(125);
    (void)lk_close_range_on_exec(3);
    (void)lk_begin(timeline, LK_BY_SHIM, "exec", "execve()", "%s exec", words[0]);
    execute(words);
}

int lk_start_foreign(const struct lk_spec *spec, struct lk_timeline *timeline,
                     const struct lk_foreign_stdio *stdio, struct lk_launched *launched,
                     struct lk_error *error) {
    if (spec->basics.flags & LK_EXEC) {
        launched->pid = fork();
        if (launched->pid == 0)
            further_process(spec, timeline, stdio, launched->shared);
    } else {
        int master = -1;
        if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
            return lk_fail(error, STEP, "become a sub-reaper");
        int status = create(spec, timeline, stdio, &master, error);
        LK_FD owned = master;
        if (status < 0)
            return status;
        launched->pid = read_pid(spec->basics.state_fd);
        const pid_t conductor = launched->pid > 0 ? fork() : -1;
        if (conductor == 0)
            conduct(spec, timeline, stdio->sync, owned, launched->shared);
    }
    if (launched->pid < 0)
        return lk_fail_with(error, ECHILD, STEP, "it left no process");
    launched->pidfd = lk_pidfd_open(launched->pid);
    return launched->pidfd < 0 ? lk_fail(error, STEP, "watch process %d", launched->pid) : 0;
}
