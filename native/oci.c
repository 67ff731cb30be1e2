/*
 * Starting a process for `labkit-oci`, an OCI runtime (runtime.md of the OCI runtime specification).
 *
 * There a container has no shim of ours: whoever called the runtime (conmon, containerd's shim, a
 * shell) owns its stdio and reaps it. So this program lives only as long as the start takes. It tells
 * labkit-oci over descriptor 3 what happens, passes on what labkit-oci answers, and leaves; the
 * process stays behind and becomes the child of the nearest sub-reaper (prctl(2)).
 *
 *   to labkit-oci    TTY       a terminal's master comes along
 *                    BUILT     pid; the root stands, hooks may run; answered by one byte
 *                    HELD      pid; it waits at its socket: the end of `create`
 *                    STARTED   pid; it has executed its program: the end of `exec`; warnings
 *                    FAILED    status -errno; text: step NUL object
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "applets.h"
#include "launch.h"
#include "protocol.h"

enum { EVENT_BUILT = 96, EVENT_TTY = 97 }; /* beside those of protocol.h */

static void tell(uint16_t type, int status, int pid, const char *text, size_t size, int fd) {
    const struct lk_message message = {
        .version = LK_PROTOCOL, .type = type, .status = status, .a = pid};
    char packet[sizeof message + LK_MESSAGE_TEXT];
    if (size > LK_MESSAGE_TEXT)
        size = LK_MESSAGE_TEXT;
    memcpy(packet, &message, sizeof message);
    if (size > 0)
        memcpy(packet + sizeof message, text, size);
    (void)lk_send_fd(LK_CONTROL_FD, packet, sizeof message + size, fd, MSG_NOSIGNAL);
}

static int fail(const struct lk_launched *launched, const struct lk_error *error) {
    char text[LK_MESSAGE_TEXT];
    const int size = snprintf(text, sizeof text, "%s%c%s", error->step, 0, error->detail);
    if (launched->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, launched->pidfd, SIGKILL, NULL, 0);
    while (launched->pid > 0 && waitpid(launched->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    tell(LK_EVENT_FAILED, -error->number, 0, text, (size_t)size + 1, -1);
    return 1;
}

static int decode(struct lk_spec *spec, struct lk_error *error) {
    struct stat found;
    if (fstat(LK_SPEC_FD, &found) < 0 || found.st_size <= 0)
        return lk_fail(error, "decode the spec", "no message");
    char *data = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, LK_SPEC_FD, 0);
    if (data == MAP_FAILED)
        return lk_fail(error, "decode the spec", "%lld bytes", (long long)found.st_size);
    /* The descriptor stays open: nothing of ours may take a number the program's own are put on. */
    return lk_spec_decode(spec, data, (size_t)found.st_size, error);
}

/* The sync socket is closed: the program runs, or the child left an error, or it was killed. */
static int left_sync(const struct lk_launched *launched, struct lk_error *error) {
    siginfo_t info = {0};
    const struct lk_shared *shared = launched->shared;
    *error = shared->error;
    if (error->number == 0 && waitid(P_PID, (id_t)launched->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == launched->pid && info.si_code != CLD_EXITED)
        return lk_fail_with(error, ECHILD, "start the process",
                            "it was killed while being set up (is the memory limit too small?)");
    if (error->number != 0)
        return -error->number;
    tell(LK_EVENT_STARTED, 0, launched->pid, shared->warnings, strlen(shared->warnings), -1);
    return 0;
}

/* Hooks run now; labkit-oci says when they are done, or has gone and with it the container. */
static int let_hooks_run(const struct lk_launched *launched, struct lk_error *error) {
    char byte = 0;
    ssize_t count;
    tell(EVENT_BUILT, 0, launched->pid, NULL, 0, -1);
    do {
        count = recv(LK_CONTROL_FD, &byte, 1, 0);
    } while (count < 0 && errno == EINTR);
    if (count != 1 || byte != LK_SYNC_PROCEED)
        return lk_fail_with(error, ECANCELED, "run hooks", "labkit-oci gave up");
    if (lk_send_fd(launched->sync, &byte, 1, -1, MSG_NOSIGNAL) < 0)
        return lk_fail(error, "run hooks", "tell the container");
    return 0;
}

static int follow(const struct lk_launched *launched, struct lk_error *error) {
    for (;;) {
        struct lk_error word; /* also large enough for an error sent along */
        int fd;
        const ssize_t count = lk_receive_fd(launched->sync, &word, sizeof word, &fd, 0);
        if (count == -EINTR)
            continue;
        if (count <= 0)
            return left_sync(launched, error);
        const char byte = count == 1 ? *(const char *)&word : 0;
        if (byte == LK_SYNC_TTY)
            tell(EVENT_TTY, 0, launched->pid, NULL, 0, fd);
        lk_close_fd(&fd);
        if (byte == LK_SYNC_HELD) {
            const char *warnings = launched->shared->warnings;
            tell(LK_EVENT_HELD, 0, launched->pid, warnings, strlen(warnings), -1);
            return 0;
        }
        int status = byte == LK_SYNC_BUILT ? let_hooks_run(launched, error) : 0;
        if (status < 0)
            return status;
    }
}

int lk_oci_main(int argc, char **argv) {
    struct lk_spec spec;
    struct lk_error error = {0};
    struct lk_launched launched = {-1, -1, -1, -1, -1, -1, NULL};
    (void)argc;
    (void)argv;
    (void)prctl(PR_SET_NAME, "labkit-oci", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(077);
    if (decode(&spec, &error) < 0)
        return fail(&launched, &error);
    struct lk_timeline *timeline = lk_timeline_create(spec.basics.state_fd, "timeline.bin");
    if (timeline == NULL) {
        (void)lk_fail(&error, "begin", "timeline.bin");
        return fail(&launched, &error);
    }
    char warnings[LK_WARNINGS] = "";
    const struct lk_ground ground = {.program = open("/proc/self/exe", O_PATH | O_CLOEXEC), .spare_network = -1};
    if (lk_launch(&spec, timeline, &ground, warnings, &launched, &error) < 0 || follow(&launched, &error) < 0)
        return fail(&launched, &error);
    return 0;
}
