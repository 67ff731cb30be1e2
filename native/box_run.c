/* Programs inside a box: run to their end with bounded output and time, or left in the background. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lk.h"

enum { GRACE_MS = 100 };

struct output {
    int fd;
    char *data;
    size_t size;
};

static void record_exit(struct box *box, pid_t pid, int status) {
    for (size_t i = 0; i < box->children; i++)
        if (box->child[i].pid == pid && box->child[i].running) {
            box->child[i].running = false;
            box->child[i].status = status;
        }
}

void box_reap(struct box *box) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        record_exit(box, pid, status);
}

/* Arguments of `run` and `spawn`: [fixed] then argc, argv..., environment... */
struct program {
    char **argv;
    char **envp;
};

static int take_program(const struct box_request *request, size_t first, struct program *program) {
    const size_t argc = (size_t)box_number(request, first, 0);
    const size_t have = request->count > first + 2 ? request->count - first - 2 : 0;
    if (argc == 0 || argc > have) {
        errno = EINVAL;
        return -1;
    }
    program->argv = calloc(have + 2, sizeof(char *));
    if (program->argv == NULL)
        return -1;
    for (size_t i = 0; i < argc; i++)
        program->argv[i] = request->field[first + 2 + i].text;
    program->envp = program->argv + argc + 1;
    for (size_t i = argc; i < have; i++)
        program->envp[i - argc] = request->field[first + 2 + i].text;
    return 0;
}

/* Fuses that hold even where no cgroup does. */
static void set_fuses(void) {
    const struct rlimit core = {0, 0};
    const struct rlimit file = {1UL << 30, 1UL << 30};
    const struct rlimit files = {1024, 1024};
    const struct rlimit data = {2UL << 30, 2UL << 30};
    const struct rlimit processes = {2048, 2048}; /* root of the machine is exempt from this one */
    (void)setrlimit(RLIMIT_CORE, &core);
    (void)setrlimit(RLIMIT_FSIZE, &file);
    (void)setrlimit(RLIMIT_NOFILE, &files);
    (void)setrlimit(RLIMIT_DATA, &data);
    (void)setrlimit(RLIMIT_NPROC, &processes);
}

static _Noreturn void become(const struct program *program, int in, int out, int err, int report) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setsid();
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    set_fuses();
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        _exit(125);
    environ = program->envp;
    (void)execvp(program->argv[0], program->argv);
    const int reason = errno;
    (void)!write(report, &reason, sizeof reason);
    _exit(reason == ENOENT ? 127 : 126);
}

/* Forks and executes; *failure is the errno of a failed exec. Returns the pid or -1 with errno. */
static pid_t start(const struct program *program, int in, int out, int err, int *failure) {
    int channel[2];
    *failure = 0;
    if (pipe2(channel, O_CLOEXEC) < 0)
        return -1;
    const pid_t pid = fork();
    if (pid == 0) {
        close(channel[0]);
        become(program, in, out, err, channel[1]);
    }
    close(channel[1]);
    if (pid > 0)
        while (read(channel[0], failure, sizeof *failure) < 0 && errno == EINTR) {
        }
    close(channel[0]);
    return pid;
}

static int input_file(const struct box *box, const struct box_field *text) {
    if (text->size == 0)
        return fcntl(box->null_fd, F_DUPFD_CLOEXEC, 3);
    const int fd = memfd_create("box-stdin", MFD_CLOEXEC);
    if (fd >= 0 && (lk_write_all(fd, text->text, text->size) < 0 || lseek(fd, 0, SEEK_SET) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Reads what is there; false once the pipe has ended or the bound is reached. */
static bool drain(struct output *output, size_t limit, bool *truncated) {
    if (output->fd < 0)
        return false;
    if (output->size == limit) {
        *truncated = true;
        return false;
    }
    const ssize_t got = read(output->fd, output->data + output->size, limit - output->size);
    if (got <= 0)
        return got < 0 && (errno == EINTR || errno == EAGAIN);
    output->size += (size_t)got;
    return true;
}

struct outcome {
    int status;
    bool timed_out, truncated, hung_up;
};

/* Pumps output until the program and its pipes end, the time is up, or the bound is reached. */
static void follow(struct box *box, pid_t pid, struct output out[2], size_t limit,
                   uint64_t deadline_ns, struct outcome *outcome) {
    bool ended = false;
    while (!ended || out[0].fd >= 0 || out[1].fd >= 0) {
        const uint64_t now = lk_monotonic_ns();
        if (now >= deadline_ns) {
            outcome->timed_out = !ended;
            break;
        }
        struct pollfd polled[] = {
            {out[0].fd, POLLIN, 0},
            {out[1].fd, POLLIN, 0},
            {box->signal_fd, POLLIN, 0},
            {box->channel, POLLRDHUP, 0},
        };
        const int wait_ms = (int)((deadline_ns - now) / 1000000) + 1;
        if (poll(polled, 4, wait_ms) < 0 && errno != EINTR)
            break;
        if (polled[3].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
            outcome->hung_up = true;
            break;
        }
        for (size_t i = 0; i < 2; i++)
            if (polled[i].revents != 0 && !drain(&out[i], limit, &outcome->truncated)) {
                close(out[i].fd);
                out[i].fd = -1;
            }
        if (outcome->truncated)
            break;
        char scrap[4096];
        (void)!read(box->signal_fd, scrap, sizeof scrap);
        int status;
        for (pid_t gone; (gone = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (gone != pid) {
                record_exit(box, gone, status);
                continue;
            }
            ended = true;
            outcome->status = status;
            /* What it left in the background may hold the pipes for ever. */
            const uint64_t grace = lk_monotonic_ns() + GRACE_MS * 1000000ULL;
            if (grace < deadline_ns)
                deadline_ns = grace;
        }
    }
    if (!ended) {
        (void)kill(-pid, SIGKILL);
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, &outcome->status, 0) < 0 && errno == EINTR) {
        }
    }
}

static void put_status(struct box_reply *reply, int status) {
    box_put_number(reply, "exit_code",
                   WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    box_put_number(reply, "signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* run: timeout in ms, bound in bytes, stdin, argc, argv..., environment... */
void box_op_run(struct box *box, const struct box_request *request, struct box_reply *reply) {
    struct program program = {0};
    if (request->count < 5 || take_program(request, 3, &program) < 0) {
        reply->error = EINVAL;
        return;
    }
    const uint64_t timeout_ms = (uint64_t)box_number(request, 0, 10000);
    size_t limit = (size_t)box_number(request, 1, 1 << 16);
    if (limit > BOX_OUTPUT_MAX)
        limit = BOX_OUTPUT_MAX;
    LK_FD in = input_file(box, &request->field[3]);
    int first[2] = {-1, -1}, second[2] = {-1, -1};
    struct output out[2] = {{.fd = -1}, {.fd = -1}};
    struct box_step *step =
        box_begin(reply, "run a program", "fork+execve", "%s", program.argv[0]);
    pid_t pid = -1;
    int failure = 0;
    out[0].data = malloc(limit + 1);
    out[1].data = malloc(limit + 1);
    if (in >= 0 && out[0].data != NULL && out[1].data != NULL && pipe2(first, O_CLOEXEC) == 0 &&
        pipe2(second, O_CLOEXEC) == 0)
        pid = start(&program, in, first[1], second[1], &failure);
    const int reason = failure != 0 ? failure : errno;
    if (first[1] >= 0)
        close(first[1]);
    if (second[1] >= 0)
        close(second[1]);
    out[0].fd = first[0];
    out[1].fd = second[0];
    errno = reason;
    (void)box_end(reply, step, pid < 0 || failure != 0 ? -1 : 0);
    if (pid > 0) {
        struct outcome outcome = {0};
        const uint64_t deadline = lk_monotonic_ns() + timeout_ms * 1000000ULL;
        follow(box, pid, out, limit, deadline, &outcome);
        step->end_ns = lk_monotonic_ns();
        put_status(reply, outcome.status);
        box_put_number(reply, "timed_out", outcome.timed_out);
        box_put_number(reply, "truncated", outcome.truncated);
        box_put_number(reply, "inner_pid", pid);
        box_put(reply, "stdout", out[0].data, out[0].size);
        box_put(reply, "stderr", out[1].data, out[1].size);
    }
    for (size_t i = 0; i < 2; i++) {
        if (out[i].fd >= 0)
            close(out[i].fd);
        free(out[i].data);
    }
    free(program.argv);
}

/* spawn: argc, argv..., environment... */
void box_op_spawn(struct box *box, const struct box_request *request, struct box_reply *reply) {
    struct program program = {0};
    if (take_program(request, 0, &program) < 0) {
        reply->error = EINVAL;
        return;
    }
    size_t place = 0;
    while (place < box->children && box->child[place].running)
        place++;
    struct box_step *step =
        box_begin(reply, "start a program", "fork+execve", "%s", program.argv[0]);
    if (place == BOX_CHILDREN_MAX) {
        errno = EAGAIN;
        (void)box_end(reply, step, -1);
        free(program.argv);
        return;
    }
    int failure = 0;
    const pid_t pid = start(&program, box->null_fd, box->null_fd, box->null_fd, &failure);
    if (failure != 0) {
        (void)waitpid(pid, NULL, 0);
        errno = failure;
    }
    (void)box_end(reply, step, pid < 0 || failure != 0 ? -1 : 0);
    if (pid > 0 && failure == 0) {
        box->child[place] = (struct box_child){.pid = pid, .running = true};
        if (place == box->children)
            box->children++;
        box_put_number(reply, "inner_pid", pid);
    }
    free(program.argv);
}

/* kill: pid as the box sees it, signal */
void box_op_kill(struct box *box, const struct box_request *request, struct box_reply *reply) {
    const pid_t pid = (pid_t)box_number(request, 0, 0);
    const int number = (int)box_number(request, 1, SIGTERM);
    bool ours = false;
    for (size_t i = 0; i < box->children; i++)
        ours = ours || (box->child[i].pid == pid && box->child[i].running);
    struct box_step *step = box_begin(reply, "send a signal", "kill", "%d, %d", pid, number);
    if (!ours)
        errno = ESRCH;
    (void)box_end(reply, step, ours ? kill(pid, number) : -1);
}

/* children: what `spawn` started, as text lines `pid running|exited status` */
void box_op_children(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)request;
    box_reap(box);
    char text[BOX_CHILDREN_MAX * 48] = "";
    size_t at = 0;
    for (size_t i = 0; i < box->children; i++) {
        const struct box_child *child = &box->child[i];
        const int status = WIFSIGNALED(child->status) ? 128 + WTERMSIG(child->status)
                                                      : WEXITSTATUS(child->status);
        at += (size_t)snprintf(text + at, sizeof text - at, "%d %s %d\n", child->pid,
                               child->running ? "running" : "exited", status);
    }
    box_put_text(reply, "children", text);
}
