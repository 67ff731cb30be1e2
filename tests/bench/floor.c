/*
 * The least a container can cost: clone3 into new namespaces, overlay, pivot_root, /proc and /dev,
 * exec, reap. No limits, no capabilities, no filter, no log. What bench_start.py divides by.
 *
 *   floor ROUNDS LOWER UPPER WORK GAP_US PROGRAM
 *
 * prints one line of nanoseconds per round.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void must(long result, const char *what) {
    if (result < 0) {
        perror(what);
        _exit(125);
    }
}

static void child(char **argv) {
    char data[1024];
    snprintf(data, sizeof data, "lowerdir=%s,upperdir=%s,workdir=%s", argv[2], argv[3], argv[4]);
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    must(mount("overlay", argv[3], "overlay", 0, data), "overlay");
    must(chdir(argv[3]), "chdir");
    mkdir("proc", 0755);
    mkdir("dev", 0755);
    must(mount("proc", "proc", "proc", 0, NULL), "proc");
    must(mount("tmpfs", "dev", "tmpfs", 0, "mode=755"), "dev");
    must(mknod("dev/null", S_IFCHR | 0666, 0x103), "null");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "chdir");
    char *const program[] = {argv[6], NULL};
    execv(argv[6], program);
    must(-1, "exec");
}

int main(int argc, char **argv) {
    if (argc != 7)
        return 2;
    for (int round = atoi(argv[1]); round > 0; round--) {
        const int64_t start = now_ns();
        struct clone_args arguments = {
            .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP,
            .exit_signal = SIGCHLD};
        const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
        if (pid == 0)
            child(argv);
        must(pid, "clone3");
        int status;
        must(waitpid((pid_t)pid, &status, 0), "waitpid");
        if (status != 0)
            return 1;
        printf("%lld\n", (long long)(now_ns() - start));
        usleep((useconds_t)atoi(argv[5]));
    }
    return 0;
}
