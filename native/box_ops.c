/* The primitives of a box, one function and mostly one system call each. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "lk.h"

static const struct kind {
    const char *name;
    const char *flag;
    int value;
} KINDS[] = {
    {"mnt", "CLONE_NEWNS", CLONE_NEWNS},       {"uts", "CLONE_NEWUTS", CLONE_NEWUTS},
    {"ipc", "CLONE_NEWIPC", CLONE_NEWIPC},     {"net", "CLONE_NEWNET", CLONE_NEWNET},
    {"pid", "CLONE_NEWPID", CLONE_NEWPID},     {"user", "CLONE_NEWUSER", CLONE_NEWUSER},
    {"cgroup", "CLONE_NEWCGROUP", CLONE_NEWCGROUP},
};

static const struct kind *find_kind(const char *name) {
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strcmp(KINDS[i].name, name) == 0)
            return &KINDS[i];
    errno = EINVAL;
    return NULL;
}

/*
 * A new pid namespace holds the children made after unshare(2), never the caller: we fork, the
 * child (its pid 1) carries the box on, and this process only waits for it. If either dies, both do.
 */
static void continue_in_child(struct box *box, struct box_reply *reply) {
    struct box_step *step = box_begin(reply, "become pid 1", "fork", "the child carries the box on");
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid > 0) {
        close(box->channel);
        int status = 0;
        while (waitpid(pid, &status, 0) != pid && errno != ECHILD) {
        }
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* A parent outside the namespace shows as 0; one that died before the line above, as 1. */
        if (getppid() != 0 && getppid() != parent)
            _exit(1);
        box->children = 0; /* what the parent started stays its child */
    }
    (void)box_end(reply, step, pid);
}

static void put_state(struct box_reply *reply) {
    char text[256];
    box_put_number(reply, "inner_pid", getpid());
    box_put_text(reply, "hostname", gethostname(text, sizeof text) == 0 ? text : "");
    char cwd[1024];
    box_put_text(reply, "cwd", getcwd(cwd, sizeof cwd) != NULL ? cwd : "");
    box_put_number(reply, "uid", geteuid());
    box_put_number(reply, "gid", getegid());
    box_put_number(reply, "no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

/* unshare: kinds... */
void box_op_unshare(struct box *box, const struct box_request *request, struct box_reply *reply) {
    bool into_child = false;
    for (size_t i = 0; i + 1 < request->count; i++) {
        const struct kind *kind = find_kind(box_argument(request, i));
        struct box_step *step = box_begin(reply, "make a namespace", "unshare", "%s",
                                          kind != NULL ? kind->flag : box_argument(request, i));
        if (box_end(reply, step, kind == NULL ? -1 : unshare(kind->value)) < 0)
            return;
        if (kind->value == CLONE_NEWNS) {
            /* systemd shares / with every mount namespace: without this, ours would be seen. */
            step = box_begin(reply, "keep mounts to ourselves", "mount", "/ MS_REC|MS_PRIVATE");
            if (box_end(reply, step, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) < 0)
                return;
        }
        into_child = into_child || kind->value == CLONE_NEWPID;
    }
    if (into_child)
        continue_in_child(box, reply);
}

/* setns: kinds..., with a pidfd sent along */
static void op_setns(struct box *box, const struct box_request *request, struct box_reply *reply) {
    bool into_child = false;
    for (size_t i = 0; i + 1 < request->count; i++) {
        const struct kind *kind = find_kind(box_argument(request, i));
        struct box_step *step = box_begin(reply, "join a namespace", "setns", "%s",
                                          kind != NULL ? kind->flag : box_argument(request, i));
        if (box_end(reply, step,
                    kind == NULL ? -1 : setns(request->passed_fd, kind->value)) < 0)
            return;
        into_child = into_child || kind->value == CLONE_NEWPID;
    }
    if (into_child)
        continue_in_child(box, reply);
}

/* chroot: path, and `stay` to keep the working directory where it is */
static void op_chroot(struct box *box, const struct box_request *request,
                      struct box_reply *reply) {
    (void)box;
    const char *path = box_argument(request, 0);
    struct box_step *step = box_begin(reply, "change the root", "chroot", "%.150s", path);
    if (box_end(reply, step, chroot(path)) < 0)
        return;
    if (strcmp(box_argument(request, 1), "stay") == 0)
        return; /* the way out: a working directory that lies outside the root */
    step = box_begin(reply, "go to the new root", "chdir", "/");
    (void)box_end(reply, step, chdir("/"));
}

/* pivot_root: new root, and where below it to put the old one (empty: detach it at once) */
static void op_pivot_root(struct box *box, const struct box_request *request,
                          struct box_reply *reply) {
    (void)box;
    const char *fresh = box_argument(request, 0), *old = box_argument(request, 1);
    const bool detach = *old == '\0';
    struct box_step *step = box_begin(reply, "go to the new root", "chdir", "%.150s", fresh);
    if (box_end(reply, step, chdir(fresh)) < 0)
        return;
    if (!detach && mkdir(old, 0700) < 0 && errno != EEXIST) {
        step = box_begin(reply, "make a place for the old root", "mkdir", "%.150s", old);
        (void)box_end(reply, step, -1);
        return;
    }
    /* With both at ".", the old root ends up mounted over the new one, on top, and comes off. */
    step = box_begin(reply, "swap the roots", "pivot_root", "., %.120s", detach ? "." : old);
    if (box_end(reply, step, syscall(SYS_pivot_root, ".", detach ? "." : old)) < 0)
        return;
    if (detach) {
        step = box_begin(reply, "take the old root away", "umount2", ". MNT_DETACH");
        if (box_end(reply, step, umount2(".", MNT_DETACH)) < 0)
            return;
    }
    step = box_begin(reply, "go to the root", "chdir", "/");
    (void)box_end(reply, step, chdir("/"));
}

/* mount: source, target, type, flags, data */
static void op_mount(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)box;
    const char *source = box_argument(request, 0), *target = box_argument(request, 1);
    const char *type = box_argument(request, 2), *data = box_argument(request, 4);
    unsigned long flags = (unsigned long)box_number(request, 3, 0);
    const bool bind_readonly = (flags & MS_BIND) && (flags & MS_RDONLY) && !(flags & MS_REMOUNT);
    struct box_step *step = box_begin(reply, "mount", "mount", "%.50s on %.60s type %.20s",
                                      *source ? source : "none", target, *type ? type : "none");
    if (box_end(reply, step, mount(*source ? source : NULL, target, *type ? type : NULL, flags,
                                   *data ? data : NULL)) < 0)
        return;
    if (bind_readonly) { /* a bind takes no other flag at first */
        step = box_begin(reply, "make it read-only", "mount", "%.120s MS_REMOUNT|MS_BIND|MS_RDONLY",
                         target);
        (void)box_end(reply, step, mount(NULL, target, NULL, flags | MS_REMOUNT, NULL));
    }
}

/* umount: target, and `detach` */
static void op_umount(struct box *box, const struct box_request *request,
                      struct box_reply *reply) {
    (void)box;
    const bool detach = strcmp(box_argument(request, 1), "detach") == 0;
    struct box_step *step = box_begin(reply, "unmount", "umount2", "%.120s%s",
                                      box_argument(request, 0), detach ? " MNT_DETACH" : "");
    (void)box_end(reply, step, umount2(box_argument(request, 0), detach ? MNT_DETACH : 0));
}

static void op_sethostname(struct box *box, const struct box_request *request,
                           struct box_reply *reply) {
    (void)box;
    const char *name = box_argument(request, 0);
    struct box_step *step = box_begin(reply, "set the host's name", "sethostname", "%.64s", name);
    (void)box_end(reply, step, sethostname(name, strlen(name)));
}

static void op_chdir(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)box;
    struct box_step *step =
        box_begin(reply, "change directory", "chdir", "%.150s", box_argument(request, 0));
    (void)box_end(reply, step, chdir(box_argument(request, 0)));
}

/* mkdir: path, mode */
static void op_mkdir(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)box;
    const unsigned mode = (unsigned)box_number(request, 1, 0755);
    struct box_step *step =
        box_begin(reply, "make a folder", "mkdir", "%.140s %o", box_argument(request, 0), mode);
    (void)box_end(reply, step, mkdir(box_argument(request, 0), mode));
}

/* write_file: path, text, and `new` to create it */
static void op_write_file(struct box *box, const struct box_request *request,
                          struct box_reply *reply) {
    (void)box;
    const char *path = box_argument(request, 0);
    const bool create = strcmp(box_argument(request, 2), "new") == 0;
    struct box_step *step = box_begin(reply, "open a file", "open", "%.150s", path);
    LK_FD file = open(path, O_WRONLY | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0644);
    if (box_end(reply, step, file) < 0)
        return;
    const struct box_field *text = request->count > 2 ? &request->field[2] : NULL;
    if (text == NULL || text->size == 0)
        return;
    step = box_begin(reply, "write it", "write", "%.100s", text->text);
    (void)box_end(reply, step, write(file, text->text, text->size));
}

/* read_file: path, bound in bytes */
static void op_read_file(struct box *box, const struct box_request *request,
                         struct box_reply *reply) {
    (void)box;
    size_t limit = (size_t)box_number(request, 1, 1 << 16);
    if (limit > BOX_OUTPUT_MAX)
        limit = BOX_OUTPUT_MAX;
    struct box_step *step =
        box_begin(reply, "open a file", "open", "%.150s", box_argument(request, 0));
    LK_FD file = open(box_argument(request, 0), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (box_end(reply, step, file) < 0)
        return;
    char *text = malloc(limit + 1);
    size_t size = 0;
    step = box_begin(reply, "read it", "read", "up to %zu bytes", limit);
    ssize_t got = text != NULL ? 0 : -1;
    while (text != NULL && size < limit && (got = read(file, text + size, limit - size)) > 0)
        size += (size_t)got;
    if (box_end(reply, step, got) >= 0)
        box_put(reply, "text", text, size);
    free(text);
}

/* symlink: target, path */
static void op_symlink(struct box *box, const struct box_request *request,
                       struct box_reply *reply) {
    (void)box;
    struct box_step *step = box_begin(reply, "make a link", "symlink", "%.70s → %.70s",
                                      box_argument(request, 1), box_argument(request, 0));
    (void)box_end(reply, step, symlink(box_argument(request, 0), box_argument(request, 1)));
}

/* mknod: path, type (c or b), major, minor, mode */
static void op_mknod(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)box;
    const mode_t type = *box_argument(request, 1) == 'b' ? S_IFBLK : S_IFCHR;
    const unsigned major_number = (unsigned)box_number(request, 2, 0);
    const unsigned minor_number = (unsigned)box_number(request, 3, 0);
    const mode_t mode = (mode_t)box_number(request, 4, 0666) & 0777;
    struct box_step *step = box_begin(reply, "make a device node", "mknod", "%.120s %u:%u",
                                      box_argument(request, 0), major_number, minor_number);
    if (box_end(reply, step, mknod(box_argument(request, 0), type | mode,
                                   makedev(major_number, minor_number))) == 0)
        (void)chmod(box_argument(request, 0), mode); /* past the umask */
}

static void op_setuid(struct box *box, const struct box_request *request,
                      struct box_reply *reply) {
    (void)box;
    const uid_t uid = (uid_t)box_number(request, 0, -1);
    struct box_step *step = box_begin(reply, "change user", "setresuid", "%u", uid);
    (void)box_end(reply, step, setresuid(uid, uid, uid));
    (void)prctl(PR_SET_DUMPABLE, 1); /* our files in /proc stay ours, for the views */
}

static void op_setgid(struct box *box, const struct box_request *request,
                      struct box_reply *reply) {
    (void)box;
    const gid_t gid = (gid_t)box_number(request, 0, -1);
    struct box_step *step = box_begin(reply, "change group", "setresgid", "%u", gid);
    (void)box_end(reply, step, setresgid(gid, gid, gid));
    (void)prctl(PR_SET_DUMPABLE, 1);
}

static void op_setgroups(struct box *box, const struct box_request *request,
                         struct box_reply *reply) {
    (void)box;
    gid_t groups[32];
    size_t count = 0;
    for (; count < 32 && count + 1 < request->count; count++)
        groups[count] = (gid_t)box_number(request, count, 0);
    struct box_step *step = box_begin(reply, "set groups", "setgroups", "%zu groups", count);
    (void)box_end(reply, step, setgroups(count, groups));
}

/* capabilities: the mask to keep */
static void op_capabilities(struct box *box, const struct box_request *request,
                            struct box_reply *reply) {
    (void)box;
    const uint64_t keep = strtoull(box_argument(request, 0), NULL, 0);
    struct box_step *step =
        box_begin(reply, "bound capabilities", "prctl", "PR_CAPBSET_DROP of all but %#llx",
                  (unsigned long long)keep);
    long rc = 0;
    for (int bit = 0; bit < 64 && rc == 0 && prctl(PR_CAPBSET_READ, bit, 0, 0, 0) >= 0; bit++)
        if (!(keep >> bit & 1))
            rc = prctl(PR_CAPBSET_DROP, bit, 0, 0, 0);
    if (box_end(reply, step, rc) < 0)
        return;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    step = box_begin(reply, "drop capabilities", "capset", "%#llx", (unsigned long long)keep);
    rc = syscall(SYS_capget, &header, data);
    for (int half = 0; half < 2; half++) {
        const uint32_t mask = (uint32_t)(keep >> (32 * half));
        data[half].permitted &= mask;
        data[half].effective = data[half].permitted;
        data[half].inheritable = 0;
    }
    (void)box_end(reply, step, rc < 0 ? rc : syscall(SYS_capset, &header, data));
    (void)prctl(PR_SET_DUMPABLE, 1);
}

static void op_no_new_privs(struct box *box, const struct box_request *request,
                            struct box_reply *reply) {
    (void)box;
    (void)request;
    struct box_step *step =
        box_begin(reply, "give up gaining privileges", "prctl", "PR_SET_NO_NEW_PRIVS");
    (void)box_end(reply, step, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* seccomp: a classic BPF program */
static void op_seccomp(struct box *box, const struct box_request *request,
                       struct box_reply *reply) {
    (void)box;
    const struct box_field *code = request->count > 1 ? &request->field[1] : NULL;
    const size_t count = code != NULL ? code->size / sizeof(struct sock_filter) : 0;
    struct sock_filter *copy = count > 0 && count <= BPF_MAXINSNS ? malloc(code->size) : NULL;
    struct box_step *step = box_begin(reply, "filter system calls", "seccomp",
                                      "SECCOMP_SET_MODE_FILTER, %zu instructions", count);
    long rc = -1;
    errno = EINVAL;
    if (copy != NULL) {
        memcpy(copy, code->text, code->size);
        const struct sock_fprog program = {.len = (unsigned short)count, .filter = copy};
        rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
        free(copy);
    }
    (void)box_end(reply, step, rc);
}

static void op_lo_up(struct box *box, const struct box_request *request,
                     struct box_reply *reply) {
    (void)box;
    (void)request;
    struct ifreq lo = {.ifr_name = "lo"};
    struct box_step *step = box_begin(reply, "bring up lo", "ioctl", "SIOCSIFFLAGS lo IFF_UP");
    LK_FD sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    long rc = sock < 0 ? -1 : ioctl(sock, SIOCGIFFLAGS, &lo);
    lo.ifr_flags |= IFF_UP;
    if (rc == 0)
        rc = ioctl(sock, SIOCSIFFLAGS, &lo);
    (void)box_end(reply, step, rc);
}

static void op_info(struct box *box, const struct box_request *request, struct box_reply *reply) {
    (void)box;
    (void)request;
    put_state(reply);
}

static const struct named_op {
    const char *name;
    box_op *run;
} OPS[] = {
    {"unshare", box_op_unshare},
    {"setns", op_setns},
    {"chroot", op_chroot},
    {"pivot_root", op_pivot_root},
    {"mount", op_mount},
    {"umount", op_umount},
    {"sethostname", op_sethostname},
    {"chdir", op_chdir},
    {"mkdir", op_mkdir},
    {"write_file", op_write_file},
    {"read_file", op_read_file},
    {"symlink", op_symlink},
    {"mknod", op_mknod},
    {"setuid", op_setuid},
    {"setgid", op_setgid},
    {"setgroups", op_setgroups},
    {"capabilities", op_capabilities},
    {"no_new_privs", op_no_new_privs},
    {"seccomp", op_seccomp},
    {"lo_up", op_lo_up},
    {"info", op_info},
    {"run", box_op_run},
    {"spawn", box_op_spawn},
    {"kill", box_op_kill},
    {"children", box_op_children},
};

box_op *box_find_op(const char *name) {
    for (size_t i = 0; i < sizeof OPS / sizeof OPS[0]; i++)
        if (strcmp(OPS[i].name, name) == 0)
            return OPS[i].run;
    return NULL;
}
