/*
 * Small files in the folder of the process, for a daemon that was not there.
 *
 *   run.json    what to look for when the shim is gone: the control group
 *   shim.json   who the shim and its process are
 *   exit.json   how it ended
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

/* Writes a file so that a reader finds either all of it or none, whichever process is killed when.
 * It is not forced to the disk: after a power cut there is no container whose end could be told. */
static void write_file(struct lk_shim *shim, const char *name, const char *text, size_t size) {
    char draft[64];
    const int directory = shim->spec.basics.state_fd;
    (void)snprintf(draft, sizeof draft, "%s.new", name);
    LK_FD fd = openat(directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || lk_write_all(fd, text, size) < 0)
        return;
    (void)renameat(directory, draft, directory, name);
}

static uint64_t start_ticks(int pid) {
    char path[32], text[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    LK_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size <= 0)
        return 0;
    text[size] = 0;
    char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int i = 2; field != NULL && i < 22; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field + 1, NULL, 10) : 0;
}

static const char *truth(bool value) {
    return value ? "true" : "false";
}

void lk_shim_record_run(struct lk_shim *shim) {
    char text[400];
    const int size = snprintf(text, sizeof text, "{\"group\":\"%s\",\"exec\":%s}\n", shim->spec.group_name,
                              truth(shim->spec.basics.flags & LK_EXEC));
    write_file(shim, "run.json", text, (size_t)size);
}

void lk_shim_record_identity(struct lk_shim *shim) {
    char text[512];
    const int size = snprintf(
        text, sizeof text,
        "{\"version\":%d,\"id\":\"%s\",\"pid\":%d,\"start_ticks\":%llu,\"init_pid\":%d,"
        "\"init_start_ticks\":%llu,\"exec\":%s,\"tty\":%s}\n",
        LK_PROTOCOL, shim->id, getpid(), (unsigned long long)start_ticks(getpid()),
        shim->launched.pid, (unsigned long long)start_ticks(shim->launched.pid),
        truth(shim->spec.basics.flags & LK_EXEC), truth(shim->spec.basics.flags & LK_TTY));
    write_file(shim, "shim.json", text, (size_t)size);
}

void lk_shim_record_exit(struct lk_shim *shim) {
    char text[256];
    const int size = snprintf(text, sizeof text,
                              "{\"code\":%d,\"finished_at_ns\":%lld,\"log_dropped_bytes\":%llu}\n",
                              shim->exit_code, (long long)shim->finished_ns,
                              (unsigned long long)shim->log.dropped);
    write_file(shim, "exit.json", text, (size_t)size);
}
