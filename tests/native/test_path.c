/* Paths of an image lead nowhere but into the image. */
#include "path.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static bool same(int fd, int directory, const char *name) {
    struct stat a, b;
    const bool found = fstat(fd, &a) == 0 && fstatat(directory, name, &b, 0) == 0;
    (void)close(fd);
    return found && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void links_are_followed_inside_the_root(int root) {
    CHECK(symlinkat("/etc", root, "absolute") == 0);
    CHECK(symlinkat("../../../../etc", root, "climbing") == 0);
    CHECK(same(lk_open_in_root(root, "/absolute"), root, "etc"));
    CHECK(same(lk_open_in_root(root, "/climbing"), root, "etc"));
    CHECK(same(lk_open_in_root(root, "/../../etc"), root, "etc"));
    CHECK(lk_open_no_links(root, "/absolute") < 0 && errno == ELOOP);
}

static void magic_links_are_not(int root) {
    CHECK(symlinkat("/proc/self/root/etc", root, "magic") == 0);
    CHECK(lk_open_in_root(root, "/magic") < 0); /* no /proc inside: it cannot lead out */
}

static void targets_are_made_where_they_seem_to_be(int root) {
    struct lk_error error = {0};
    CHECK(same(lk_open_target(root, "/a/b/c", LK_WANT_DIR, true, &error), root, "a/b/c"));
    CHECK(same(lk_open_target(root, "/a/file", LK_WANT_FILE, true, &error), root, "a/file"));
    CHECK(same(lk_open_target(root, "//a//b//", LK_WANT_DIR, true, &error), root, "a/b"));
    CHECK(same(lk_open_target(root, "/climbing/deep", LK_WANT_DIR, true, &error), root, "etc/deep"));
    struct stat found;
    CHECK(fstatat(root, "a/file", &found, 0) == 0 && S_ISREG(found.st_mode));
    CHECK(error.number == 0);
}

static void what_cannot_be_made_is_an_error(int root) {
    struct lk_error error = {0};
    CHECK(symlinkat("/nowhere/at/all", root, "dangling") == 0);
    CHECK(lk_open_target(root, "/dangling", LK_WANT_DIR, true, &error) == -ELOOP);
    CHECK(lk_open_target(root, "/new/../../x", LK_WANT_DIR, true, &error) == -EINVAL);
    CHECK(lk_open_target(root, "/a/file/below", LK_WANT_DIR, true, &error) == -ENOTDIR);
    CHECK(lk_open_target(root, "/missing", LK_WANT_NOTHING, true, &error) == -ENOENT);
    static char long_name[6000];
    memset(long_name, 'x', sizeof long_name - 1);
    CHECK(lk_open_target(root, long_name, LK_WANT_DIR, true, &error) == -ENAMETOOLONG);
    CHECK(strstr(error.detail, "xxx") != NULL);
}

static void parents_are_opened_with_their_leaf(int root) {
    struct lk_error error = {0};
    const char *leaf;
    CHECK(same(lk_open_parent(root, "/a/node", &leaf, &error), root, "a"));
    CHECK(strcmp(leaf, "node") == 0);
    CHECK(lk_open_parent(root, "/a/..", &leaf, &error) == -EINVAL);
    CHECK(lk_open_parent(root, "/", &leaf, &error) == -EINVAL);
}

int main(void) {
    char folder[] = "/tmp/lkpathXXXXXX", command[64];
    CHECK(mkdtemp(folder) != NULL);
    const int root = open(folder, O_RDONLY | O_DIRECTORY);
    CHECK(root >= 0 && mkdirat(root, "etc", 0755) == 0);
    links_are_followed_inside_the_root(root);
    magic_links_are_not(root);
    targets_are_made_where_they_seem_to_be(root);
    what_cannot_be_made_is_an_error(root);
    parents_are_opened_with_their_leaf(root);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}
