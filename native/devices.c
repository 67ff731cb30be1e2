#include "devices.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "path.h"
#include "rootfs.h"

static const struct {
    const char *path, *target;
} LINKS[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
    {"/dev/core", "/proc/kcore"},       {"/dev/ptmx", "pts/ptmx"},
};

/* In a user namespace nodes cannot be made; the lab host's own node is shown instead. */
static int bind_device(int root, const char *path, int source, struct lk_error *error) {
    LK_FD target = lk_open_target(root, path, LK_WANT_FILE, true, error);
    if (target < 0)
        return target;
    return lk_attach_copy(source, target, 0, false, error);
}

static int make_device(int root, const struct lk_pair *device, struct lk_error *error) {
    LK_FD source = open(device->second, O_PATH | O_CLOEXEC);
    struct stat found;
    if (source < 0 || fstat(source, &found) < 0)
        return lk_fail(error, "make device nodes", "%s", device->second);
    if (!S_ISCHR(found.st_mode) && !S_ISBLK(found.st_mode))
        return lk_fail_with(error, ENODEV, "make device nodes", "%s is not a device", device->second);
    const char *leaf;
    LK_FD parent = lk_open_parent(root, device->first, &leaf, error);
    if (parent < 0)
        return parent;
    /* The owner's permissions of the source, as other runtimes give them: 0666 for null and zero. */
    if (mknodat(parent, leaf, (found.st_mode & S_IFMT) | (found.st_mode & 0777), found.st_rdev) == 0)
        return 0;
    if (errno == EEXIST) {
        struct stat present;
        if (fstatat(parent, leaf, &present, AT_SYMLINK_NOFOLLOW) == 0 &&
            (present.st_mode & S_IFMT) == (found.st_mode & S_IFMT) &&
            present.st_rdev == found.st_rdev)
            return 0;
        errno = EEXIST;
    }
    if (errno != EPERM)
        return lk_fail(error, "make device nodes", "%s", device->first);
    return bind_device(root, device->first, source, error);
}

/* The links belong to a /dev we made; an image's or a volume's own /dev is left as it is. */
static bool owns_dev(const struct lk_spec *spec) {
    for (size_t i = 0; i < spec->mount_count; i++)
        if (spec->mounts[i].kind == LK_MOUNT_TMPFS && strcmp(spec->mounts[i].target, "/dev") == 0)
            return true;
    return false;
}

int lk_make_devices(const struct lk_spec *spec, int root, struct lk_timeline *timeline,
                    struct lk_error *error) {
    if (spec->device_count > 0) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "make device nodes", "mknodat()",
                                        "%zu nodes such as %s", spec->device_count,
                                        spec->devices[0].first);
        int status = 0;
        for (size_t i = 0; i < spec->device_count && status == 0; i++)
            status = make_device(root, &spec->devices[i], error);
        if (lk_end(step, status) < 0)
            return status;
    }
    if (!owns_dev(spec))
        return 0;
    struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "link standard names", "symlinkat()",
                                    "/dev/fd, /dev/stdin, /dev/stdout, /dev/stderr, /dev/ptmx");
    for (size_t i = 0; i < sizeof LINKS / sizeof LINKS[0]; i++) {
        const char *leaf;
        LK_FD parent = lk_open_parent(root, LINKS[i].path, &leaf, error);
        if (parent < 0)
            return lk_end(step, parent);
        if (symlinkat(LINKS[i].target, parent, leaf) < 0 && errno != EEXIST)
            return lk_end(step, lk_fail(error, "link standard names", "%s", LINKS[i].path));
    }
    return lk_end(step, 0);
}

static int bind_console(int root, int slave, struct lk_error *error) {
    LK_FD target = lk_open_target(root, "/dev/console", LK_WANT_FILE, false, error);
    if (target < 0)
        return target;
    return lk_attach_copy(slave, target, 0, false, error);
}

static int open_tty(const struct lk_spec *spec, int root, bool console, struct lk_tty *tty,
                    struct lk_error *error) {
    /* pts/ptmx is checked to be devpts's own: a file planted there must not become a terminal. */
    LK_FD place = lk_open_no_links(root, "/dev/pts/ptmx");
    if (place < 0 || !lk_is_on(place, DEVPTS_SUPER_MAGIC))
        return lk_fail_with(error, place < 0 ? errno : ENOTTY, "open a terminal", "/dev/pts/ptmx");
    struct lk_fd_path path;
    LK_FD master = open(lk_fd_path(&path, place), O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return lk_fail(error, "open a terminal", "/dev/pts/ptmx");
    LK_FD slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return lk_fail(error, "open a terminal", "its other end");
    const struct winsize size = {.ws_row = spec->basics.rows, .ws_col = spec->basics.columns};
    if (size.ws_row != 0 && ioctl(master, TIOCSWINSZ, &size) < 0)
        return lk_fail(error, "open a terminal", "its size");
    const int status = console ? bind_console(root, slave, error) : 0;
    if (status < 0)
        return status;
    tty->master = lk_take_fd(&master);
    tty->slave = lk_take_fd(&slave);
    return 0;
}

int lk_open_tty(const struct lk_spec *spec, int root, bool console, struct lk_tty *tty,
                struct lk_timeline *timeline, struct lk_error *error) {
    struct lk_step *step =
        lk_begin(timeline, LK_BY_CHILD, "open a terminal", "openat2(\"/dev/pts/ptmx\"), ioctl(TIOCGPTPEER)",
                 "%u rows, %u columns", spec->basics.rows, spec->basics.columns);
    return lk_end(step, open_tty(spec, root, console, tty, error));
}
