#include "launch.h"

#include "foreign.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int setns(int fd, int kind); /* <sched.h> and <linux/sched.h> do not mix */

static int join_host(const struct lk_spec *spec, struct lk_timeline *timeline,
                     struct lk_error *error) {
    const struct {
        int fd, kind;
        const char *name;
    } joins[] = {{spec->basics.host_net, CLONE_NEWNET, "net"}, {spec->basics.host_mnt, CLONE_NEWNS, "mnt"}};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        if (joins[i].fd < 0)
            continue;
        struct lk_step *step = lk_begin(timeline, LK_BY_SHIM, "enter the lab host", "setns()",
                                        "%s namespace of the anchor", joins[i].name);
        if (lk_end(step, setns(joins[i].fd, joins[i].kind) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "enter the lab host", "%s namespace", joins[i].name);
    }
    return 0;
}

struct pipes {
    int input[2], output[2], errors[2], sync[2];
};

/* What a detached process is given takes the pipes' place. */
static int take_stdio(const struct lk_detached *given, struct pipes *pipes, struct lk_error *error) {
    const struct {
        int fd, *end;
    } stdio[] = {{given->input, &pipes->input[0]}, {given->output, &pipes->output[1]},
                 {given->errors, &pipes->errors[1]}};
    for (size_t i = 0; i < sizeof stdio / sizeof stdio[0]; i++)
        if (stdio[i].fd >= 0 && (*stdio[i].end = fcntl(stdio[i].fd, F_DUPFD_CLOEXEC, 3)) < 0)
            return lk_fail(error, "make pipes", "descriptor %d", stdio[i].fd);
    return 0;
}

static int make_pipes(const struct lk_spec *spec, struct pipes *pipes, struct lk_error *error) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pipes->sync) < 0)
        return lk_fail(error, "make pipes", "sync");
    if (spec->basics.flags & LK_TTY)
        return 0;
    if (spec->is_detached)
        return take_stdio(&spec->detached, pipes, error);
    if (((spec->basics.flags & LK_OPEN_STDIN) && pipe2(pipes->input, O_CLOEXEC) < 0) ||
        pipe2(pipes->output, O_CLOEXEC) < 0 || pipe2(pipes->errors, O_CLOEXEC) < 0)
        return lk_fail(error, "make pipes", "stdio");
    /* Room for a writer to go on while the log is written; taken only when it is used. */
    (void)fcntl(pipes->output[0], F_SETPIPE_SZ, 256 * 1024);
    return 0;
}

static void close_pair(int pair[2]) {
    lk_close_fd(&pair[0]);
    lk_close_fd(&pair[1]);
}

/* Those namespaces of the target that differ from ours: re-entering one's own user namespace is
 * refused, and the rest would be for nothing. */
static int foreign_namespaces(int target_pid) {
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID},
                 {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS}, {"net", CLONE_NEWNET},
                 {"cgroup", CLONE_NEWCGROUP}};
    int flags = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char path[64];
        struct stat theirs, ours;
        (void)snprintf(path, sizeof path, "/proc/%d/ns/%s", target_pid, kinds[i].name);
        if (stat(path, &theirs) < 0)
            return -errno;
        (void)snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
        if (stat(path, &ours) < 0)
            return -errno;
        if (theirs.st_ino != ours.st_ino)
            flags |= kinds[i].kind;
    }
    return flags;
}

/* A group other than our own is out of bounds once we look from inside the container's cgroup
 * namespace (nsdelegate, cgroups(7)), so that one is entered by the child, who is in its group. */
static void enter_cgroup_namespace(const struct lk_child *child) {
    struct lk_error error = {0};
    struct lk_step *step = lk_begin(child->timeline, LK_BY_CHILD, "enter the container",
                                    "setns(pidfd)", "its cgroup namespace, from inside the group");
    if (lk_end(step, setns(child->spec->basics.target_pidfd, CLONE_NEWCGROUP) < 0 ? -errno : 0) < 0) {
        (void)lk_fail(&error, "enter the container", "cgroup namespace");
        child->shared->error = error;
        _exit(125);
    }
}

/*
 * Entering a PID namespace moves one's children, not oneself. Stage one enters and clones the real
 * child as its own sibling (CLONE_PARENT), so that the shim is the parent who reaps it.
 */
static _Noreturn void stage_one(const struct lk_child *child, struct clone_args *arguments,
                                int target_kinds) {
    const struct lk_spec *spec = child->spec;
    struct lk_error error = {0};
    int status = 0;
    const int at_once = target_kinds & ~CLONE_NEWCGROUP;
    if (at_once != 0) {
        struct lk_step *step = lk_begin(child->timeline, LK_BY_SHIM, "enter the container",
                                        "setns(pidfd)", "the namespaces of process %d at once",
                                        spec->basics.target_pid);
        status = setns(spec->basics.target_pidfd, at_once) < 0 ? -errno : 0;
        if (lk_end(step, status) < 0)
            (void)lk_fail_with(&error, -status, "enter the container", "process %d",
                               spec->basics.target_pid);
    }
    for (size_t i = 0; i < spec->join_count && status == 0; i++)
        if (spec->joins[i].kind == CLONE_NEWPID && setns(spec->joins[i].fd, CLONE_NEWPID) < 0)
            status = lk_fail(&error, "join namespace", "pid");
    if (status == 0) {
        arguments->flags |= CLONE_PARENT;
        arguments->exit_signal = 0;
        const long pid = lk_clone3(arguments);
        if (pid == 0) {
            if (target_kinds & CLONE_NEWCGROUP)
                enter_cgroup_namespace(child);
            lk_child_main(child);
        }
        if (pid < 0)
            (void)lk_fail(&error, "create the process", "clone3");
        child->shared->child_pid = (int32_t)pid;
    }
    if (error.number != 0)
        child->shared->error = error;
    _exit(0);
}

static bool needs_stage_one(const struct lk_spec *spec) {
    for (size_t i = 0; i < spec->join_count; i++)
        if (spec->joins[i].kind == CLONE_NEWPID)
            return true;
    return spec->basics.flags & LK_EXEC;
}

static long clone_through_stage_one(const struct lk_child *child, struct clone_args *arguments,
                                    struct lk_error *error) {
    int kinds = 0;
    if (child->spec->basics.flags & LK_EXEC) {
        kinds = foreign_namespaces(child->spec->basics.target_pid);
        /* The numbers were read by pid; they count only if that pid still is the process meant. */
        if (kinds < 0 || syscall(SYS_pidfd_send_signal, child->spec->basics.target_pidfd, 0, NULL, 0) < 0)
            return lk_fail_with(error, ESRCH, "enter the container", "it is not running");
    }
    const pid_t stage = fork();
    if (stage == 0)
        stage_one(child, arguments, kinds);
    if (stage < 0)
        return lk_fail(error, "create the process", "fork");
    while (waitpid(stage, NULL, 0) < 0 && errno == EINTR) {
    }
    /* The child may have failed already, or not have been made at all. */
    if (child->shared->child_pid > 0)
        return child->shared->child_pid;
    if (child->shared->error.number != 0) {
        *error = child->shared->error;
        return -error->number;
    }
    return lk_fail_with(error, ECHILD, "create the process", "stage one died");
}

static int write_map(int pid, const char *file, const char *map, struct lk_error *error) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    LK_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    int status = fd < 0 ? -errno : lk_write_all(fd, map, strlen(map));
    return status < 0 ? lk_fail_with(error, -status, "map user ids", "%s", path) : 0;
}

static int map_users(const struct lk_spec *spec, struct lk_timeline *timeline, int pid, int sync,
                     struct lk_error *error) {
    if (!(spec->basics.clone_flags & CLONE_NEWUSER))
        return 0;
    struct lk_step *step = lk_begin(timeline, LK_BY_SHIM, "map user ids",
                                    "write(\"/proc/PID/uid_map\")", "%s", spec->uid_map);
    int status = write_map(pid, "gid_map", spec->gid_map, error);
    /* An ordinary user may map a group only where groups can no longer be dropped. */
    if (status == -EPERM && write_map(pid, "setgroups", "deny", error) == 0) {
        *error = (struct lk_error){0};
        status = write_map(pid, "gid_map", spec->gid_map, error);
    }
    if (status == 0)
        status = write_map(pid, "uid_map", spec->uid_map, error);
    if (status == 0 && lk_send_fd(sync, (char[]){LK_SYNC_MAPPED}, 1, -1, 0) < 0)
        status = lk_fail(error, "map user ids", "tell the child");
    return lk_end(step, status);
}

static void describe_kinds(uint64_t flags, char *text, size_t size) {
    static const struct {
        uint64_t kind;
        const char *name;
    } kinds[] = {{CLONE_NEWUSER, "user"}, {CLONE_NEWNS, "mnt"}, {CLONE_NEWPID, "pid"},
                 {CLONE_NEWIPC, "ipc"},   {CLONE_NEWUTS, "uts"}, {CLONE_NEWNET, "net"}};
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (flags & kinds[i].kind && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "", kinds[i].name);
}

/* In the order in which the child takes them: its ids, then its groups. */
static int serve_child(const struct lk_spec *spec, struct lk_timeline *timeline,
                       const struct lk_ground *ground, struct lk_group_handles *groups, char *warnings,
                       const struct lk_launched *launched, int sync, bool late, struct lk_error *error) {
    int status = map_users(spec, timeline, launched->pid, sync, error);
    if (status == 0 && late)
        status = lk_groups_make(spec, ground, timeline, groups, warnings, LK_WARNINGS, error);
    if (status == 0 && groups->task_count > 0 &&
        lk_send_fds(sync, (char[]){LK_SYNC_GROUPS}, 1, groups->tasks, groups->task_count, 0) < 0)
        status = lk_fail(error, "join cgroups", "tell the child");
    return status;
}

static int start(const struct lk_spec *spec, struct lk_timeline *timeline, const struct lk_ground *ground,
                 char *warnings, struct pipes *pipes, struct lk_group_handles *groups,
                 struct lk_launched *launched, struct lk_error *error) {
    const bool own_users = spec->basics.clone_flags & CLONE_NEWUSER;
    struct lk_child child = {
        .spec = spec, .timeline = timeline, .shared = launched->shared, .sync = pipes->sync[1],
        .shim_sync = pipes->sync[0],
        .input = pipes->input[0], .output = pipes->output[1], .errors = pipes->errors[1],
        .program = ground->program, .network = -1};
    struct clone_args arguments = {
        .flags = spec->basics.clone_flags & ~(uint64_t)CLONE_NEWCGROUP, .exit_signal = SIGCHLD};
    /* A namespace made ahead belongs to our user namespace, which must be the container's too. */
    if (arguments.flags & CLONE_NEWNET && ground->spare_network >= 0 && !own_users) {
        arguments.flags &= ~(uint64_t)CLONE_NEWNET;
        child.network = ground->spare_network;
    }
    /* On v2 the child is born in its group, on v1 it joins when the shim has made it. */
    const bool unified = spec->group_folder_count > 0 && spec->group_folders[0].flags & LK_GROUP_UNIFIED;
    int status = 0;
    if (unified && (status = lk_groups_make(spec, ground, timeline, groups, warnings, LK_WARNINGS, error)) < 0)
        return status;
    const int directory = groups->directory >= 0 ? groups->directory : spec->basics.cgroup_fd;
    if (directory >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)directory;
    }
    /* The map files of a process that cannot be dumped belong to the machine's root. */
    if (own_users)
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    char kinds[64];
    describe_kinds(arguments.flags, kinds, sizeof kinds);
    struct lk_step *step = lk_begin(timeline, LK_BY_SHIM, "create namespaces", "clone3()",
                                    "%s", kinds[0] ? kinds : "none of its own");
    long pid;
    if (needs_stage_one(spec)) {
        pid = clone_through_stage_one(&child, &arguments, error);
    } else {
        pid = lk_clone3(&arguments);
        if (pid == 0)
            lk_child_main(&child);
        if (pid < 0)
            pid = lk_fail(error, "create namespaces", "%s", kinds);
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (lk_end(step, pid < 0 ? (int)pid : 0) < 0)
        return (int)pid;
    launched->pid = (int)pid;
    launched->pidfd = lk_pidfd_open(launched->pid);
    if (launched->pidfd < 0)
        return lk_fail(error, "watch the process", "pidfd_open");
    return serve_child(spec, timeline, ground, groups, warnings, launched, pipes->sync[0], !unified, error);
}

int lk_launch(const struct lk_spec *spec, struct lk_timeline *timeline, const struct lk_ground *ground,
              char warnings[LK_WARNINGS], struct lk_launched *launched, struct lk_error *error) {
    struct pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    struct lk_group_handles groups = {.directory = -1};
    *launched = (struct lk_launched){-1, -1, -1, -1, -1, -1, NULL};
    launched->shared = mmap(NULL, sizeof *launched->shared, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (launched->shared == MAP_FAILED)
        return lk_fail(error, "make pipes", "shared page");
    int status = make_pipes(spec, &pipes, error);
    if (status == 0)
        status = join_host(spec, timeline, error);
    if (status == 0 && spec->foreign_make.first != NULL) {
        const struct lk_foreign_stdio stdio = {pipes.input[0], pipes.output[1], pipes.errors[1], pipes.sync[1]};
        status = lk_start_foreign(spec, timeline, &stdio, launched, error);
    } else if (status == 0) {
        status = start(spec, timeline, ground, warnings, &pipes, &groups, launched, error);
    }
    lk_groups_close(&groups);
    if (status == 0) {
        launched->sync = lk_take_fd(&pipes.sync[0]);
        launched->input = lk_take_fd(&pipes.input[1]);
        launched->output = lk_take_fd(&pipes.output[0]);
        launched->errors = lk_take_fd(&pipes.errors[0]);
    }
    close_pair(pipes.sync);
    close_pair(pipes.input);
    close_pair(pipes.output);
    close_pair(pipes.errors);
    return status;
}
