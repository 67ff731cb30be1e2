/*
 * The init of `docker run --init`: PID 1 of the container, which passes signals on to the program
 * and reaps whatever is orphaned. It is executed afresh from the sealed shim, so that its memory
 * holds nothing of the daemon's.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "applets.h"

static int start(char **argv, const sigset_t *before) {
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)sigprocmask(SIG_SETMASK, before, NULL);
    /* A group of its own, in the foreground of the terminal if there is one. */
    if (setpgid(0, 0) == 0 && isatty(0)) {
        (void)signal(SIGTTOU, SIG_IGN);
        (void)tcsetpgrp(0, getpgrp());
        (void)signal(SIGTTOU, SIG_DFL);
    }
    (void)execvp(argv[0], argv);
    const int number = errno;
    (void)fprintf(stderr, "[FATAL tini (%d)] exec %s failed: %s\n", (int)getpid(), argv[0],
                  strerror(number));
    _exit(number == ENOENT ? 127 : 126);
}

int lk_init_main(int argc, char **argv) {
    if (argc < 3 || strcmp(argv[1], "--") != 0)
        return 125;
    sigset_t all, before;
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t child = start(argv + 2, &before);
    if (child < 0)
        return 125;
    for (;;) {
        siginfo_t info;
        const int number = sigwaitinfo(&all, &info);
        if (number != SIGCHLD) {
            if (number > 0)
                (void)kill(child, number);
            continue;
        }
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (pid == child)
                return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}
