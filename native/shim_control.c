/* What daemons ask of a shim, and what it tells them (protocol.h). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "shim.h"

static void reply(struct lk_control *control, const struct lk_message *message,
                  const char *text, size_t size, int fd) {
    char packet[sizeof *message + LK_MESSAGE_TEXT];
    if (size > LK_MESSAGE_TEXT)
        size = LK_MESSAGE_TEXT;
    memcpy(packet, message, sizeof *message);
    if (size > 0)
        memcpy(packet + sizeof *message, text, size);
    /* A daemon that does not read its replies is stopped or gone: it can connect again. */
    if (lk_send_fd(control->fd, packet, sizeof *message + size, fd, MSG_DONTWAIT) < 0) {
        (void)close(control->fd);
        *control = (struct lk_control){.fd = -1};
    }
}

static struct lk_message message_of(uint16_t type, uint32_t serial, int32_t status, int64_t a,
                                    int64_t b) {
    return (struct lk_message){.version = LK_PROTOCOL, .type = type, .serial = serial,
                               .status = status, .a = a, .b = b};
}

void lk_shim_broadcast(struct lk_shim *shim, uint16_t type, int32_t status, int64_t a, int64_t b,
                       const char *text, size_t size, int fd) {
    const struct lk_message message = message_of(type, 0, status, a, b);
    for (int i = 0; i < LK_CONTROLS_MAX; i++)
        if (shim->controls[i].fd >= 0)
            reply(&shim->controls[i], &message, text, size, fd);
}

bool lk_shim_has_controls(const struct lk_shim *shim) {
    for (int i = 0; i < LK_CONTROLS_MAX; i++)
        if (shim->controls[i].fd >= 0)
            return true;
    return false;
}

void lk_shim_answer_release(struct lk_shim *shim, int status, const char *text, size_t size) {
    for (int i = 0; i < LK_CONTROLS_MAX; i++) {
        struct lk_control *control = &shim->controls[i];
        if (control->fd < 0 || control->release_serial == 0)
            continue;
        const struct lk_message message =
            message_of(LK_RELEASE, control->release_serial, status, shim->launched.pid, shim->started_ns);
        control->release_serial = 0;
        reply(control, &message, text, size, -1);
    }
}

void lk_shim_answer_waits(struct lk_shim *shim) {
    const bool ended = lk_streams_ended(&shim->streams) || shim->published;
    for (int i = 0; i < LK_CONTROLS_MAX; i++) {
        struct lk_control *control = &shim->controls[i];
        if (control->fd < 0 || control->wait_serial == 0 ||
            (!ended && shim->log.total <= control->wait_position))
            continue;
        struct lk_message message = message_of(LK_WAIT_LOG, control->wait_serial, 0,
                                               (int64_t)shim->log.total, (int64_t)shim->log.rotations);
        message.flags = ended;
        control->wait_serial = 0;
        reply(control, &message, NULL, 0, -1);
    }
}

static void attach(struct lk_shim *shim, struct lk_control *control, const struct lk_message *request,
                   int fd) {
    int status = fd < 0 ? -EBADF : 0;
    if (status == 0 && lk_streams_ended(&shim->streams) && shim->state == LK_STATE_EXITED)
        status = -ESRCH;
    if (status == 0)
        status = lk_streams_attach(&shim->streams, fd, (uint32_t)request->a);
    if (status < 0 && fd >= 0)
        (void)close(fd);
    const struct lk_message message = message_of(LK_ATTACH, request->serial, status, 0, 0);
    reply(control, &message, NULL, 0, -1);
}

static void release(struct lk_shim *shim, struct lk_control *control, const struct lk_message *request) {
    /* Asking twice, or for a process that was never held, is no error. */
    if (shim->state == LK_STATE_RUNNING || shim->state == LK_STATE_EXITED) {
        const struct lk_message message =
            message_of(LK_RELEASE, request->serial, 0, shim->launched.pid, shim->started_ns);
        reply(control, &message, NULL, 0, -1);
        return;
    }
    control->release_serial = request->serial;
    if (shim->state == LK_STATE_HELD)
        lk_shim_let_go(shim);
}

static int resize(struct lk_shim *shim, const struct lk_message *request) {
    const struct winsize size = {.ws_row = (unsigned short)request->a,
                                 .ws_col = (unsigned short)request->b};
    if (shim->terminal < 0)
        return -ENOTTY;
    return ioctl(shim->terminal, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static void handle(struct lk_shim *shim, struct lk_control *control, const struct lk_message *request,
                   int fd) {
    struct lk_message message = message_of(request->type, request->serial, 0, 0, 0);
    switch (request->type) {
    case LK_HELLO:
        message.a = shim->launched.pid;
        message.b = shim->started_ns;
        message.flags = shim->state;
        reply(control, &message, NULL, 0, shim->launched.pidfd);
        if (shim->published) {
            message = message_of(LK_EVENT_EXITED, 0, 0, shim->exit_code, shim->finished_ns);
            reply(control, &message, NULL, 0, -1);
        }
        break;
    case LK_ATTACH:
        attach(shim, control, request, fd);
        return;
    case LK_RELEASE:
        release(shim, control, request);
        break;
    case LK_RESIZE:
        message.status = resize(shim, request);
        reply(control, &message, NULL, 0, -1);
        break;
    case LK_CLOSE_STDIN:
        lk_streams_close_input(&shim->streams);
        reply(control, &message, NULL, 0, -1);
        break;
    case LK_WAIT_LOG:
        control->wait_serial = request->serial;
        control->wait_position = (uint64_t)request->a;
        break;
    case LK_ACKNOWLEDGE:
        shim->acknowledged = true;
        break;
    case LK_QUIT:
        shim->quit = true;
        break;
    default:
        message.status = -ENOSYS;
        reply(control, &message, NULL, 0, -1);
    }
    lk_close_fd(&fd);
}

static void control_gone(struct lk_shim *shim, struct lk_control *control) {
    (void)close(control->fd);
    *control = (struct lk_control){.fd = -1};
    /* A start that nobody waits for any more is given up: its record was never written. */
    if (shim->state == LK_STATE_HELD && !lk_shim_has_controls(shim)) {
        const struct lk_error error = {.number = ECONNRESET, .step = "exec", .detail = "the daemon is gone"};
        lk_shim_fail(shim, &error);
    }
}

void lk_shim_control_ready(struct lk_shim *shim, struct lk_control *control) {
    for (int i = 0; i < 16 && control->fd >= 0; i++) {
        struct lk_message request;
        int fd;
        const ssize_t count =
            lk_receive_fd(control->fd, &request, sizeof request, &fd, MSG_DONTWAIT);
        if (count == -EAGAIN)
            return;
        if (count != sizeof request || request.version != LK_PROTOCOL) {
            lk_close_fd(&fd);
            control_gone(shim, control);
            return;
        }
        handle(shim, control, &request, fd);
    }
}

int lk_shim_add_control(struct lk_shim *shim, int fd) {
    for (int i = 0; i < LK_CONTROLS_MAX; i++) {
        if (shim->controls[i].fd >= 0)
            continue;
        const int status = lk_watch(shim->epoll, EPOLL_CTL_ADD, fd, LK_ON_CONTROL + (uint32_t)i, EPOLLIN);
        if (status == 0)
            shim->controls[i] = (struct lk_control){.fd = fd};
        return status;
    }
    return -EUSERS;
}

void lk_shim_accept(struct lk_shim *shim) {
    const int fd = accept4(shim->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && lk_shim_add_control(shim, fd) < 0)
        (void)close(fd);
}

int lk_shim_listen(struct lk_shim *shim, struct lk_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By descriptor: the folder's own path may be longer than a socket address holds. */
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/shim.sock",
                   shim->spec.basics.state_fd);
    shim->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* A socket is born 0777 less the mask; 0600 is meant from the first moment. */
    const mode_t before = umask(0177);
    int status = 0;
    if (shim->listener < 0 ||
        bind(shim->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(shim->listener, LK_CONTROLS_MAX) < 0)
        status = lk_fail(error, "listen for the daemon", "shim.sock");
    (void)umask(before);
    return status;
}
