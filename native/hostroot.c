/*
 * The true root of a lab host that is started inside a chroot.
 *
 * A process's root folder and the root of its mount namespace are two things. Whoever enters a mount
 * namespace with setns(2) lands on the latter, so a host started in a chroot would give containers
 * the whole machine's tree; and a container's pivot_root would leave that tree above its own root,
 * within reach of the oldest escape (chroot below, then "..", see chapter 01). Therefore the tree in
 * sight is cloned, put in the namespace's root's place, and everything else let go.
 */
#include "hostroot.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* <sys/mount.h> and <linux/mount.h> do not mix. */
enum { MS_REC_ = 1 << 14, MNT_DETACH_ = 2 };
int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const void *data);
int umount2(const char *target, int flags);

/* Whether two folders are the same one, reached through the same mount. */
static int same_place(int one, int other) {
    struct statx a, b;
    const unsigned wanted = STATX_INO | STATX_MNT_ID;
    if (statx(one, "", AT_EMPTY_PATH, wanted, &a) < 0 || statx(other, "", AT_EMPTY_PATH, wanted, &b) < 0)
        return -1;
    return a.stx_mnt_id == b.stx_mnt_id && a.stx_ino == b.stx_ino;
}

int lk_own_root(unsigned long propagation, struct lk_error *error) {
    static const char *const step = "make the host's mounts its own";
    LK_FD seen = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    LK_FD self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (seen < 0 || self < 0)
        return lk_fail(error, step, "/proc/self/ns/mnt");
    /* Entering the namespace we are in already moves us to its own root. */
    if (setns(self, CLONE_NEWNS) < 0)
        return lk_fail(error, step, "setns to itself");
    if (mount(NULL, "/", NULL, MS_REC_ | propagation, NULL) < 0)
        return lk_fail(error, step, "stop propagation");
    LK_FD real = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int same = real < 0 ? -1 : same_place(seen, real);
    if (same < 0)
        return lk_fail(error, step, "compare the roots");
    if (same)
        return chdir("/") < 0 ? lk_fail(error, step, "chdir") : 0;
    LK_FD tree = (int)syscall(SYS_open_tree, seen, "",
                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0)
        return lk_fail(error, step, "clone the chroot's mounts");
    if (syscall(SYS_move_mount, tree, "", seen, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return lk_fail(error, step, "attach the clone");
    if (fchdir(tree) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH_) < 0 ||
        chdir("/") < 0)
        return lk_fail(error, step, "pivot_root");
    return 0;
}
