#include "rootfs.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "path.h"

/* <sys/mount.h> and <linux/mount.h> cannot be included together in glibc 2.36. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
enum { MS_PRIVATE_ = 1 << 18, MS_SLAVE_ = 1 << 19, MS_SHARED_ = 1 << 20, MS_REC_ = 1 << 14 };
enum { MS_RDONLY_ = 1, MS_NOSUID_ = 2, MS_NODEV_ = 4, MS_NOEXEC_ = 8, MNT_DETACH_ = 2 };
enum { DATA_MAX = 4095 };

static int sys_fsopen(const char *type) {
    return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}
static int sys_fsconfig(int fs, unsigned command, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, fs, command, key, value, 0);
}
static int sys_fsmount(int fs, unsigned attributes) {
    return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
}
static int sys_move_mount(int mount_fd, int target) {
    return (int)syscall(SYS_move_mount, mount_fd, "", target, "",
                        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
static int sys_open_tree(int directory, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, directory, path, flags | OPEN_TREE_CLOEXEC);
}
static int sys_mount_setattr(int fd, bool recursive, uint64_t set, uint64_t propagation) {
    struct mount_attr attributes = {.attr_set = set, .propagation = propagation};
    return (int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
                        &attributes, sizeof attributes);
}

/* The kernel explains some refused mounts in the file-system context; add that to the error. */
static int fail_fs(struct lk_error *error, int fs, const char *step, const char *object) {
    const int number = errno;
    char text[160];
    ssize_t size = fs >= 0 ? read(fs, text, sizeof text - 1) : -1;
    while (size > 0 && text[size - 1] == '\n')
        size--;
    text[size > 0 ? size : 0] = 0;
    return lk_fail_with(error, number, step, "%s%s%s%s", object, size > 0 ? " (" : "", text,
                        size > 0 ? ")" : "");
}

static unsigned old_flags(unsigned attributes) {
    return (attributes & MOUNT_ATTR_RDONLY ? MS_RDONLY_ : 0u) |
           (attributes & MOUNT_ATTR_NOSUID ? MS_NOSUID_ : 0u) |
           (attributes & MOUNT_ATTR_NODEV ? MS_NODEV_ : 0u) |
           (attributes & MOUNT_ATTR_NOEXEC ? MS_NOEXEC_ : 0u);
}

static unsigned attributes_of(const struct lk_mount *mount) {
    return (mount->flags & LK_RDONLY ? MOUNT_ATTR_RDONLY : 0u) |
           (mount->flags & LK_NOSUID ? MOUNT_ATTR_NOSUID : 0u) |
           (mount->flags & LK_NODEV ? MOUNT_ATTR_NODEV : 0u) |
           (mount->flags & LK_NOEXEC ? MOUNT_ATTR_NOEXEC : 0u);
}

/* Options go one by one: fsconfig(2) takes a key and a value, and no value over 255 bytes. */
static int configure(int fs, const char *data, struct lk_error *error) {
    char copy[DATA_MAX + 1];
    if (strlen(data) > DATA_MAX)
        return lk_fail_with(error, E2BIG, "configure a mount", "%.64s…", data);
    (void)snprintf(copy, sizeof copy, "%s", data);
    char *rest = copy, *option;
    while ((option = strsep(&rest, ",")) != NULL) {
        if (option[0] == 0)
            continue;
        char *value = strchr(option, '=');
        if (value != NULL)
            *value++ = 0;
        const int status = value != NULL
                               ? sys_fsconfig(fs, FSCONFIG_SET_STRING, option, value)
                               : sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL);
        if (status < 0)
            return fail_fs(error, fs, "configure a mount", option);
    }
    return 0;
}

/* A new file system attached to an open target; returns its root,
 * or a negative errno: ENOSYS on kernels before 5.2. */
static int attach_new(int target, const char *type, const char *data, unsigned attributes,
                      struct lk_error *error) {
    LK_FD fs = sys_fsopen(type);
    if (fs < 0)
        return lk_fail(error, "mount", "%s", type);
    /* The name in the first column of mount(8), as other runtimes give it. */
    (void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", type);
    int status = configure(fs, data, error);
    if (status < 0)
        return status;
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return fail_fs(error, fs, "mount", type);
    LK_FD made = sys_fsmount(fs, attributes);
    if (made < 0 || sys_move_mount(made, target) < 0)
        return fail_fs(error, fs, "mount", type);
    return lk_take_fd(&made);
}

int lk_mount_new(int target, const char *type, const char *data, unsigned attributes,
                 struct lk_error *error) {
    LK_FD made = attach_new(target, type, data, attributes, error);
    if (made != -ENOSYS)
        return made < 0 ? made : 0;
    struct lk_fd_path path;
    if (mount(type, lk_fd_path(&path, target), type, old_flags(attributes), data) < 0)
        return lk_fail(error, "mount", "%s", type);
    return 0;
}

int lk_attach_copy(int source, int target, unsigned attributes, bool recursive,
                   struct lk_error *error) {
    LK_FD copy = sys_open_tree(source, "",
                               AT_EMPTY_PATH | OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0u));
    if (copy < 0)
        return lk_fail(error, "bind mount", "copy the source mount");
    if (attributes != 0 && sys_mount_setattr(copy, recursive, attributes, 0) < 0)
        return lk_fail(error, "bind mount", "set its attributes");
    if (sys_move_mount(copy, target) < 0)
        return lk_fail(error, "bind mount", "attach it");
    return 0;
}

int lk_detach_propagation(const struct lk_spec *spec, struct lk_timeline *timeline,
                          struct lk_error *error) {
    unsigned long kind = MS_PRIVATE_;
    for (size_t i = 0; i < spec->mount_count; i++)
        if (spec->mounts[i].propagation == MS_SLAVE_ || spec->mounts[i].propagation == MS_SHARED_)
            kind = MS_SLAVE_;
    struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "detach mount propagation",
                                    kind == MS_PRIVATE_ ? "mount(\"/\", MS_REC|MS_PRIVATE)"
                                                        : "mount(\"/\", MS_REC|MS_SLAVE)",
                                    "mounts made from here on stay in this namespace");
    if (lk_end(step, mount(NULL, "/", NULL, MS_REC_ | kind, NULL) < 0 ? -errno : 0) < 0)
        return lk_fail(error, "detach mount propagation", "/");
    return 0;
}

/* overlayfs gained one option per layer in Linux 6.5; before that all lowers share one string. Older
 * kernels are not asked: they write a refused option into their log, once for every container. */
static bool takes_layers(void) {
    struct utsname name;
    int major = 0, minor = 0;
    if (uname(&name) < 0)
        return false;
    char *end;
    major = (int)strtol(name.release, &end, 10);
    if (*end == '.')
        minor = (int)strtol(end + 1, NULL, 10);
    return major > 6 || (major == 6 && minor >= 5);
}

static int overlay_layers(int fs, const struct lk_spec *spec) {
    for (size_t i = 0; i < spec->lower_count; i++)
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", spec->lowers[i]) < 0)
            return -errno;
    if (spec->upper[0] != 0 && (sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", spec->upper) < 0 ||
                                sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", spec->work) < 0))
        return -errno;
    if (spec->basics.flags & LK_USERXATTR)
        (void)sys_fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL);
    (void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay");
    return sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 ? -errno : 0;
}

/* Appends to a text of at most DATA_MAX bytes; returns the length it would have had. */
static size_t append(char *text, size_t used, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static size_t append(char *text, size_t used, const char *format, ...) {
    const size_t start = used < DATA_MAX ? used : DATA_MAX;
    va_list arguments;
    va_start(arguments, format);
    const int count = vsnprintf(text + start, DATA_MAX + 1 - start, format, arguments);
    va_end(arguments);
    return used + (count > 0 ? (size_t)count : 0);
}

/* The kernel does not say which of a hundred folders it could not find. */
static int fail_overlay(const struct lk_spec *spec, struct lk_error *error) {
    const int number = errno;
    const char *culprit = spec->upper[0] ? spec->upper : spec->lowers[0];
    if (faccessat(AT_FDCWD, spec->work[0] ? spec->work : culprit, F_OK, 0) < 0)
        culprit = spec->work;
    for (size_t i = 0; i < spec->lower_count; i++)
        if (faccessat(AT_FDCWD, spec->lowers[i], F_OK, 0) < 0)
            culprit = spec->lowers[i];
    return lk_fail_with(error, number, "mount overlay root", "%s", culprit);
}

/*
 * The old way: one page of options. Paths with ':' or ',' and stacks too long for the page are
 * named by descriptor instead, /proc/self/fd/N being short and free of punctuation.
 */
static int overlay_old(const struct lk_spec *spec, const char *mountpoint, struct lk_error *error) {
    char data[DATA_MAX + 1];
    for (int by_descriptor = 0; by_descriptor < 2; by_descriptor++) {
        size_t used = append(data, 0, "%s", spec->basics.flags & LK_USERXATTR ? "userxattr," : "");
        bool plain = true;
        for (size_t i = 0; i < spec->lower_count; i++) {
            struct lk_fd_path path;
            const char *name = spec->lowers[i];
            if (by_descriptor) {
                /* Left open on purpose: closed when this process executes the container's. */
                const int fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0)
                    return lk_fail(error, "mount overlay root", "%s", name);
                name = lk_fd_path(&path, fd);
            }
            plain = plain && strpbrk(name, ":,\\") == NULL;
            used = append(data, used, "%s%s", i == 0 ? "lowerdir=" : ":", name);
        }
        if (spec->upper[0] != 0) {
            plain = plain && strpbrk(spec->upper, ",\\") == NULL;
            used = append(data, used, ",upperdir=%s", spec->upper);
            used = append(data, used, ",workdir=%s", spec->work);
        }
        if (used > DATA_MAX || (!plain && !by_descriptor))
            continue;
        if (mount("overlay", mountpoint, "overlay", 0, data) < 0)
            return fail_overlay(spec, error);
        return 0;
    }
    return lk_fail_with(error, E2BIG, "mount overlay root", "%zu layers", spec->lower_count);
}

static int mount_overlay(const struct lk_spec *spec, struct lk_error *error) {
    /* Only this process sees the mount, so any folder will do to attach it to. */
    const char *mountpoint = spec->root[0] ? spec->root : spec->upper[0] ? spec->upper : spec->lowers[0];
    LK_FD fs = takes_layers() ? sys_fsopen("overlay") : -1;
    if (fs >= 0 && overlay_layers(fs, spec) == 0) {
        LK_FD made = sys_fsmount(fs, 0);
        LK_FD target = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (made < 0 || target < 0 || sys_move_mount(made, target) < 0)
            return fail_fs(error, fs, "mount overlay root", mountpoint);
        return lk_take_fd(&made);
    }
    const int status = overlay_old(spec, mountpoint, error);
    if (status < 0)
        return status;
    const int root = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root >= 0 ? root : lk_fail(error, "mount overlay root", "%s", mountpoint);
}

static int mount_folder(const char *path, bool readonly, struct lk_error *error) {
    LK_FD copy = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE);
    LK_FD target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0 || target < 0 ||
        (readonly && sys_mount_setattr(copy, false, MOUNT_ATTR_RDONLY, 0) < 0) ||
        sys_move_mount(copy, target) < 0)
        return lk_fail(error, "mount root folder", "%s", path);
    return lk_take_fd(&copy);
}

int lk_mount_root(const struct lk_spec *spec, struct lk_timeline *timeline, struct lk_error *error) {
    /* An overlay of one layer with nothing to write to is refused, and would be that layer anyway. */
    const bool single = spec->lower_count == 1 && spec->upper[0] == 0;
    if (spec->lower_count == 0 || single) {
        const char *path = single ? spec->lowers[0] : spec->root;
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "mount root folder",
                                        "open_tree(OPEN_TREE_CLONE), move_mount()", "%s", path);
        return lk_end(step, mount_folder(path, single, error));
    }
    struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "mount overlay root",
                                    "fsopen(\"overlay\"), fsconfig(), fsmount(), move_mount()",
                                    "%zu read-only layers, changes go to %s", spec->lower_count,
                                    spec->upper[0] ? spec->upper : "nowhere");
    return lk_end(step, mount_overlay(spec, error));
}

/* Files appear with the ids that a user namespace gives them (mount_setattr(2), idmapped mounts). */
static int map_ids(int mount_fd, int user_namespace) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_namespace};
    return (int)syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
}

static bool names_proc(const char *target) {
    target += strspn(target, "/");
    return strncmp(target, "proc", 4) == 0 && target[4 + strspn(target + 4, "/")] == 0;
}

static int bind_mount(const struct lk_mount *mount, int root, struct lk_error *error) {
    LK_FD source = open(mount->source, O_PATH | O_CLOEXEC);
    struct stat found;
    if (source < 0 || fstat(source, &found) < 0)
        return lk_fail(error, "bind mount", "%s", mount->source);
    enum lk_want want = LK_WANT_NOTHING;
    if (mount->create != LK_CREATE_NO)
        want = S_ISDIR(found.st_mode) ? LK_WANT_DIR : LK_WANT_FILE;
    LK_FD target = lk_open_target(root, mount->target, want, true, error);
    if (target < 0)
        return target;
    /* Without a true /proc, the paths to be masked and the kernel's switches would be elsewhere. */
    if (names_proc(mount->target) && !lk_is_on(source, PROC_SUPER_MAGIC))
        return lk_fail_with(error, EPERM, "bind mount", "%s: /proc must be of type proc",
                            mount->source);
    /* A file laid over one of the kernel's own could make the rest of the setup read lies. */
    if (lk_is_on(target, PROC_SUPER_MAGIC))
        return lk_fail_with(error, EPERM, "bind mount", "%s: a mount inside /proc is refused",
                            mount->target);
    LK_FD copy = sys_open_tree(source, "", AT_EMPTY_PATH | OPEN_TREE_CLONE |
                                               (mount->flags & LK_RECURSIVE ? AT_RECURSIVE : 0u));
    if (copy < 0)
        return lk_fail(error, "bind mount", "%s", mount->source);
    if (mount->idmap >= 0 && map_ids(copy, mount->idmap) < 0)
        return lk_fail(error, "bind mount", "%s: map its ids", mount->source);
    const unsigned attributes = attributes_of(mount);
    if (attributes != 0 && sys_mount_setattr(copy, mount->flags & LK_RECURSIVE, attributes, 0) < 0)
        return lk_fail(error, "bind mount", "%s", mount->target);
    if (mount->propagation != 0 &&
        sys_mount_setattr(copy, mount->flags & LK_PROPAGATE_RECURSIVE, 0, mount->propagation) < 0)
        return lk_fail(error, "bind mount", "propagation of %s", mount->target);
    if (sys_move_mount(copy, target) == 0)
        return 0;
    /* move_mount(2) says EINVAL where mount(2) says what is wrong. */
    const int number = errno;
    struct stat place;
    if (fstat(target, &place) == 0 && S_ISDIR(place.st_mode) != S_ISDIR(found.st_mode))
        return lk_fail_with(error, ENOTDIR, "bind mount", "%s", mount->source);
    return lk_fail_with(error, number, "bind mount", "%s", mount->source);
}

static const char *const TYPES[LK_MOUNT_KINDS] = {
    [LK_MOUNT_TMPFS] = "tmpfs",     [LK_MOUNT_PROC] = "proc",      [LK_MOUNT_SYSFS] = "sysfs",
    [LK_MOUNT_DEVPTS] = "devpts",   [LK_MOUNT_MQUEUE] = "mqueue",  [LK_MOUNT_CGROUP1] = "cgroup",
    [LK_MOUNT_CGROUP2] = "cgroup2",
};

/* sysfs belongs to the network namespace's owner; elsewhere the lab host's is shown, read-only. */
static int bind_sysfs(int target, unsigned attributes, struct lk_error *error) {
    LK_FD source = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (source < 0)
        return lk_fail(error, "bind mount", "/sys");
    return lk_attach_copy(source, target, attributes | MOUNT_ATTR_RDONLY, true, error);
}

/* One hierarchy of cgroup v1. The kernel may refuse it (inside a user namespace, or when another
 * namespace holds it differently); then its folder stays empty, as on a machine without it. */
static void mount_hierarchy(int folder, const char *controllers, unsigned attributes) {
    struct lk_error ignored;
    if (mkdirat(folder, controllers, 0555) < 0 && errno != EEXIST)
        return;
    LK_FD place = openat(folder, controllers, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0 || lk_mount_new(place, "cgroup", controllers, attributes, &ignored) < 0)
        return;
    /* cpu,cpuacct is known by either name as well. */
    char copy[128], *rest = copy, *name;
    (void)snprintf(copy, sizeof copy, "%s", controllers);
    if (strchr(copy, ',') != NULL)
        while ((name = strsep(&rest, ",")) != NULL)
            (void)symlinkat(controllers, folder, name);
}

/* What v1 machines have at /sys/fs/cgroup: a small file system with a folder per hierarchy. The
 * hierarchies are named in `source`, separated by blanks. */
static int mount_cgroup1(const struct lk_mount *mount, int root, struct lk_error *error) {
    const unsigned attributes = attributes_of(mount);
    LK_FD target = lk_open_target(root, mount->target, LK_WANT_DIR, false, error);
    if (target < 0)
        return target;
    const int status = lk_mount_new(target, "tmpfs", "mode=755", attributes & ~(unsigned)MOUNT_ATTR_RDONLY,
                                    error);
    if (status < 0)
        return status;
    LK_FD folder = lk_open_no_links(root, mount->target);
    if (folder < 0)
        return lk_fail(error, "mount", "%s", mount->target);
    char names[512], *rest = names, *name;
    if (snprintf(names, sizeof names, "%s", mount->source) >= (int)sizeof names)
        return lk_fail_with(error, E2BIG, "mount", "%s", mount->target);
    while ((name = strsep(&rest, " ")) != NULL)
        if (name[0] != 0 && strchr(name, '/') == NULL)
            mount_hierarchy(folder, name, attributes);
    if (attributes & MOUNT_ATTR_RDONLY && sys_mount_setattr(folder, false, MOUNT_ATTR_RDONLY, 0) < 0)
        return lk_fail(error, "mount", "%s", mount->target);
    return 0;
}

static int new_mount(const struct lk_mount *mount, int root, struct lk_error *error) {
    if (mount->kind == LK_MOUNT_CGROUP1)
        return mount_cgroup1(mount, root, error);
    /* These must be what they seem, at the place where they seem to be: an image whose /proc is a
     * link would otherwise get the masks of the next step applied somewhere else. */
    const bool exact = mount->kind == LK_MOUNT_PROC || mount->kind == LK_MOUNT_SYSFS ||
                       mount->kind == LK_MOUNT_CGROUP2 || mount->kind == LK_MOUNT_DEVPTS || strcmp(mount->target, "/dev") == 0;
    const enum lk_want want = mount->create == LK_CREATE_NO ? LK_WANT_NOTHING : LK_WANT_DIR;
    LK_FD target = lk_open_target(root, mount->target, want, !exact, error);
    if (target < 0)
        return target;
    if (mount->kind != LK_MOUNT_PROC && lk_is_on(target, PROC_SUPER_MAGIC))
        return lk_fail_with(error, EPERM, "mount", "%s: a mount inside /proc is refused",
                            mount->target);
    const unsigned attributes = attributes_of(mount);
    int status = lk_mount_new(target, TYPES[mount->kind], mount->data, attributes, error);
    if (status < 0 && mount->kind == LK_MOUNT_SYSFS && status == -EPERM)
        status = bind_sysfs(target, attributes, error);
    if (status == -EINVAL && mount->kind == LK_MOUNT_DEVPTS)
        /* gid 5 is not mapped in a one-id user namespace. */
        status = lk_mount_new(target, "devpts", "newinstance,ptmxmode=0666,mode=0620", attributes,
                              error);
    return status;
}

int lk_make_mounts(const struct lk_spec *spec, int root, size_t first, size_t end,
                   struct lk_timeline *timeline, struct lk_error *error) {
    for (size_t i = first; i < end; i++) {
        const struct lk_mount *mount = &spec->mounts[i];
        const bool bind = mount->kind == LK_MOUNT_BIND;
        char call[96], name[32];
        (void)snprintf(name, sizeof name, "mount %s", mount->target);
        (void)snprintf(call, sizeof call,
                       bind ? "open_tree(OPEN_TREE_CLONE), move_mount()"
                            : "fsopen(\"%s\"), fsmount(), move_mount()",
                       bind ? "" : TYPES[mount->kind]);
        struct lk_step *step =
            lk_begin(timeline, LK_BY_CHILD, name, call, "%s%s%s%s", bind ? "from " : "",
                     mount->source[0] ? mount->source : mount->data,
                     mount->source[0] || mount->data[0] ? ", " : "",
                     mount->flags & LK_RDONLY ? "read-only" : "writable");
        const int status = bind ? bind_mount(mount, root, error) : new_mount(mount, root, error);
        if (lk_end(step, status) < 0) {
            /* Where and what: both may be longer than the name of a step. */
            const struct lk_error inner = *error;
            return lk_fail_with(error, inner.number, "mount", "%.200s\x1f%.270s", mount->target,
                                inner.detail);
        }
    }
    return 0;
}

/* All hidden folders show one empty file system; the first of them gets it new. */
static int mask_folder(int target, int *empty, struct lk_error *error) {
    if (*empty >= 0)
        return lk_attach_copy(*empty, target, 0, false, error);
    *empty = attach_new(target, "tmpfs", "size=0k", MOUNT_ATTR_RDONLY, error);
    if (*empty == -ENOSYS)
        return lk_mount_new(target, "tmpfs", "size=0k", MOUNT_ATTR_RDONLY, error);
    return *empty < 0 ? *empty : 0;
}

/* A file is hidden by the null device, a folder by an empty read-only file system. */
static int mask_paths(const struct lk_spec *spec, int root, struct lk_error *error) {
    LK_FD null = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    LK_FD empty = -1;
    struct stat found;
    if (null < 0 || fstat(null, &found) < 0)
        return lk_fail(error, "mask paths", "/dev/null");
    if (!S_ISCHR(found.st_mode) || found.st_rdev != (dev_t)((1 << 8) | 3))
        return lk_fail_with(error, ENODEV, "mask paths", "/dev/null of the lab host is not the null device");
    for (size_t i = 0; i < spec->masked_count; i++) {
        LK_FD target = lk_open_in_root(root, spec->masked[i]);
        if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
            continue;
        if (target < 0 || fstat(target, &found) < 0)
            return lk_fail(error, "mask paths", "%s", spec->masked[i]);
        const int status = S_ISDIR(found.st_mode)
                               ? mask_folder(target, &empty, error)
                               : lk_attach_copy(null, target, 0, false, error);
        if (status < 0)
            return status;
    }
    return 0;
}

static int readonly_paths(const struct lk_spec *spec, int root, struct lk_error *error) {
    for (size_t i = 0; i < spec->readonly_count; i++) {
        LK_FD target = lk_open_in_root(root, spec->readonly[i]);
        if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
            continue;
        if (target < 0)
            return lk_fail(error, "make paths read-only", "%s", spec->readonly[i]);
        const int status = lk_attach_copy(target, target, MOUNT_ATTR_RDONLY, true, error);
        if (status < 0)
            return status;
    }
    return 0;
}

int lk_close_paths(const struct lk_spec *spec, int root, struct lk_timeline *timeline,
                   struct lk_error *error) {
    if (spec->readonly_count > 0) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "make paths read-only",
                                        "open_tree(), mount_setattr(MOUNT_ATTR_RDONLY)",
                                        "%zu paths such as %s", spec->readonly_count,
                                        spec->readonly[0]);
        const int status = readonly_paths(spec, root, error);
        if (lk_end(step, status) < 0)
            return status;
    }
    if (spec->masked_count > 0) {
        struct lk_step *step =
            lk_begin(timeline, LK_BY_CHILD, "mask paths", "open_tree(\"/dev/null\"), move_mount()",
                     "%zu paths such as %s", spec->masked_count, spec->masked[0]);
        const int status = mask_paths(spec, root, error);
        if (lk_end(step, status) < 0)
            return status;
    }
    if (spec->basics.flags & LK_READONLY_ROOT) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "make the root read-only",
                                        "mount_setattr(MOUNT_ATTR_RDONLY)", "/");
        if (lk_end(step, sys_mount_setattr(root, false, MOUNT_ATTR_RDONLY, 0) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "make the root read-only", "/");
    }
    return 0;
}

int lk_enter_root(int root, struct lk_timeline *timeline, struct lk_error *error) {
    struct lk_step *step =
        lk_begin(timeline, LK_BY_CHILD, "pivot_root", "pivot_root(\".\", \".\"), umount2(MNT_DETACH)",
                 "the old root is gone from this namespace, unlike after chroot");
    /* Both names are ".": the old root ends up stacked on the new one and is then detached. */
    int status = 0;
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH_) < 0 ||
        chdir("/") < 0)
        status = lk_fail(error, "pivot_root", "/");
    return lk_end(step, status);
}
