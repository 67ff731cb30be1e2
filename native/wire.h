/*
 * The container spec as the daemon sends it: one sealed memory file holding a header and records.
 *
 *   header   u32 magic, u32 version, u32 size of everything, u32 zero
 *   record   u16 tag, u16 zero, u32 length, then `length` bytes; the next record follows unpadded
 *
 * Numbers have the machine's own byte order (both ends run on it). A text record ends with its NUL
 * and has no other; a list of texts is texts one after another. Unknown tags, wrong lengths, a
 * repeated single record and stray NULs are refused, so a decoded spec holds nothing unchecked.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lk.h"

enum { LK_SPEC_MAGIC = 0x50534b4c /* "LKSP" */, LK_SPEC_VERSION = 1 };

enum lk_tag {
    LK_TAG_BASICS = 1,
    LK_TAG_ID,
    LK_TAG_HOSTNAME,
    LK_TAG_DOMAINNAME,
    LK_TAG_CWD,
    LK_TAG_LOG_NAME,
    LK_TAG_ARGS,
    LK_TAG_ENV,
    LK_TAG_GROUPS,
    LK_TAG_RLIMIT,
    LK_TAG_SECCOMP,
    LK_TAG_LOWER,
    LK_TAG_UPPER,
    LK_TAG_WORK,
    LK_TAG_ROOT,
    LK_TAG_MOUNT,
    LK_TAG_DEVICE,
    LK_TAG_MASKED,
    LK_TAG_READONLY,
    LK_TAG_SYSCTL,
    LK_TAG_UID_MAP,
    LK_TAG_GID_MAP,
    LK_TAG_JOIN,
    LK_TAG_CGROUP,
    LK_TAG_DETACHED,
    LK_TAG_KEEP,
    LK_TAG_IDMAP, /* follows the mount it belongs to */
    LK_TAG_GROUP_NAME,
    LK_TAG_GROUP_FOLDER,
    LK_TAG_GROUP_WRITE,
    LK_TAG_GROUP_PROGRAM,
    LK_TAG_FOREIGN_MAKE,
    LK_TAG_FOREIGN_GO,
    LK_TAG_FOREIGN_HIDDEN,
    LK_TAG_COUNT,
};

enum lk_flag {
    LK_HOLD = 1 << 0,
    LK_TTY = 1 << 1,
    LK_INIT = 1 << 2,
    LK_NO_NEW_PRIVS = 1 << 3,
    LK_READONLY_ROOT = 1 << 4,
    LK_OPEN_STDIN = 1 << 5,
    LK_STDIN_ONCE = 1 << 6,
    LK_PRIVILEGED = 1 << 7,
    LK_EXEC = 1 << 8,
    LK_HAS_CAPS = 1 << 9,
    LK_HAS_OOM = 1 << 10,
    LK_USERXATTR = 1 << 11,
    LK_STOP_BUILT = 1 << 12, /* once before pivot_root, for the hooks of an OCI bundle */
    LK_FLAGS_ALL = (1 << 13) - 1,
};

/* A list of texts as it came: one after another, each with its NUL. */
struct lk_texts {
    const char *first; /* NULL: none */
    size_t size;
};

/* Fixed-size part. Descriptors are numbers in the shim, or -1. */
struct lk_basics {
    uint32_t flags;
    uint32_t umask;
    uint64_t clone_flags; /* CLONE_NEW*: namespaces to create */
    uint32_t uid, gid;
    int32_t oom_score_adj;
    uint16_t rows, columns;
    int32_t state_fd;     /* folder for shim.sock, exit.json, timeline.bin */
    int32_t log_fd;       /* folder of the log */
    int32_t target_pidfd; /* exec: the container's first process */
    int32_t target_pid;
    int32_t host_mnt, host_net;
    int32_t cgroup_fd;    /* v2: folder to clone into */
    int32_t log_files;
    int64_t log_bytes;    /* -1: never rotate */
    uint64_t bounding, permitted, effective, inheritable, ambient;
};

enum lk_mount_kind {
    LK_MOUNT_BIND = 1,
    LK_MOUNT_TMPFS,
    LK_MOUNT_PROC,
    LK_MOUNT_SYSFS,
    LK_MOUNT_DEVPTS,
    LK_MOUNT_MQUEUE,
    LK_MOUNT_CGROUP1, /* source: the hierarchies, by the names of their folders */
    LK_MOUNT_CGROUP2,
    LK_MOUNT_KINDS,
};
enum lk_create { LK_CREATE_NO = 0, LK_CREATE_DIR, LK_CREATE_FILE, LK_CREATES };
enum lk_mount_flag {
    LK_RDONLY = 1 << 0,
    LK_NOSUID = 1 << 1,
    LK_NODEV = 1 << 2,
    LK_NOEXEC = 1 << 3,
    LK_RECURSIVE = 1 << 4,
    LK_PROPAGATE_RECURSIVE = 1 << 5,
    LK_MOUNT_FLAGS_ALL = (1 << 6) - 1,
};

struct lk_mount {
    enum lk_mount_kind kind;
    enum lk_create create;
    uint32_t flags;
    uint32_t propagation; /* MS_PRIVATE, MS_SLAVE, MS_SHARED, or 0 for the namespace's own */
    int32_t idmap; /* a user namespace whose ids the mount shows, or -1 */
    const char *target, *source, *data;
};

/*
 * A process that outlives whoever starts it (native/oci.c): it has these descriptors as its stdio
 * (a terminal of its own instead with LK_TTY), and when held it waits for a connection to the
 * listening socket `start` rather than for the shim. -1 where there is none.
 */
struct lk_detached {
    int32_t start, input, output, errors;
};

/*
 * The control group to be born in: a folder `group_name` below each of the lab's own folders, which
 * are open in whoever reads this (nursery.h) and named by their numbers there; then what to write
 * into its files. Writes are counted from zero, for those that fail are named by their number.
 */
enum { LK_GROUP_MAKE = 1 << 0, LK_GROUP_UNIFIED = 1 << 1, LK_GROUP_FLAGS_ALL = (1 << 2) - 1 };
struct lk_group_folder {
    uint32_t base, flags;
};
struct lk_group_write {
    uint16_t folder;   /* of the records before */
    uint16_t optional; /* 1: a file that is missing or refuses is a warning */
    const char *file, *value;
};

struct lk_pair {
    const char *first, *second;
};
struct lk_rlimit {
    uint32_t resource;
    uint64_t soft, hard;
};
struct lk_join {
    uint32_t kind; /* CLONE_NEW* */
    int32_t fd;
};

struct lk_spec {
    struct lk_basics basics;
    const char *id, *hostname, *domainname, *cwd, *log_name; /* never NULL, may be empty */
    const char *upper, *work, *root, *uid_map, *gid_map;     /* never NULL, may be empty */
    char **args, **env;                                      /* NULL-terminated */
    size_t arg_count, env_count;
    const uint32_t *groups;
    size_t group_count;
    struct lk_rlimit *rlimits;
    size_t rlimit_count;
    const struct sock_filter *seccomp;
    size_t seccomp_count;
    const char **lowers;
    size_t lower_count;
    struct lk_mount *mounts;
    size_t mount_count;
    struct lk_pair *devices; /* path, source */
    size_t device_count;
    const char **masked;
    size_t masked_count;
    const char **readonly;
    size_t readonly_count;
    struct lk_pair *sysctls;
    size_t sysctl_count;
    struct lk_join *joins;
    size_t join_count;
    int32_t *cgroups; /* v1: tasks files, opened for writing */
    size_t cgroup_count;
    struct lk_texts foreign_make, foreign_go; /* another runtime's command lines (foreign.c) */
    const char *foreign_hidden;               /* a mount to hide from it; may be empty */
    struct lk_detached detached;
    bool is_detached;
    int32_t *kept; /* these become 3, 4, … of the program */
    size_t kept_count;
    const char *group_name; /* never NULL, may be empty */
    struct lk_group_folder *group_folders;
    size_t group_folder_count;
    struct lk_group_write *group_writes;
    size_t group_write_count;
    int32_t group_program; /* v2: loaded, to be attached for devices; -1: none */
    void *arena;      /* everything above that is not in the message itself */
};

/*
 * Decodes `size` bytes at `data`, which must stay mapped and writable-private (argument vectors
 * point into it) as long as the spec is used. 0 or a negative errno with the error filled in.
 */
int lk_spec_decode(struct lk_spec *spec, char *data, size_t size, struct lk_error *error);
void lk_spec_free(struct lk_spec *spec);
