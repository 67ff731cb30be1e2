#include "wire.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define STEP "decode the spec"

/* A read position inside one record. */
struct cursor {
    char *next;
    size_t left;
};

static int bad(struct lk_error *error, const char *what, unsigned tag) {
    return lk_fail_with(error, EBADMSG, STEP, "%s (record %u)", what, tag);
}

/* Takes one text with its NUL; NULL when there is none. */
static char *take_text(struct cursor *cursor) {
    char *end = memchr(cursor->next, 0, cursor->left);
    if (end == NULL)
        return NULL;
    char *text = cursor->next;
    cursor->left -= (size_t)(end + 1 - text);
    cursor->next = end + 1;
    return text;
}

static bool take_bytes(struct cursor *cursor, void *target, size_t size) {
    if (cursor->left < size)
        return false;
    memcpy(target, cursor->next, size);
    cursor->next += size;
    cursor->left -= size;
    return true;
}

static bool one_text(struct cursor *cursor, const char **target) {
    *target = take_text(cursor);
    return *target != NULL && cursor->left == 0;
}

static size_t count_texts(const struct cursor *cursor) {
    size_t count = 0;
    for (size_t i = 0; i < cursor->left; i++)
        count += cursor->next[i] == 0;
    return count;
}

static bool text_list(struct cursor *cursor, char **list) {
    size_t count = 0;
    while (cursor->left > 0) {
        list[count] = take_text(cursor);
        if (list[count] == NULL)
            return false;
        count++;
    }
    list[count] = NULL;
    return true;
}

static bool decode_mount(struct cursor *cursor, struct lk_mount *mount) {
    uint8_t kind, create;
    uint16_t zero;
    if (!take_bytes(cursor, &kind, 1) || !take_bytes(cursor, &create, 1) ||
        !take_bytes(cursor, &zero, 2) || !take_bytes(cursor, &mount->flags, 4) ||
        !take_bytes(cursor, &mount->propagation, 4))
        return false;
    if (kind < LK_MOUNT_BIND || kind >= LK_MOUNT_KINDS || create >= LK_CREATES || zero != 0 ||
        (mount->flags & ~(uint32_t)LK_MOUNT_FLAGS_ALL) != 0)
        return false;
    const uint32_t propagation = mount->propagation;
    if (propagation != 0 && propagation != MS_PRIVATE && propagation != MS_SLAVE &&
        propagation != MS_SHARED)
        return false;
    mount->kind = (enum lk_mount_kind)kind;
    mount->idmap = -1;
    mount->create = (enum lk_create)create;
    mount->target = take_text(cursor);
    mount->source = mount->target ? take_text(cursor) : NULL;
    mount->data = mount->source ? take_text(cursor) : NULL;
    return mount->data != NULL && cursor->left == 0;
}

static bool decode_pair(struct cursor *cursor, struct lk_pair *pair) {
    pair->first = take_text(cursor);
    pair->second = pair->first ? take_text(cursor) : NULL;
    return pair->second != NULL && cursor->left == 0;
}

static bool decode_basics(struct cursor *cursor, struct lk_basics *basics) {
    const uint64_t kinds = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET |
                           CLONE_NEWCGROUP | CLONE_NEWUSER;
    return take_bytes(cursor, basics, sizeof *basics) && cursor->left == 0 &&
           (basics->flags & ~(uint32_t)LK_FLAGS_ALL) == 0 && (basics->clone_flags & ~kinds) == 0 &&
           basics->umask <= 0777;
}

static bool decode_rlimit(struct cursor *cursor, struct lk_rlimit *limit) {
    uint32_t zero;
    return take_bytes(cursor, &limit->resource, 4) && take_bytes(cursor, &zero, 4) && zero == 0 &&
           take_bytes(cursor, &limit->soft, 8) && take_bytes(cursor, &limit->hard, 8) &&
           cursor->left == 0;
}

static bool decode_join(struct cursor *cursor, struct lk_join *join) {
    return take_bytes(cursor, &join->kind, 4) && take_bytes(cursor, &join->fd, 4) &&
           cursor->left == 0;
}

static bool decode_texts(const struct cursor *cursor, struct lk_texts *texts) {
    *texts = (struct lk_texts){cursor->next, cursor->left};
    return cursor->left > 0 && cursor->next[cursor->left - 1] == 0;
}

static bool decode_detached(struct cursor *cursor, struct lk_spec *spec) {
    spec->is_detached = true;
    return take_bytes(cursor, &spec->detached, sizeof spec->detached) && cursor->left == 0;
}

static bool decode_idmap(struct cursor *cursor, struct lk_spec *spec) {
    return spec->mount_count > 0 &&
           take_bytes(cursor, &spec->mounts[spec->mount_count - 1].idmap, 4) && cursor->left == 0;
}

static bool decode_group_folder(struct cursor *cursor, struct lk_group_folder *folder) {
    return take_bytes(cursor, folder, sizeof *folder) && cursor->left == 0 &&
           (folder->flags & ~(uint32_t)LK_GROUP_FLAGS_ALL) == 0;
}

static bool decode_group_write(struct cursor *cursor, const struct lk_spec *spec,
                               struct lk_group_write *write) {
    if (!take_bytes(cursor, &write->folder, 2) || !take_bytes(cursor, &write->optional, 2) ||
        write->folder >= spec->group_folder_count || write->optional > 1)
        return false;
    write->file = take_text(cursor);
    write->value = write->file ? take_text(cursor) : NULL;
    return write->value != NULL && cursor->left == 0;
}

/* Where a text record goes, for tags that may appear once. */
static const char **text_field(struct lk_spec *spec, unsigned tag) {
    switch (tag) {
    case LK_TAG_ID: return &spec->id;
    case LK_TAG_HOSTNAME: return &spec->hostname;
    case LK_TAG_DOMAINNAME: return &spec->domainname;
    case LK_TAG_CWD: return &spec->cwd;
    case LK_TAG_LOG_NAME: return &spec->log_name;
    case LK_TAG_UPPER: return &spec->upper;
    case LK_TAG_WORK: return &spec->work;
    case LK_TAG_ROOT: return &spec->root;
    case LK_TAG_UID_MAP: return &spec->uid_map;
    case LK_TAG_GID_MAP: return &spec->gid_map;
    case LK_TAG_GROUP_NAME: return &spec->group_name;
    case LK_TAG_FOREIGN_HIDDEN: return &spec->foreign_hidden;
    default: return NULL;
    }
}

static bool decode_record(struct lk_spec *spec, unsigned tag, struct cursor cursor) {
    const char **text = text_field(spec, tag);
    if (text != NULL)
        return one_text(&cursor, text);
    switch (tag) {
    case LK_TAG_BASICS: return decode_basics(&cursor, &spec->basics);
    case LK_TAG_ARGS: return text_list(&cursor, spec->args);
    case LK_TAG_ENV: return text_list(&cursor, spec->env);
    case LK_TAG_GROUPS:
        spec->group_count = cursor.left / sizeof(uint32_t);
        if (spec->group_count > 0)
            memcpy((void *)(uintptr_t)spec->groups, cursor.next, cursor.left);
        return cursor.left % sizeof(uint32_t) == 0;
    case LK_TAG_RLIMIT: return decode_rlimit(&cursor, &spec->rlimits[spec->rlimit_count++]);
    case LK_TAG_SECCOMP:
        spec->seccomp_count = cursor.left / sizeof(struct sock_filter);
        memcpy((void *)(uintptr_t)spec->seccomp, cursor.next, cursor.left);
        return cursor.left % sizeof(struct sock_filter) == 0 && spec->seccomp_count > 0 &&
               spec->seccomp_count <= BPF_MAXINSNS;
    case LK_TAG_LOWER: return one_text(&cursor, &spec->lowers[spec->lower_count++]);
    case LK_TAG_MOUNT: return decode_mount(&cursor, &spec->mounts[spec->mount_count++]);
    case LK_TAG_DEVICE: return decode_pair(&cursor, &spec->devices[spec->device_count++]);
    case LK_TAG_MASKED: return one_text(&cursor, &spec->masked[spec->masked_count++]);
    case LK_TAG_READONLY: return one_text(&cursor, &spec->readonly[spec->readonly_count++]);
    case LK_TAG_SYSCTL: return decode_pair(&cursor, &spec->sysctls[spec->sysctl_count++]);
    case LK_TAG_JOIN: return decode_join(&cursor, &spec->joins[spec->join_count++]);
    case LK_TAG_CGROUP:
        return take_bytes(&cursor, &spec->cgroups[spec->cgroup_count++], 4) && cursor.left == 0;
    case LK_TAG_DETACHED: return decode_detached(&cursor, spec);
    case LK_TAG_KEEP:
        return take_bytes(&cursor, &spec->kept[spec->kept_count++], 4) && cursor.left == 0;
    case LK_TAG_IDMAP: return decode_idmap(&cursor, spec);
    case LK_TAG_FOREIGN_MAKE: return decode_texts(&cursor, &spec->foreign_make);
    case LK_TAG_FOREIGN_GO: return decode_texts(&cursor, &spec->foreign_go);
    case LK_TAG_GROUP_FOLDER:
        return decode_group_folder(&cursor, &spec->group_folders[spec->group_folder_count++]);
    case LK_TAG_GROUP_WRITE:
        return decode_group_write(&cursor, spec, &spec->group_writes[spec->group_write_count++]);
    case LK_TAG_GROUP_PROGRAM:
        return take_bytes(&cursor, &spec->group_program, 4) && cursor.left == 0;
    default: return false;
    }
}

static bool may_repeat(unsigned tag) {
    switch (tag) {
    case LK_TAG_RLIMIT: case LK_TAG_LOWER: case LK_TAG_MOUNT: case LK_TAG_DEVICE:
    case LK_TAG_MASKED: case LK_TAG_READONLY: case LK_TAG_SYSCTL: case LK_TAG_JOIN:
    case LK_TAG_CGROUP: case LK_TAG_KEEP: case LK_TAG_IDMAP: case LK_TAG_GROUP_FOLDER:
    case LK_TAG_GROUP_WRITE:
        return true;
    default:
        return false;
    }
}

struct survey {
    size_t records[LK_TAG_COUNT];
    struct cursor args, env; /* lists whose size decides an allocation */
    size_t group_bytes, seccomp_bytes;
};

/* Calls `decode_record` for every record, or only counts them when `survey` is given. */
static int walk(struct lk_spec *spec, char *data, size_t size, struct survey *survey,
                struct lk_error *error) {
    struct cursor cursor = {data, size};
    struct {
        uint32_t magic, version, size, zero;
    } header;
    if (!take_bytes(&cursor, &header, sizeof header) || header.magic != LK_SPEC_MAGIC ||
        header.version != LK_SPEC_VERSION || header.size != size || header.zero != 0)
        return bad(error, "not a spec of this version", 0);
    while (cursor.left > 0) {
        struct {
            uint16_t tag, zero;
            uint32_t length;
        } record;
        if (!take_bytes(&cursor, &record, sizeof record) || record.zero != 0)
            return bad(error, "truncated record", 0);
        if (record.length > cursor.left)
            return bad(error, "record longer than the message", record.tag);
        if (record.tag == 0 || record.tag >= LK_TAG_COUNT)
            return bad(error, "unknown record", record.tag);
        const struct cursor body = {cursor.next, record.length};
        if (survey != NULL) {
            if (survey->records[record.tag]++ > 0 && !may_repeat(record.tag))
                return bad(error, "repeated record", record.tag);
            if (record.tag == LK_TAG_ARGS)
                survey->args = body;
            else if (record.tag == LK_TAG_ENV)
                survey->env = body;
            else if (record.tag == LK_TAG_GROUPS)
                survey->group_bytes = body.left;
            else if (record.tag == LK_TAG_SECCOMP)
                survey->seccomp_bytes = body.left;
        } else if (!decode_record(spec, record.tag, body)) {
            return bad(error, "malformed record", record.tag);
        }
        cursor.next += record.length;
        cursor.left -= record.length;
    }
    return 0;
}

/* Cuts `count` objects of `size` bytes from the arena; sizes are multiples of eight throughout. */
static void *cut(char **arena, size_t count, size_t size) {
    char *start = *arena;
    *arena += (count * size + 7) & ~(size_t)7;
    return start;
}

static int allocate(struct lk_spec *spec, const struct survey *survey, struct lk_error *error) {
    const size_t *n = survey->records;
    const size_t args = count_texts(&survey->args) + 1, env = count_texts(&survey->env) + 1;
    const size_t total = (args + env + n[LK_TAG_LOWER] + n[LK_TAG_MASKED] + n[LK_TAG_READONLY]) *
                             sizeof(char *) +
                         n[LK_TAG_RLIMIT] * sizeof(struct lk_rlimit) +
                         n[LK_TAG_MOUNT] * sizeof(struct lk_mount) +
                         (n[LK_TAG_DEVICE] + n[LK_TAG_SYSCTL]) * sizeof(struct lk_pair) +
                         n[LK_TAG_JOIN] * sizeof(struct lk_join) +
                         (n[LK_TAG_CGROUP] + n[LK_TAG_KEEP]) * 4 +
                         n[LK_TAG_GROUP_FOLDER] * sizeof(struct lk_group_folder) +
                         n[LK_TAG_GROUP_WRITE] * sizeof(struct lk_group_write) +
                         survey->group_bytes + survey->seccomp_bytes + (size_t)18 * 8;
    char *arena = spec->arena = calloc(1, total);
    if (arena == NULL)
        return lk_fail(error, STEP, "%zu bytes", total);
    spec->args = cut(&arena, args, sizeof(char *));
    spec->env = cut(&arena, env, sizeof(char *));
    spec->arg_count = args - 1;
    spec->env_count = env - 1;
    spec->lowers = cut(&arena, n[LK_TAG_LOWER], sizeof(char *));
    spec->masked = cut(&arena, n[LK_TAG_MASKED], sizeof(char *));
    spec->readonly = cut(&arena, n[LK_TAG_READONLY], sizeof(char *));
    spec->rlimits = cut(&arena, n[LK_TAG_RLIMIT], sizeof(struct lk_rlimit));
    spec->mounts = cut(&arena, n[LK_TAG_MOUNT], sizeof(struct lk_mount));
    spec->devices = cut(&arena, n[LK_TAG_DEVICE], sizeof(struct lk_pair));
    spec->sysctls = cut(&arena, n[LK_TAG_SYSCTL], sizeof(struct lk_pair));
    spec->joins = cut(&arena, n[LK_TAG_JOIN], sizeof(struct lk_join));
    spec->cgroups = cut(&arena, n[LK_TAG_CGROUP], sizeof(int32_t));
    spec->kept = cut(&arena, n[LK_TAG_KEEP], sizeof(int32_t));
    spec->group_folders = cut(&arena, n[LK_TAG_GROUP_FOLDER], sizeof(struct lk_group_folder));
    spec->group_writes = cut(&arena, n[LK_TAG_GROUP_WRITE], sizeof(struct lk_group_write));
    spec->groups = cut(&arena, survey->group_bytes, 1);
    spec->seccomp = cut(&arena, survey->seccomp_bytes, 1);
    return 0;
}

int lk_spec_decode(struct lk_spec *spec, char *data, size_t size, struct lk_error *error) {
    struct survey survey = {0};
    *spec = (struct lk_spec){.id = "", .hostname = "", .domainname = "", .cwd = "", .log_name = "",
                             .upper = "", .work = "", .root = "", .uid_map = "", .gid_map = "",
                             .foreign_hidden = "", .group_name = "", .group_program = -1};
    int status = walk(spec, data, size, &survey, error);
    if (status == 0 && survey.records[LK_TAG_BASICS] != 1)
        status = bad(error, "missing record", LK_TAG_BASICS);
    if (status == 0 && count_texts(&survey.args) == 0)
        status = bad(error, "nothing to run", LK_TAG_ARGS);
    if (status == 0)
        status = allocate(spec, &survey, error);
    if (status == 0)
        status = walk(spec, data, size, NULL, error);
    if (status < 0)
        lk_spec_free(spec);
    return status;
}

void lk_spec_free(struct lk_spec *spec) {
    free(spec->arena);
    spec->arena = NULL;
}
