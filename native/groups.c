#include "groups.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "launch.h"

static void refuse(char *warnings, size_t size, const char *what, int number) {
    const size_t used = strlen(warnings);
    (void)snprintf(warnings + used, size - used, "%s%c%s %d", used ? "\n" : "", LK_GROUP_REFUSED, what,
                   number);
}

/* These say that a controller or a file is not to be had here; others, that a value is wrong. */
static bool is_absence(int number) {
    return number == ENOENT || number == EACCES || number == EPERM || number == EROFS ||
           number == ENODEV || number == EOPNOTSUPP;
}

void lk_groups_prepare(struct lk_ground *ground) {
    if (ground->unified)
        return;
    (void)snprintf(ground->spare_group, sizeof ground->spare_group, "~%d", getpid());
    for (size_t i = 0; i < ground->base_count; i++)
        (void)mkdirat(ground->bases[i], ground->spare_group, 0755);
}

void lk_groups_discard(const struct lk_ground *ground) {
    for (size_t i = 0; ground->spare_group[0] != 0 && i < ground->base_count; i++)
        (void)unlinkat(ground->bases[i], ground->spare_group, AT_REMOVEDIR);
}

static int make_folder(const struct lk_ground *ground, int base, const char *name) {
    if (ground->spare_group[0] != 0 && renameat(base, ground->spare_group, base, name) == 0)
        return 0;
    return mkdirat(base, name, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

static int open_folder(const struct lk_spec *spec, const struct lk_ground *ground,
                       const struct lk_group_folder *folder, struct lk_group_handles *handles,
                       struct lk_error *error) {
    const int base = ground->bases[folder->base];
    char tasks[300];
    if (folder->flags & LK_GROUP_MAKE && make_folder(ground, base, spec->group_name) < 0)
        return lk_fail(error, "make control groups", "%s", spec->group_name);
    if (folder->flags & LK_GROUP_UNIFIED) {
        handles->directory = openat(base, spec->group_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return handles->directory < 0 ? lk_fail(error, "make control groups", "%s", spec->group_name) : 0;
    }
    (void)snprintf(tasks, sizeof tasks, "%s/tasks", spec->group_name);
    const int fd = openat(base, tasks, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return lk_fail(error, "make control groups", "%s", tasks);
    handles->tasks[handles->task_count++] = fd;
    return 0;
}

static int open_folders(const struct lk_spec *spec, const struct lk_ground *ground,
                        struct lk_group_handles *handles, struct lk_error *error) {
    for (size_t i = 0; i < spec->group_folder_count; i++) {
        const struct lk_group_folder *folder = &spec->group_folders[i];
        if (folder->base >= ground->base_count)
            return lk_fail_with(error, EBADMSG, "make control groups", "hierarchy %u", folder->base);
        const int status = open_folder(spec, ground, folder, handles, error);
        if (status < 0)
            return status;
    }
    return 0;
}

static int write_settings(const struct lk_spec *spec, const int *bases, char *warnings, size_t size,
                          struct lk_error *error) {
    LK_FD fd = -1;
    for (size_t i = 0; i < spec->group_write_count; i++) {
        const struct lk_group_write *write_ = &spec->group_writes[i];
        const struct lk_group_write *last = i > 0 ? write_ - 1 : NULL;
        /* A list goes into one file line by line. */
        if (fd < 0 || last == NULL || last->folder != write_->folder || strcmp(last->file, write_->file) != 0) {
            char path[512];
            lk_close_fd(&fd);
            (void)snprintf(path, sizeof path, "%s/%s", spec->group_name, write_->file);
            fd = openat(bases[spec->group_folders[write_->folder].base], path,
                        O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        }
        const size_t length = strlen(write_->value);
        if (fd >= 0 && write(fd, write_->value, length) == (ssize_t)length)
            continue;
        if (!write_->optional || !is_absence(errno))
            return lk_fail(error, "set a limit", "%zu", i);
        char number[24];
        const int saved = errno;
        (void)snprintf(number, sizeof number, "%zu", i);
        refuse(warnings, size, number, saved);
    }
    return 0;
}

/* What v1 has the devices controller for (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE). */
static void attach_program(const struct lk_spec *spec, int directory, char *warnings, size_t size) {
    union bpf_attr attributes = {.target_fd = (uint32_t)directory,
                                 .attach_bpf_fd = (uint32_t)spec->group_program,
                                 .attach_type = BPF_CGROUP_DEVICE,
                                 .attach_flags = BPF_F_ALLOW_MULTI};
    if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attributes, sizeof attributes) < 0)
        refuse(warnings, size, "p", errno);
}

int lk_groups_make(const struct lk_spec *spec, const struct lk_ground *ground,
                   struct lk_timeline *timeline, struct lk_group_handles *handles, char *warnings,
                   size_t size, struct lk_error *error) {
    *handles = (struct lk_group_handles){.directory = -1};
    if (spec->group_folder_count == 0)
        return 0;
    const char *name = spec->group_name;
    if (spec->group_folder_count > LK_GROUP_FOLDERS_MAX || name[0] == 0 || strlen(name) > 255 ||
        strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return lk_fail_with(error, EBADMSG, "make control groups", "%.64s", name);
    struct lk_step *step =
        lk_begin(timeline, LK_BY_SHIM,
                 spec->group_folders[0].flags & LK_GROUP_MAKE ? "make control groups" : "open control groups",
                 spec->group_folders[0].flags & LK_GROUP_MAKE ? "mkdirat(), write()" : "openat()",
                 "%zu hierarchies, %zu settings", spec->group_folder_count, spec->group_write_count);
    int status = open_folders(spec, ground, handles, error);
    if (status == 0)
        status = write_settings(spec, ground->bases, warnings, size, error);
    if (status == 0 && spec->group_program >= 0 && handles->directory >= 0)
        attach_program(spec, handles->directory, warnings, size);
    return lk_end(step, status);
}

void lk_groups_close(struct lk_group_handles *handles) {
    for (size_t i = 0; i < handles->task_count; i++)
        (void)close(handles->tasks[i]);
    lk_close_fd(&handles->directory);
    *handles = (struct lk_group_handles){.directory = -1};
}
