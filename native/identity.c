#include "identity.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 64-bit masks of capability numbers, in the two halves capset(2) wants. */
static int set_capabilities(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return (int)syscall(SYS_capset, &header, data);
}

static int get_capabilities(uint64_t *permitted, uint64_t *effective) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    return 0;
}

static int limit_bounding(uint64_t allowed) {
    for (int number = 0; number < 64; number++) {
        if (allowed >> number & 1)
            continue;
        /* EINVAL: the kernel has no such capability, and none above it. */
        if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0)
            return errno == EINVAL ? 0 : -1;
    }
    return 0;
}

static int change_user(const struct lk_spec *spec, char *warnings, size_t size,
                       struct lk_error *error) {
    const struct lk_basics *basics = &spec->basics;
    if (setgroups(spec->group_count, (const gid_t *)spec->groups) < 0) {
        /* In a user namespace of few ids groups may be denied, or have no number there. What can be
         * dropped is dropped; with all ids at hand a refusal is a refusal. */
        if (!(basics->flags & LK_USERXATTR) || (errno != EPERM && errno != EINVAL))
            return lk_fail(error, "change user", "supplementary groups");
        (void)setgroups(0, NULL);
        if (spec->group_count > 0) {
            const size_t used = strlen(warnings);
            (void)snprintf(warnings + used, size - used,
                           "%ssupplementary groups cannot be given in this user namespace",
                           used ? "\n" : "");
        }
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return lk_fail(error, "change user", "keep capabilities");
    if (setresgid(basics->gid, basics->gid, basics->gid) < 0)
        return lk_fail(error, "change user", "gid %u", basics->gid);
    if (setresuid(basics->uid, basics->uid, basics->uid) < 0)
        return lk_fail(error, "change user", "uid %u", basics->uid);
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return lk_fail(error, "change user", "keep capabilities");
    return 0;
}

int lk_become_user(const struct lk_spec *spec, char *warnings, size_t size,
                   struct lk_timeline *timeline, struct lk_error *error) {
    const struct lk_basics *basics = &spec->basics;
    if (basics->flags & LK_HAS_CAPS) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "limit capabilities",
                                        "prctl(PR_CAPBSET_DROP)", "%d may ever be gained again",
                                        __builtin_popcountll(basics->bounding));
        if (lk_end(step, limit_bounding(basics->bounding) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "limit capabilities", "bounding set");
    }
    struct lk_step *step =
        lk_begin(timeline, LK_BY_CHILD, "change user", "setgroups(), setresgid(), setresuid()",
                 "uid %u, gid %u, %zu groups", basics->uid, basics->gid, spec->group_count);
    int status = change_user(spec, warnings, size, error);
    if (status == 0 && basics->uid != 0) {
        /* Leaving uid 0 cleared the effective set; the permitted one was kept for the filter. */
        uint64_t permitted, effective;
        if (get_capabilities(&permitted, &effective) < 0 ||
            set_capabilities(permitted, permitted, 0) < 0)
            status = lk_fail(error, "change user", "capabilities");
    }
    return lk_end(step, status);
}

static int load_filter(const struct lk_spec *spec) {
    struct sock_fprog program = {.len = (unsigned short)spec->seccomp_count,
                                 .filter = (struct sock_filter *)(uintptr_t)spec->seccomp};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static int final_capabilities(const struct lk_spec *spec, struct lk_error *error) {
    const struct lk_basics *basics = &spec->basics;
    uint64_t permitted, effective;
    if (get_capabilities(&permitted, &effective) < 0)
        return lk_fail(error, "drop capabilities", "read the present ones");
    /* What we do not hold cannot be given; a lab host may itself be confined. */
    const uint64_t give = basics->permitted & permitted;
    if (set_capabilities(give, basics->effective & give, basics->inheritable & give) < 0)
        return lk_fail(error, "drop capabilities", "permitted, effective and inheritable sets");
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int number = 0; number < 64; number++)
        if ((basics->ambient & give) >> number & 1 &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0)
            return lk_fail(error, "drop capabilities", "ambient capability %d", number);
    return 0;
}

int lk_drop_privileges(const struct lk_spec *spec, struct lk_timeline *timeline,
                       struct lk_error *error) {
    const struct lk_basics *basics = &spec->basics;
    if (basics->flags & LK_NO_NEW_PRIVS) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "forbid new privileges",
                                        "prctl(PR_SET_NO_NEW_PRIVS)", "setuid files lose their effect");
        if (lk_end(step, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "forbid new privileges", "no_new_privs");
    }
    if (spec->seccomp_count > 0) {
        struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "load seccomp filter",
                                        "seccomp(SECCOMP_SET_MODE_FILTER)",
                                        "%zu BPF instructions", spec->seccomp_count);
        if (lk_end(step, load_filter(spec) < 0 ? -errno : 0) < 0)
            return lk_fail(error, "load seccomp filter", "%zu instructions", spec->seccomp_count);
    }
    if (!(basics->flags & LK_HAS_CAPS))
        return 0;
    struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "drop capabilities", "capset()",
                                    "%d remain permitted, %d in effect",
                                    __builtin_popcountll(basics->permitted),
                                    __builtin_popcountll(basics->effective));
    return lk_end(step, final_capabilities(spec, error));
}

static void warn(char *warnings, size_t size, const char *text, uint64_t wanted, uint64_t allowed) {
    const size_t used = strlen(warnings);
    (void)snprintf(warnings + used, size - used, "%s%s %llu is not allowed here, %llu is used",
                   used ? "\n" : "", text, (unsigned long long)wanted, (unsigned long long)allowed);
}

static const char *limit_name(uint32_t resource) {
    static const char *const names[] = {"cpu",    "fsize",  "data",  "stack",   "core",   "rss",
                                        "nproc",  "nofile", "memlock", "as",    "locks",  "sigpending",
                                        "msgqueue", "nice", "rtprio", "rttime"};
    return resource < sizeof names / sizeof names[0] ? names[resource] : "limit";
}

int lk_set_limits(const struct lk_spec *spec, char *warnings, size_t size,
                  struct lk_timeline *timeline, struct lk_error *error) {
    if (spec->rlimit_count == 0)
        return 0;
    struct lk_step *step = lk_begin(timeline, LK_BY_CHILD, "set resource limits", "prlimit()",
                                    "%zu limits", spec->rlimit_count);
    for (size_t i = 0; i < spec->rlimit_count; i++) {
        const struct lk_rlimit *wanted = &spec->rlimits[i];
        struct rlimit limit = {wanted->soft, wanted->hard}, present;
        if (setrlimit((int)wanted->resource, &limit) == 0)
            continue;
        /* Raising a hard limit needs CAP_SYS_RESOURCE: come as close as this machine lets us. */
        if (errno != EPERM || getrlimit((int)wanted->resource, &present) < 0)
            return lk_end(step, lk_fail(error, "set resource limits", "%s", limit_name(wanted->resource)));
        limit.rlim_max = wanted->hard < present.rlim_max ? wanted->hard : present.rlim_max;
        limit.rlim_cur = wanted->soft < limit.rlim_max ? wanted->soft : limit.rlim_max;
        if (setrlimit((int)wanted->resource, &limit) < 0)
            return lk_end(step, lk_fail(error, "set resource limits", "%s", limit_name(wanted->resource)));
        char name[40];
        (void)snprintf(name, sizeof name, "ulimit %s", limit_name(wanted->resource));
        warn(warnings, size, name, wanted->hard, limit.rlim_max);
    }
    return lk_end(step, 0);
}
