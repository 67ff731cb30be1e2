/* labkit-shim box CHANNEL_FD [PIDFD KINDS]: serve primitives until the channel ends. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "applets.h"
#include "lk.h"

/* Waits for a request, reaping what ends meanwhile; false when the channel has ended. */
static bool await_request(struct box *box) {
    for (;;) {
        struct pollfd polled[] = {{box->channel, POLLIN, 0}, {box->signal_fd, POLLIN, 0}};
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return false;
        if (polled[1].revents != 0) {
            struct signalfd_siginfo scrap;
            (void)!read(box->signal_fd, &scrap, sizeof scrap);
            box_reap(box);
        }
        if (polled[0].revents != 0)
            return true;
    }
}

static bool serve_one(struct box *box) {
    struct box_request request;
    const int rc = box_receive(box, &request);
    if (rc <= 0) {
        box_request_free(&request);
        return false;
    }
    struct box_reply reply = {0};
    box_op *op = request.count > 0 ? box_find_op(request.field[0].text) : NULL;
    if (op == NULL)
        reply.error = ENOSYS;
    else
        op(box, &request, &reply);
    const bool sent = box_send(box, &reply) == 0;
    free(reply.extra);
    box_request_free(&request);
    return sent;
}

static int join_host(int pidfd, int kinds) {
    if (setns(pidfd, kinds) < 0) {
        fprintf(stderr, "labkit box: cannot enter the lab host: %d\n", errno);
        return -1;
    }
    (void)close(pidfd);
    if ((kinds & CLONE_NEWUSER) && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        return -1;
    (void)prctl(PR_SET_DUMPABLE, 1);
    return 0;
}

int lk_box_main(int argc, char **argv) {
    if (argc < 2)
        return 125;
    struct box box = {.channel = atoi(argv[1])};
    (void)fcntl(box.channel, F_SETFD, FD_CLOEXEC);
    if (argc > 3 && join_host(atoi(argv[2]), atoi(argv[3])) < 0)
        return 125;
    (void)prctl(PR_SET_NAME, "labkit-box");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans of a program come to us, not to init */
    /* Students meet us in ps: leave only the name there. The argument strings lie side by side. */
    char *const past_name = argv[-1] + strlen(argv[-1]);
    memset(past_name, 0, (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - past_name));
    (void)signal(SIGPIPE, SIG_IGN);
    box.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child, NULL);
    box.signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (box.null_fd < 0 || box.signal_fd < 0 || chdir("/") < 0)
        return 125;
    while (await_request(&box) && serve_one(&box)) {
    }
    return 0;
}
