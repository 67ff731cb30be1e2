#include "path.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define STEP "open a path inside the root"

int lk_open_in_root(int root, const char *path) {
    return lk_openat2(root, path[0] ? path : "/", O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int lk_open_no_links(int root, const char *path) {
    return lk_openat2(root, path[0] ? path : "/", O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
}

/* Creates one missing component below an open folder. Somebody else may have been faster. */
static int make_component(int parent, const char *name, bool folder) {
    if (folder)
        return mkdirat(parent, name, 0755) == 0 || errno == EEXIST ? 0 : -1;
    const int fd = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0 || errno == EEXIST ? 0 : -1;
}

int lk_open_target(int root, const char *path, enum lk_want want, bool links,
                   struct lk_error *error) {
    int (*const look)(int, const char *) = links ? lk_open_in_root : lk_open_no_links;
    int found = look(root, path);
    if (found >= 0 || errno != ENOENT || want == LK_WANT_NOTHING)
        return found >= 0 ? found : lk_fail(error, STEP, "%s", path);

    char prefix[PATH_MAX];
    const size_t length = strlen(path);
    if (length >= sizeof prefix)
        return lk_fail_with(error, ENAMETOOLONG, STEP, "%.64s…", path);
    LK_FD parent = look(root, "/");
    if (parent < 0)
        return lk_fail(error, STEP, "/");
    for (size_t start = 0; start < length;) {
        while (start < length && path[start] == '/')
            start++;
        size_t end = start;
        while (end < length && path[end] != '/')
            end++;
        if (end == start)
            break;
        const size_t name_length = end - start;
        char name[NAME_MAX + 1];
        if (name_length > NAME_MAX)
            return lk_fail_with(error, ENAMETOOLONG, STEP, "%s", path);
        memcpy(name, path + start, name_length);
        name[name_length] = 0;
        if (strcmp(name, "..") == 0)
            return lk_fail_with(error, EINVAL, STEP, "%s", path);
        memcpy(prefix, path, end);
        prefix[end] = 0;
        const bool last = path[end + strspn(path + end, "/")] == 0;
        int next = look(root, prefix);
        if (next < 0 && errno == ENOENT) {
            if (make_component(parent, name, !last || want == LK_WANT_DIR) < 0)
                return lk_fail(error, STEP, "create %s", prefix);
            /* What was just made is opened through its parent and must not be a link by now. */
            next = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            struct stat made;
            if (next >= 0 && (fstat(next, &made) < 0 || S_ISLNK(made.st_mode))) {
                (void)close(next);
                return lk_fail_with(error, ELOOP, STEP, "%s is a link that leads nowhere", prefix);
            }
        }
        if (next < 0)
            return lk_fail(error, STEP, "%s", prefix);
        (void)close(parent);
        parent = next;
        start = end;
    }
    return lk_take_fd(&parent);
}

int lk_open_parent(int root, const char *path, const char **leaf, struct lk_error *error) {
    const char *slash = strrchr(path, '/');
    *leaf = slash ? slash + 1 : path;
    char parent[PATH_MAX];
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof parent || (*leaf)[0] == 0 || strcmp(*leaf, ".") == 0 ||
        strcmp(*leaf, "..") == 0)
        return lk_fail_with(error, EINVAL, STEP, "%s", path);
    memcpy(parent, path, length);
    parent[length] = 0;
    return lk_open_target(root, length ? parent : "/", LK_WANT_DIR, true, error);
}

bool lk_is_on(int fd, long magic) {
    struct statfs found;
    return fstatfs(fd, &found) == 0 && (long)found.f_type == magic;
}
