/*
 * The anchor: one small process per lab host that holds its namespaces and does nothing else.
 *
 *   anchor hold HOSTNAME READY_FD user|machine [bind SOURCE TARGET | link SOURCE TARGET]...
 *   anchor enter PIDFD KINDS CWD PROGRAM [ARGUMENT]...
 *   anchor probe user|machine [FOLDER]
 *
 * `hold` shows folders of the lab at fixed places (its data as /var/lib/docker) without creating
 * anything on the machine's file systems: where a mount point is missing, the nearest existing
 * folder is covered by a tmpfs into which each of its entries is bound again. Mounts are slaves of
 * the machine's, so that nothing made here is ever seen there.
 *
 * On READY_FD (a socket): `u` asks for id maps, any byte answers; `r` says that all stands;
 * `e` NUMBER NUL TEXT is a failure.
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
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
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "applets.h"
#include "hostroot.h"
#include "lk.h"

enum { MAX_REBUILT = 8, MAX_VIEWS = 8 };

/* Folders already covered by a tmpfs of ours, in which we may create what is missing. */
struct rebuilt {
    dev_t device[MAX_REBUILT];
    size_t count;
};

struct view {
    const char *kind;
    const char *source;
    const char *target;
    int source_fd;
};

static int bring_lo_up(struct lk_error *error) {
    LK_FD sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, &request) < 0)
        return lk_fail(error, "bring up lo", "lo");
    request.ifr_flags |= IFF_UP;
    if (ioctl(sock, SIOCSIFFLAGS, &request) < 0)
        return lk_fail(error, "bring up lo", "lo");
    return 0;
}

static bool is_rebuilt(const struct rebuilt *rebuilt, const struct stat *found) {
    for (size_t i = 0; i < rebuilt->count; i++)
        if (rebuilt->device[i] == found->st_dev)
            return true;
    return false;
}

/* Shows one entry of the covered folder `old` at the same name in `fresh`; what cannot be bound
 * (a socket of somebody else under a user namespace, say) is left out. */
static void rebind_entry(int old, int fresh, const char *name) {
    struct stat found;
    char source[PATH_MAX], target[PATH_MAX];
    if (fstatat(old, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (S_ISLNK(found.st_mode)) {
        char text[PATH_MAX];
        const ssize_t length = readlinkat(old, name, text, sizeof text - 1);
        if (length > 0) {
            text[length] = '\0';
            (void)!symlinkat(text, fresh, name);
        }
        return;
    }
    snprintf(source, sizeof source, "/proc/self/fd/%d/%s", old, name);
    snprintf(target, sizeof target, "/proc/self/fd/%d/%s", fresh, name);
    if (S_ISDIR(found.st_mode)) {
        if (mkdirat(fresh, name, 0755) < 0)
            return;
    } else {
        LK_FD made = openat(fresh, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (made < 0)
            return;
    }
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        (void)unlinkat(fresh, name, S_ISDIR(found.st_mode) ? AT_REMOVEDIR : 0);
}

/* Covers `path` with a tmpfs holding the same entries, but for `except`. */
static int rebuild(const char *path, const char *except, struct rebuilt *rebuilt,
                   struct lk_error *error) {
    struct stat found;
    LK_FD old = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old < 0 || fstat(old, &found) < 0)
        return lk_fail(error, "open folder of the host's view", "%s", path);
    if (rebuilt->count == MAX_REBUILT)
        return lk_fail_with(error, E2BIG, "build the host's view", "%s", path);
    char data[64];
    snprintf(data, sizeof data, "mode=%o,size=64m", (unsigned)(found.st_mode & 07777));
    if (mount("labkit-view", path, "tmpfs", MS_NOSUID | MS_NODEV, data) < 0)
        return lk_fail(error, "mount tmpfs for the host's view", "%s", path);
    LK_FD fresh = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fresh < 0 || fstat(fresh, &found) < 0)
        return lk_fail(error, "open the host's view", "%s", path);
    rebuilt->device[rebuilt->count++] = found.st_dev;
    DIR *entries = fdopendir(dup(old));
    if (entries == NULL)
        return lk_fail(error, "list folder of the host's view", "%s", path);
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (except == NULL || strcmp(entry->d_name, except) != 0)
            rebind_entry(old, fresh, entry->d_name);
    }
    closedir(entries);
    return 0;
}

/*
 * The folder that will hold `target`, resolved, with everything missing above it made on a tmpfs of
 * ours. `force` covers it even if the target exists (a link replaces, it cannot be bound over).
 */
static int prepare_parent(const char *target, bool force, char parent[PATH_MAX],
                          struct rebuilt *rebuilt, struct lk_error *error) {
    char wanted[PATH_MAX], missing[PATH_MAX] = "";
    snprintf(wanted, sizeof wanted, "%s", target);
    char *slash = strrchr(wanted, '/');
    if (slash == NULL || slash == wanted)
        return lk_fail_with(error, EINVAL, "build the host's view", "%s", target);
    const char *leaf = target + (slash - wanted) + 1;
    *slash = '\0';
    while (realpath(wanted, parent) == NULL) {
        if (errno != ENOENT || (slash = strrchr(wanted, '/')) == NULL || slash == wanted)
            return lk_fail(error, "resolve in the host's view", "%s", wanted);
        char longer[PATH_MAX];
        if (snprintf(longer, sizeof longer, "/%s%s", slash + 1, missing) >= (int)sizeof longer)
            return lk_fail_with(error, ENAMETOOLONG, "resolve in the host's view", "%s", target);
        memcpy(missing, longer, sizeof missing);
        *slash = '\0';
    }
    struct stat found;
    if (stat(parent, &found) < 0)
        return lk_fail(error, "look at folder of the host's view", "%s", parent);
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%.*s/%.255s", PATH_MAX - 300, parent, leaf);
    struct stat existing;
    const bool there = missing[0] == '\0' && lstat(full, &existing) == 0;
    if (is_rebuilt(rebuilt, &found)) {
        if (force && there)
            (void)unlink(full);
    } else if (!there || force) {
        const int rc = rebuild(parent, missing[0] == '\0' ? leaf : NULL, rebuilt, error);
        if (rc < 0)
            return rc;
    }
    for (char *part = missing; *part != '\0';) {
        char *end = strchr(part + 1, '/');
        const size_t size = end != NULL ? (size_t)(end - part) : strlen(part);
        if (strlen(parent) + size >= PATH_MAX)
            return lk_fail_with(error, ENAMETOOLONG, "make in the host's view", "%s", target);
        strncat(parent, part, size);
        if (mkdir(parent, 0755) < 0 && errno != EEXIST)
            return lk_fail(error, "make in the host's view", "%s", parent);
        part += size;
    }
    return 0;
}

static int show(const struct view *view, struct rebuilt *rebuilt, struct lk_error *error) {
    const bool link = strcmp(view->kind, "link") == 0;
    char path[PATH_MAX];
    int rc = prepare_parent(view->target, link, path, rebuilt, error);
    if (rc < 0)
        return rc;
    const char *leaf = strrchr(view->target, '/');
    if (strlen(path) + strlen(leaf) >= PATH_MAX)
        return lk_fail_with(error, ENAMETOOLONG, "build the host's view", "%s", view->target);
    strcat(path, leaf);
    if (link) {
        if (symlink(view->source, path) < 0)
            return lk_fail(error, "link in the host's view", "%s", path);
        return 0;
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return lk_fail(error, "make in the host's view", "%s", path);
    struct lk_fd_path source;
    if (mount(lk_fd_path(&source, view->source_fd), path, NULL, MS_BIND | MS_REC, NULL) < 0)
        return lk_fail(error, "bind into the host's view", "%s", path);
    return 0;
}

/* A sysfs of the host's own, so that /sys/class/net lists its interfaces; cgroups stay in sight.
 * Where the kernel refuses, the machine's /sys stays: only the listing differs. */
static void fresh_sysfs(void) {
    static const char *const kept[] = {"fs/cgroup", "fs/bpf", "kernel/security"};
    LK_FD old = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old < 0 || mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        char source[64], target[64];
        snprintf(source, sizeof source, "/proc/self/fd/%d/%s", old, kept[i]);
        snprintf(target, sizeof target, "/sys/%s", kept[i]);
        (void)!mount(source, target, NULL, MS_BIND | MS_REC, NULL);
    }
}

/* Enters a user namespace whose maps the other end of `ready` writes. */
static int enter_new_user_namespace(int ready, struct lk_error *error) {
    if (unshare(CLONE_NEWUSER) < 0)
        return lk_fail(error, "make a user namespace", "unshare(CLONE_NEWUSER)");
    char answer;
    if (write(ready, "u", 1) != 1 || read(ready, &answer, 1) != 1)
        return lk_fail_with(error, EPIPE, "map ids", "the daemon went away");
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return lk_fail(error, "become root of the user namespace", "setresuid(0)");
    (void)!setgroups(0, NULL); /* refused where the map is a single id: then groups stay as they are */
    /* Changing ids makes a process undumpable, and its /proc files root's: undo that. */
    (void)prctl(PR_SET_DUMPABLE, 1);
    return 0;
}

static int build_host(const char *node, int ready, bool user, struct view *views, size_t count,
                      struct lk_error *error) {
    int rc = user ? enter_new_user_namespace(ready, error) : 0;
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(views[i].kind, "bind") != 0)
            continue;
        views[i].source_fd = open(views[i].source, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (views[i].source_fd < 0)
            return lk_fail(error, "open for the host's view", "%s", views[i].source);
    }
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS) < 0)
        return lk_fail(error, "make the host's namespaces", "unshare(mnt, net, uts)");
    rc = lk_own_root(MS_SLAVE, error);
    if (rc < 0)
        return rc;
    /* Descriptors opened before belong to the old mount namespace, whose mounts cannot be bound
     * into this one: open the same paths again. */
    for (size_t i = 0; i < count; i++) {
        if (views[i].source_fd < 0)
            continue;
        close(views[i].source_fd);
        views[i].source_fd = open(views[i].source, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (views[i].source_fd < 0)
            return lk_fail(error, "open for the host's view", "%s", views[i].source);
    }
    if (sethostname(node, strlen(node)) < 0)
        return lk_fail(error, "name the host", "%s", node);
    rc = bring_lo_up(error);
    if (rc < 0)
        return rc;
    fresh_sysfs();
    struct rebuilt rebuilt = {.count = 0};
    for (size_t i = 0; i < count; i++) {
        rc = show(&views[i], &rebuilt, error);
        if (views[i].source_fd >= 0)
            close(views[i].source_fd);
        views[i].source_fd = -1;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void report(int ready, const struct lk_error *error) {
    char text[LK_STEP_NAME + LK_DETAIL + 16];
    const int length =
        snprintf(text, sizeof text, "e%d%c%s: %s", error->number, 0, error->step, error->detail);
    (void)!write(ready, text, (size_t)length);
}

/* Leaves only the readable name that we were started under where ps looks: the argument strings
 * lie side by side. */
static void keep_only_name(int argc, char **argv) {
    char *const past_name = argv[-1] + strlen(argv[-1]);
    memset(past_name, 0, (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - past_name));
    (void)prctl(PR_SET_NAME, "labkit-anchor");
}

/* The host stands: says so, and holds it until somebody ends us. */
static _Noreturn void stay(int argc, char **argv, int ready) {
    keep_only_name(argc, argv);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    (void)!write(ready, "r", 1);
    close(ready);
    for (;;)
        pause();
}

static int hold(int argc, char **argv) {
    if (argc < 5)
        return 125;
    char node[65];
    snprintf(node, sizeof node, "%s", argv[2]);
    const int ready = atoi(argv[3]);
    const bool user = strcmp(argv[4], "user") == 0;
    struct view views[MAX_VIEWS];
    size_t count = 0;
    for (int i = 5; i + 2 < argc && count < MAX_VIEWS; i += 3)
        views[count++] = (struct view){argv[i], argv[i + 1], argv[i + 2], -1};
    (void)fcntl(ready, F_SETFD, FD_CLOEXEC);
    (void)!chdir("/");
    struct lk_error error = {0};
    if (build_host(node, ready, user, views, count, &error) < 0) {
        report(ready, &error);
        return 1;
    }
    stay(argc, argv, ready);
}

/* Takes the place of an anchor that was killed: the daemon still holds the namespaces open, and with
 * them everything in them, but only a process can be entered by its pid. */
static int rejoin(int argc, char **argv) {
    if (argc < 6)
        return 125;
    char node[65];
    snprintf(node, sizeof node, "%s", argv[2]);
    const int ready = atoi(argv[3]);
    struct lk_error error = {0};
    int rc = 0;
    (void)fcntl(ready, F_SETFD, FD_CLOEXEC);
    if (setns(atoi(argv[5]), CLONE_NEWNET) < 0 || setns(atoi(argv[4]), CLONE_NEWNS) < 0)
        rc = lk_fail(&error, "enter the host's namespaces again", "setns(mnt, net)");
    else if (unshare(CLONE_NEWUTS) < 0 || sethostname(node, strlen(node)) < 0)
        rc = lk_fail(&error, "name the host", "%s", node);
    if (rc < 0) {
        report(ready, &error);
        return 1;
    }
    close(atoi(argv[4]));
    close(atoi(argv[5]));
    stay(argc, argv, ready);
}

static int enter(int argc, char **argv) {
    if (argc < 6)
        return 125;
    const int target = atoi(argv[2]);
    const int kinds = atoi(argv[3]);
    if (setns(target, kinds) < 0) {
        fprintf(stderr, "labkit host: cannot enter the lab host: %s\n", strerror(errno));
        return 125;
    }
    close(target);
    if (kinds & CLONE_NEWUSER) {
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
            fprintf(stderr, "labkit host: cannot become root of the lab: %s\n", strerror(errno));
            return 125;
        }
        (void)prctl(PR_SET_DUMPABLE, 1);
    }
    if (chdir(argv[4]) < 0 && chdir("/") < 0)
        return 125;
    execvp(argv[5], argv + 5);
    const int reason = errno;
    if (reason == ENOENT)
        fprintf(stderr, "%s: command not found\n", argv[5]);
    else
        fprintf(stderr, "%s: %s\n", argv[5], strerror(reason));
    return reason == ENOENT ? 127 : 126;
}

/* One line per attempt: a name and an errno (0 is success). Everything tried dies with us. */
static int attempt(const char *name, int rc) {
    printf("%s %d\n", name, rc < 0 ? errno : 0);
    return rc;
}

static int write_text(const char *path, const char *text) {
    LK_FD file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    return write(file, text, strlen(text)) < 0 ? -1 : 0;
}

/* Whether the kernel answers when asked for nftables' tables (which loads it where it is a module). */
static int ask_nftables(void) {
    LK_FD sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    struct {
        struct nlmsghdr header;
        struct nfgenmsg family;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
    };
    char answer[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
    if (sock < 0 || send(sock, &request, sizeof request, 0) < 0)
        return -1;
    if (recv(sock, answer, sizeof answer, 0) < (ssize_t)sizeof(struct nlmsghdr))
        return -1;
    const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
    if (header->nlmsg_type != NLMSG_ERROR)
        return 0;
    const struct nlmsgerr *error = NLMSG_DATA(header);
    errno = -error->error;
    return error->error == 0 ? 0 : -1;
}

/* An overlay whose upper layer lies below `folder`; what was made for it is removed again. */
static int try_overlay(const char *folder, bool user) {
    char base[PATH_MAX], options[PATH_MAX];
    if (snprintf(base, sizeof base, "%s/.labkit-probe-XXXXXX", folder) >= PATH_MAX / 4) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (mkdtemp(base) == NULL)
        return -1;
    LK_FD at = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    static const char *const parts[] = {"l", "u", "w", "m"};
    for (size_t i = 0; i < 4; i++)
        (void)!mkdirat(at, parts[i], 0700);
    snprintf(options, sizeof options, "lowerdir=l,upperdir=u,workdir=w%s", user ? ",userxattr" : "");
    int rc = at < 0 || fchdir(at) < 0 ? -1 : mount("probe", "m", "overlay", 0, options);
    const int reason = errno;
    if (rc == 0)
        (void)umount2("m", 0);
    (void)unlinkat(at, "w/work", AT_REMOVEDIR);
    (void)unlinkat(at, "w/index", AT_REMOVEDIR);
    for (size_t i = 0; i < 4; i++)
        (void)unlinkat(at, parts[i], AT_REMOVEDIR);
    (void)!chdir("/");
    (void)rmdir(base);
    errno = reason;
    return rc;
}

static int probe(int argc, char **argv) {
    const bool user = argc > 2 && strcmp(argv[2], "user") == 0;
    char map[64];
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    if (user) {
        if (attempt("user", unshare(CLONE_NEWUSER)) < 0)
            return 0;
        snprintf(map, sizeof map, "0 %u 1", uid);
        (void)attempt("uid_map", write_text("/proc/self/uid_map", map));
        (void)write_text("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", gid);
        (void)attempt("gid_map", write_text("/proc/self/gid_map", map));
    }
    if (attempt("mnt", unshare(CLONE_NEWNS)) < 0)
        return 0;
    if (attempt("net", unshare(CLONE_NEWNET)) == 0)
        (void)attempt("nftables", ask_nftables());
    (void)attempt("uts", unshare(CLONE_NEWUTS));
    (void)attempt("ipc", unshare(CLONE_NEWIPC));
    (void)attempt("cgroup", unshare(CLONE_NEWCGROUP));
    struct lk_error error = {0};
    if (attempt("private", lk_own_root(MS_PRIVATE, &error)) < 0)
        return 0;
    if (argc > 3)
        (void)attempt("overlay_home", try_overlay(argv[3], user));
    if (attempt("tmpfs", mount("probe", "/tmp", "tmpfs", 0, "size=1m")) == 0) {
        (void)attempt("overlay", try_overlay("/tmp", user));
        LK_FD node = -1;
        const int made = mknod("/tmp/null", S_IFCHR | 0666, makedev(1, 3));
        if (made == 0)
            node = open("/tmp/null", O_RDWR | O_CLOEXEC);
        (void)attempt("mknod", made < 0 ? made : node);
    }
    fflush(stdout);
    if (attempt("pid", unshare(CLONE_NEWPID)) == 0) {
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            (void)attempt("proc", mount("proc", "/proc", "proc",
                                        MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
            fflush(stdout);
            _exit(0);
        }
        if (child > 0)
            (void)waitpid(child, NULL, 0);
    }
    fflush(stdout);
    return 0;
}

/* A user namespace with nobody but us in it, for as long as our input stays open: whoever started us
 * writes its maps and opens it, for an idmapped mount. */
static int offer_user_namespace(void) {
    char byte;
    if (unshare(CLONE_NEWUSER) < 0)
        return 1;
    if (write(STDOUT_FILENO, "r", 1) != 1)
        return 1;
    return read(STDIN_FILENO, &byte, 1) < 0;
}

int lk_anchor_main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "hold") == 0)
        return hold(argc, argv);
    if (strcmp(word, "rejoin") == 0)
        return rejoin(argc, argv);
    if (strcmp(word, "enter") == 0)
        return enter(argc, argv);
    if (strcmp(word, "probe") == 0)
        return probe(argc, argv);
    if (strcmp(word, "userns") == 0)
        return offer_user_namespace();
    fprintf(stderr, "labkit-shim anchor: unknown word %s\n", word);
    return 125;
}
