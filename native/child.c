#include "child.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "devices.h"
#include "groups.h"
#include "identity.h"
#include "network.h"
#include "path.h"
#include "rootfs.h"

static bool has(const struct lk_spec *spec, uint32_t flag) {
    return (spec->basics.flags & flag) != 0;
}
static bool makes(const struct lk_spec *spec, uint64_t kind) {
    return (spec->basics.clone_flags & kind) != 0;
}

/* Waits for one byte from the shim; its death ends us too. */
static void await(const struct lk_child *child, char expected) {
    char byte = 0;
    ssize_t count;
    do {
        count = recv(child->sync, &byte, 1, 0);
    } while (count < 0 && errno == EINTR);
    if (count != 1 || byte != expected)
        _exit(125);
}

static int join_cgroups(const struct lk_child *child, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    int received[LK_GROUP_FOLDERS_MAX];
    const int *tasks = spec->cgroups;
    size_t count = spec->cgroup_count;
    if (spec->group_folder_count > 0 && !(spec->group_folders[0].flags & LK_GROUP_UNIFIED)) {
        char byte = 0;
        if (lk_receive_fds(child->sync, &byte, 1, received, LK_GROUP_FOLDERS_MAX, &count, 0) != 1 ||
            byte != LK_SYNC_GROUPS)
            _exit(125);
        tasks = received;
    }
    if (count == 0)
        return 0;
    /* A single thread that moves itself by "0" does not wait for an RCU grace period; a parent
     * that writes our pid into cgroup.procs would, for every one of the hierarchies. */
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "join cgroups",
                                    "write(\"tasks\", \"0\")", "%zu hierarchies", count);
    for (size_t i = 0; i < count; i++) {
        if (write(tasks[i], "0", 1) != 1)
            return lk_end(step, lk_fail(error, "join cgroups", "hierarchy %zu", i));
        (void)close(tasks[i]);
    }
    return lk_end(step, 0);
}

static const char *kind_name(uint32_t kind) {
    switch (kind) {
    case CLONE_NEWNET: return "net";
    case CLONE_NEWIPC: return "ipc";
    case CLONE_NEWUTS: return "uts";
    case CLONE_NEWPID: return "pid";
    case CLONE_NEWUSER: return "user";
    case CLONE_NEWCGROUP: return "cgroup";
    default: return "mnt";
    }
}

static int join_namespaces(const struct lk_child *child, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    for (size_t i = 0; i < spec->join_count; i++) {
        const struct lk_join *join = &spec->joins[i];
        if (join->kind == CLONE_NEWPID)
            continue; /* joined before we were cloned: it takes effect for children only */
        struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "join namespace", "setns()",
                                        "%s", kind_name(join->kind));
        if (lk_end(step, setns(join->fd, (int)join->kind) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "join namespace", "%s", kind_name(join->kind));
    }
    return 0;
}

/* Into the groups, and into a view of them that begins there. */
static int enter_groups(const struct lk_child *child, struct lk_error *error) {
    const int status = join_cgroups(child, error);
    if (status < 0 || !makes(child->spec, CLONE_NEWCGROUP))
        return status;
    /* Only now: a cgroup namespace takes the group one is in as its root. */
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "create cgroup namespace",
                                    "unshare(CLONE_NEWCGROUP)", "its root is this container's group");
    if (lk_end(step, unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0) < 0)
        return lk_fail(error, "create cgroup namespace", "unshare");
    return 0;
}

static int enter_network(const struct lk_child *child, struct lk_error *error) {
    if (child->network >= 0) {
        struct lk_step *step =
            lk_begin(child->timeline, LK_BY_CHILD, "enter a network namespace", "setns(CLONE_NEWNET)",
                     "a new one, made before it was asked for; its loopback is up");
        if (lk_end(step, setns(child->network, CLONE_NEWNET) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "enter a network namespace", "setns");
        return 0;
    }
    if (!makes(child->spec, CLONE_NEWNET))
        return 0;
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "bring up loopback",
                                    "ioctl(SIOCSIFFLAGS)", "lo, 127.0.0.1");
    return lk_end(step, lk_raise_loopback(error));
}

static int name_machine(const struct lk_child *child, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    if (!makes(spec, CLONE_NEWUTS) || (spec->hostname[0] == 0 && spec->domainname[0] == 0))
        return 0;
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "set host name", "sethostname()",
                                    "%s", spec->hostname);
    int status = 0;
    if (spec->hostname[0] && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        status = lk_fail(error, "set host name", "%s", spec->hostname);
    else if (spec->domainname[0] && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        status = lk_fail(error, "set host name", "%s", spec->domainname);
    return lk_end(step, status);
}

static int set_sysctl(int root, const struct lk_pair *sysctl, struct lk_error *error) {
    char path[PATH_MAX];
    if (strstr(sysctl->first, "..") != NULL ||
        snprintf(path, sizeof path, "/proc/sys/%s", sysctl->first) >= (int)sizeof path)
        return lk_fail_with(error, EINVAL, "set kernel parameter", "%.128s", sysctl->first);
    LK_FD fd = lk_openat2(root, path, O_WRONLY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return lk_fail(error, "set kernel parameter", "%s", sysctl->first);
    if (!lk_is_on(fd, PROC_SUPER_MAGIC))
        return lk_fail_with(error, EXDEV, "set kernel parameter", "/proc is not procfs");
    const int status = lk_write_all(fd, sysctl->second, strlen(sysctl->second));
    if (status < 0)
        return lk_fail_with(error, -status, "set kernel parameter", "%s=%s", sysctl->first,
                            sysctl->second);
    return 0;
}

static int set_sysctls(const struct lk_child *child, int root, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    for (size_t i = 0; i < spec->sysctl_count; i++) {
        struct lk_step *step =
            lk_begin(child->timeline, LK_BY_CHILD, "set kernel parameter", "write(\"/proc/sys/…\")",
                     "%s=%s", spec->sysctls[i].first, spec->sysctls[i].second);
        const int status = set_sysctl(root, &spec->sysctls[i], error);
        if (lk_end(step, status) < 0)
            return status;
    }
    return 0;
}

/* Everything that needs the old root. Leaves the terminal, if any, in *tty. */
static int build_root(const struct lk_child *child, struct lk_tty *tty, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    int status = lk_detach_propagation(spec, child->timeline, error);
    if (status < 0)
        return status;
    (void)umask(0); /* modes below are meant as written */
    LK_FD root = lk_mount_root(spec, child->timeline, error);
    if (root < 0)
        return root;
    /* The groups are being made meanwhile; they are needed where the first of them is mounted. */
    size_t before = 0;
    while (before < spec->mount_count && spec->mounts[before].kind != LK_MOUNT_CGROUP1 &&
           spec->mounts[before].kind != LK_MOUNT_CGROUP2)
        before++;
    if ((status = lk_make_mounts(spec, root, 0, before, child->timeline, error)) < 0 ||
        (status = enter_groups(child, error)) < 0 ||
        (status = lk_make_mounts(spec, root, before, spec->mount_count, child->timeline, error)) < 0 ||
        (status = lk_make_devices(spec, root, child->timeline, error)) < 0)
        return status;
    if (has(spec, LK_TTY) &&
        (status = lk_open_tty(spec, root, true, tty, child->timeline, error)) < 0)
        return status;
    if (has(spec, LK_STOP_BUILT)) {
        if (lk_send_fd(child->sync, (char[]){LK_SYNC_BUILT}, 1, -1, MSG_NOSIGNAL) < 0)
            return lk_fail(error, "wait for hooks", "shim");
        await(child, LK_SYNC_PROCEED);
    }
    /* A working folder that the image lacks is made, as for `docker run -w /new`. */
    LK_FD cwd = lk_open_target(root, spec->cwd, LK_WANT_DIR, true, error);
    if (cwd < 0)
        return cwd;
    if ((status = set_sysctls(child, root, error)) < 0 ||
        (status = lk_close_paths(spec, root, child->timeline, error)) < 0)
        return status;
    return lk_enter_root(root, child->timeline, error);
}

static int set_oom_score(const struct lk_child *child, struct lk_error *error) {
    if (!has(child->spec, LK_HAS_OOM))
        return 0;
    char text[16];
    const int size = snprintf(text, sizeof text, "%d", child->spec->basics.oom_score_adj);
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "set OOM score",
                                    "write(\"/proc/self/oom_score_adj\")", "%s", text);
    LK_FD fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    int status = fd < 0 ? -errno : lk_write_all(fd, text, (size_t)size);
    if (status == -EACCES || status == -EPERM) {
        /* Lowering it needs CAP_SYS_RESOURCE. */
        const size_t used = strlen(child->shared->warnings);
        (void)snprintf(child->shared->warnings + used, LK_WARNINGS - used,
                       "%soom-score-adj %s is not allowed here", used ? "\n" : "", text);
        status = 0;
    }
    if (lk_end(step, status) < 0)
        return lk_fail_with(error, -status, "set OOM score", "%s", text);
    return 0;
}

/* So that keys of the daemon's session cannot be read inside (keyrings(7)). */
static int new_keyring(struct lk_error *error) {
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return lk_fail(error, "create session keyring", "keyctl");
    return 0;
}

static int adopt_descriptor(int from, int to, const struct lk_spec *spec) {
    struct stat found;
    if (dup2(from, to) < 0)
        return -1;
    /* Pipes of our making, and what was handed to us; but never a device node of the machine. */
    if (spec->is_detached && (fstat(to, &found) < 0 || !(S_ISFIFO(found.st_mode) || S_ISSOCK(found.st_mode))))
        return 0;
    /* The user inside may open /dev/stdout again, so it must belong to that user. */
    if (fchown(to, spec->basics.uid, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
        return -1;
    return 0;
}

static int connect_stdio(const struct lk_child *child, struct lk_tty *tty, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    if (setsid() < 0 && errno != EPERM)
        return lk_fail(error, "connect stdio", "new session");
    if (tty->slave >= 0) {
        if (lk_send_fd(child->sync, (char[]){LK_SYNC_TTY}, 1, tty->master, 0) < 0)
            return lk_fail(error, "connect stdio", "hand over the terminal");
        for (int fd = 0; fd < 3; fd++)
            if (adopt_descriptor(tty->slave, fd, spec) < 0)
                return lk_fail(error, "connect stdio", "descriptor %d", fd);
        if (ioctl(0, TIOCSCTTY, 0) < 0)
            return lk_fail(error, "connect stdio", "controlling terminal");
        return 0;
    }
    if (child->input >= 0) {
        if (adopt_descriptor(child->input, 0, spec) < 0)
            return lk_fail(error, "connect stdio", "descriptor 0");
    } else {
        /* The container's own null device; the shim's stays at 0 where an image has none. */
        LK_FD null = open("/dev/null", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct stat found;
        if (null >= 0 && fstat(null, &found) == 0 && S_ISCHR(found.st_mode) && dup2(null, 0) < 0)
            return lk_fail(error, "connect stdio", "descriptor 0");
    }
    if ((child->output >= 0 && adopt_descriptor(child->output, 1, spec) < 0) ||
        (child->errors >= 0 && adopt_descriptor(child->errors, 2, spec) < 0))
        return lk_fail(error, "connect stdio", "descriptors 1 and 2");
    return 0;
}

/* chdir, then proof that we are somewhere below "/": a leaked descriptor of the lab host must not
 * become a working folder (CVE-2024-21626). */
static int enter_cwd(const struct lk_spec *spec, struct lk_error *error) {
    char where[PATH_MAX];
    if (chdir(spec->cwd) < 0)
        return lk_fail(error, "change directory", "%s", spec->cwd);
    /* The raw call marks a folder outside the root; glibc would hide that behind a search. */
    const long size = syscall(SYS_getcwd, where, sizeof where);
    if (size < 2 && errno == ERANGE)
        return 0;
    if (size < 2 || where[0] != '/')
        return lk_fail_with(error, EXDEV, "change directory",
                            "%s: current working directory is outside of container mount namespace root",
                            spec->cwd);
    return 0;
}

static const char *environment(const struct lk_spec *spec, const char *name) {
    const size_t length = strlen(name);
    for (size_t i = spec->env_count; i-- > 0;)
        if (strncmp(spec->env[i], name, length) == 0 && spec->env[i][length] == '=')
            return spec->env[i] + length + 1;
    return NULL;
}

/* Zero, or the errno that says why this file cannot be executed. */
static int executable(const char *path) {
    struct stat found;
    if (stat(path, &found) < 0)
        return errno;
    if (S_ISDIR(found.st_mode))
        return EISDIR;
    if (!S_ISREG(found.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        return EACCES;
    return 0;
}

/* Looks args[0] up in the container's PATH, as the user it is going to run as. */
static int find_program(const struct lk_spec *spec, char found[PATH_MAX], struct lk_error *error) {
    const char *name = spec->args[0];
    if (strchr(name, '/') != NULL) {
        const int number = executable(name);
        if (number == EACCES || number == EISDIR)
            return lk_fail_with(error, number, "exec", "%s", name);
        if (number != 0)
            return lk_fail_with(error, number, "stat program", "%s", name);
        if (snprintf(found, PATH_MAX, "%s", name) >= PATH_MAX)
            return lk_fail_with(error, ENAMETOOLONG, "exec", "%.128s…", name);
        return 0;
    }
    const char *path = environment(spec, "PATH");
    while (name[0] != 0 && path != NULL && path[0] != 0) {
        const size_t length = strcspn(path, ":");
        /* Relative entries are skipped: what they mean depends on who asks. */
        if (length > 0 && path[0] == '/' &&
            snprintf(found, PATH_MAX, "%.*s/%s", (int)length, path, name) < PATH_MAX &&
            executable(found) == 0)
            return 0;
        path += length + (path[length] == ':');
    }
    return lk_fail_with(error, ENOENT, "find program", "%s", name);
}

/* A file that is there and may be executed, but is no program (or its interpreter is missing, or
 * there are too many arguments): as with runc the container has started by now, so it is the
 * container that says so and ends with 255, the status of runc's init since 1.2, Docker 28's. (It
 * was 1 in the days of Docker 20.10.) */
static _Noreturn void end_as_no_program(const char *program, int number) {
    char text[PATH_MAX + 64];
    const char *reason = strerror(number);
    const int size = snprintf(text, sizeof text, "exec %s: %c%s\n", program,
                              tolower((unsigned char)reason[0]), reason + 1);
    (void)lk_write_all(STDERR_FILENO, text, (size_t)size);
    _exit(255);
}

static int execute(const struct lk_child *child, const char *program, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    if (!has(spec, LK_INIT)) {
        struct lk_step *step =
            lk_begin(child->timeline, LK_BY_CHILD, "exec", "execve()", "%s", program);
        (void)execve(program, spec->args, spec->env);
        const int number = errno;
        (void)lk_end(step, -number);
        end_as_no_program(program, number);
    }
    /* The init is this very program, executed from its sealed copy: PID 1 gets a memory of its own
     * with nothing of ours in it, and nobody can write to the file behind /proc/1/exe. */
    const char **args = calloc(spec->arg_count + 3, sizeof *args);
    if (args == NULL)
        return lk_fail(error, "exec", "arguments of init");
    args[0] = "/sbin/docker-init";
    args[1] = "--";
    for (size_t i = 0; i < spec->arg_count; i++)
        args[i + 2] = spec->args[i];
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "exec", "execveat()",
                                    "init, which starts %s", spec->args[0]);
    (void)syscall(SYS_execveat, child->program, "", args, spec->env, AT_EMPTY_PATH);
    return lk_end(step, lk_fail(error, "exec", "init"));
}

static void reset_signals(void) {
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &fallback, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The container dies with its shim. Credentials have changed for the last time that clears this. */
static int follow_parent(const struct lk_child *child, struct lk_error *error) {
    if (child->spec->is_detached)
        return 0;
    struct pollfd shim = {.fd = child->sync, .events = 0};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return lk_fail(error, "tie life to the shim", "PR_SET_PDEATHSIG");
    if (poll(&shim, 1, 0) < 0 || shim.revents & (POLLHUP | POLLERR))
        return lk_fail_with(error, EPIPE, "tie life to the shim", "it is gone");
    return 0;
}

/* Until somebody says go over a connection to our socket. The connection replaces the sync socket, so
 * that whoever said it learns of the exec, or of what stood in its way. */
static int await_start(const struct lk_child *child, struct lk_error *error) {
    for (;;) {
        LK_FD peer = accept4(child->spec->detached.start, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0 && errno != EINTR && errno != ECONNABORTED)
            return lk_fail(error, "wait for release", "accept");
        char byte = 0;
        if (peer < 0 || recv(peer, &byte, 1, 0) != 1 || byte != LK_SYNC_GO)
            continue;
        if (dup3(peer, child->sync, O_CLOEXEC) < 0)
            return lk_fail(error, "wait for release", "dup3");
        (void)close(child->spec->detached.start);
        return 0;
    }
}

static int hold(const struct lk_child *child, struct lk_error *error) {
    if (lk_send_fd(child->sync, (char[]){LK_SYNC_HELD}, 1, -1, MSG_NOSIGNAL) < 0)
        return lk_fail(error, "wait for release", "shim");
    if (child->spec->is_detached)
        return await_start(child, error);
    await(child, LK_SYNC_GO);
    return 0;
}

/* The descriptors that the program is to find at 3 and above. They were put out of the way of these
 * numbers by whoever sent the spec. */
static int keep_descriptors(const struct lk_spec *spec, struct lk_error *error) {
    for (size_t i = 0; i < spec->kept_count; i++)
        if (dup2(spec->kept[i], 3 + (int)i) < 0)
            return lk_fail(error, "keep descriptors", "descriptor %zu", 3 + i);
    return 0;
}

static int run(const struct lk_child *child, struct lk_error *error) {
    const struct lk_spec *spec = child->spec;
    struct lk_tty tty = {-1, -1};
    char program[PATH_MAX];
    int status;
    /* Whatever is open here, nothing of it survives exec; stdio is duplicated to 0, 1, 2 later. */
    if (lk_close_range_on_exec(3) < 0)
        return lk_fail(error, "close descriptors", "close_range");
    /* With its other end open here, we would not notice that the shim is gone. */
    (void)close(child->shim_sync);
    if (has(spec, LK_EXEC) && (status = join_cgroups(child, error)) < 0)
        return status;
    if (makes(spec, CLONE_NEWUSER)) {
        await(child, LK_SYNC_MAPPED);
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
            return lk_fail(error, "enter user namespace", "become its root");
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if ((status = join_namespaces(child, error)) < 0 ||
        (status = enter_network(child, error)) < 0 || (status = set_oom_score(child, error)) < 0 ||
        (status = name_machine(child, error)) < 0 || (status = new_keyring(error)) < 0)
        return status;
    if (has(spec, LK_EXEC)) {
        if (has(spec, LK_TTY)) {
            LK_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
            if ((status = lk_open_tty(spec, root, false, &tty, child->timeline, error)) < 0)
                return status;
        }
    } else if ((status = build_root(child, &tty, error)) < 0) {
        return status;
    }
    if ((status = connect_stdio(child, &tty, error)) < 0 ||
        (status = lk_set_limits(spec, child->shared->warnings, LK_WARNINGS, child->timeline,
                                error)) < 0)
        return status;
    (void)umask(spec->basics.umask);
    if (has(spec, LK_HOLD) && !spec->is_detached && (status = hold(child, error)) < 0)
        return status;
    /* As root where that works, else once more as the user: either may be the one who can enter. */
    const bool inside = enter_cwd(spec, error) == 0;
    if (!inside && error->number != EACCES)
        return -error->number;
    if ((status = lk_become_user(spec, child->shared->warnings, LK_WARNINGS, child->timeline,
                                 error)) < 0 ||
        (!inside && (status = enter_cwd(spec, error)) < 0) ||
        (!has(spec, LK_INIT) && (status = find_program(spec, program, error)) < 0) ||
        (status = follow_parent(child, error)) < 0)
        return status;
    /* An OCI runtime's `create` fails when there is no such program, its `start` no longer. */
    if (has(spec, LK_HOLD) && spec->is_detached && (status = hold(child, error)) < 0)
        return status;
    reset_signals();
    if ((status = keep_descriptors(spec, error)) < 0 ||
        (status = lk_drop_privileges(spec, child->timeline, error)) < 0)
        return status;
    return execute(child, program, error);
}

_Noreturn void lk_child_main(const struct lk_child *child) {
    struct lk_error error = {0};
    if (run(child, &error) < 0) {
        child->shared->error = error;
        if (child->spec->is_detached)
            (void)lk_send_fd(child->sync, &error, sizeof error, -1, MSG_NOSIGNAL);
    }
    _exit(125);
}
