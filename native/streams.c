#include "streams.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "protocol.h"

int lk_watch(int epoll, int operation, int fd, uint32_t source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = source};
    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

static int add(struct lk_streams *streams, int fd, uint32_t source, uint32_t events) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return lk_watch(streams->epoll, EPOLL_CTL_ADD, fd, source, events);
}

int lk_streams_open(struct lk_streams *streams, int output, int errors, int input) {
    const int fds[LK_LOG_STREAMS] = {output, errors};
    for (int i = 0; i < LK_LOG_STREAMS; i++) {
        streams->output[i] = fds[i];
        const int status = fds[i] < 0 ? 0 : add(streams, fds[i], LK_ON_OUTPUT + (uint32_t)i, EPOLLIN);
        if (status < 0)
            return status;
    }
    streams->input = input;
    return input < 0 ? 0 : add(streams, input, LK_ON_INPUT, 0);
}

static bool wants_stream(const struct lk_client *client, int stream) {
    return client->fd >= 0 && client->wants & (stream == 0 ? LK_ATTACH_STDOUT : LK_ATTACH_STDERR);
}

static void watch_client(struct lk_streams *streams, struct lk_client *client) {
    const bool room = streams->input_size == 0;
    const uint32_t events = (client->pending ? (uint32_t)EPOLLOUT : 0u) |
                            (!client->input_ended && room ? (uint32_t)EPOLLIN : 0u);
    if (client->gone || events == client->events)
        return;
    client->events = events;
    (void)lk_watch(streams->epoll, EPOLL_CTL_MOD, client->fd,
                   LK_ON_CLIENT + (uint32_t)(client - streams->clients), events);
}

/* While a chunk waits for its clients nothing is read. The descriptors leave epoll meanwhile, for a
 * hang-up would be reported over and over whatever events were asked for. */
static void watch_outputs(struct lk_streams *streams) {
    for (int i = 0; i < LK_LOG_STREAMS; i++)
        if (streams->output[i] >= 0)
            (void)lk_watch(streams->epoll, streams->chunk_size ? EPOLL_CTL_DEL : EPOLL_CTL_ADD,
                           streams->output[i], LK_ON_OUTPUT + (uint32_t)i, EPOLLIN);
}

static void close_input_now(struct lk_streams *streams) {
    lk_close_fd(&streams->input);
    streams->input = -1;
    streams->input_size = streams->input_done = 0;
    for (int i = 0; i < LK_CLIENTS_MAX; i++)
        if (streams->clients[i].fd >= 0)
            watch_client(streams, &streams->clients[i]);
}

void lk_streams_close_input(struct lk_streams *streams) {
    if (streams->input < 0)
        return;
    streams->input_closing = true;
    if (streams->input_size == 0)
        close_input_now(streams);
}

static void drop_client(struct lk_streams *streams, struct lk_client *client) {
    const bool had_input = client->wants & LK_ATTACH_STDIN && !client->input_ended;
    (void)close(client->fd);
    *client = (struct lk_client){.fd = -1};
    if (had_input && streams->stdin_once && !streams->tty)
        lk_streams_close_input(streams);
}

/* Sends what a client has not had of the chunk; drops it when it is gone. */
static void send_chunk(struct lk_streams *streams, struct lk_client *client) {
    while (client->sent < streams->chunk_size) {
        const ssize_t count = send(client->fd, streams->chunk + client->sent,
                                   streams->chunk_size - client->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0) {
            client->sent += (size_t)count;
        } else if (errno == EAGAIN) {
            watch_client(streams, client);
            return;
        } else if (errno != EINTR) {
            drop_client(streams, client);
            return;
        }
    }
    client->pending = false;
    watch_client(streams, client);
}

static bool anyone_pending(const struct lk_streams *streams) {
    for (int i = 0; i < LK_CLIENTS_MAX; i++)
        if (streams->clients[i].fd >= 0 && streams->clients[i].pending)
            return true;
    return false;
}

static void end_output(struct lk_streams *streams, int stream) {
    lk_log_end(streams->log, stream);
    lk_close_fd(&streams->output[stream]);
    streams->output[stream] = -1;
}

/* Reads one chunk of a stream and hands it on. False when there was nothing to do. */
static bool pump(struct lk_streams *streams, int stream) {
    if (streams->output[stream] < 0 || streams->chunk_size > 0)
        return false;
    const ssize_t count = read(streams->output[stream], streams->chunk + LK_FRAME, LK_CHUNK);
    if (count < 0 && errno == EINTR)
        return true;
    if (count < 0 && errno == EAGAIN && !streams->ending)
        return false;
    if (count <= 0) {
        /* EIO is how a terminal says that nobody has its other end open any more. */
        end_output(streams, stream);
        return true;
    }
    lk_log_add(streams->log, stream, (const char *)streams->chunk + LK_FRAME, (size_t)count);
    const uint32_t size = (uint32_t)count;
    const unsigned char frame[LK_FRAME] = {(unsigned char)(stream + 1), 0, 0, 0,
                                           (unsigned char)(size >> 24), (unsigned char)(size >> 16),
                                           (unsigned char)(size >> 8), (unsigned char)size};
    memcpy(streams->chunk, frame, sizeof frame);
    streams->chunk_size = LK_FRAME + (size_t)count;
    for (int i = 0; i < LK_CLIENTS_MAX; i++) {
        struct lk_client *client = &streams->clients[i];
        if (!wants_stream(client, stream) || client->gone)
            continue;
        client->pending = true;
        client->sent = streams->tty ? LK_FRAME : 0;
        send_chunk(streams, client);
    }
    if (anyone_pending(streams))
        watch_outputs(streams); /* stop reading until it has been taken */
    else
        streams->chunk_size = 0;
    return true;
}

static void chunk_progress(struct lk_streams *streams) {
    if (streams->chunk_size == 0 || anyone_pending(streams))
        return;
    streams->chunk_size = 0;
    watch_outputs(streams);
    if (streams->ending)
        lk_streams_drain(streams);
}

void lk_streams_drain(struct lk_streams *streams) {
    streams->ending = true;
    for (int i = 0; i < LK_LOG_STREAMS; i++)
        while (pump(streams, i)) {
        }
}

bool lk_streams_ended(const struct lk_streams *streams) {
    return streams->output[0] < 0 && streams->output[1] < 0 && streams->chunk_size == 0;
}

void lk_streams_finish(struct lk_streams *streams) {
    for (int i = 0; i < LK_CLIENTS_MAX; i++)
        if (streams->clients[i].fd >= 0)
            drop_client(streams, &streams->clients[i]);
    lk_close_fd(&streams->input);
    streams->input = -1;
}

int lk_streams_attach(struct lk_streams *streams, int fd, uint32_t wants) {
    for (int i = 0; i < LK_CLIENTS_MAX; i++) {
        struct lk_client *client = &streams->clients[i];
        if (client->fd >= 0)
            continue;
        /* Its input is read in any case: that is how a half-close is noticed. */
        const int status = lk_watch(streams->epoll, EPOLL_CTL_ADD, fd, LK_ON_CLIENT + (uint32_t)i,
                                    streams->input_size == 0 ? EPOLLIN : 0);
        if (status < 0)
            return status;
        *client = (struct lk_client){
            .fd = fd, .wants = wants, .events = streams->input_size == 0 ? EPOLLIN : 0};
        return 0;
    }
    return -EUSERS;
}

static void write_input(struct lk_streams *streams) {
    while (streams->input >= 0 && streams->input_done < streams->input_size) {
        const ssize_t count = write(streams->input, streams->input_buffer + streams->input_done,
                                    streams->input_size - streams->input_done);
        if (count >= 0) {
            streams->input_done += (size_t)count;
        } else if (errno == EAGAIN) {
            (void)lk_watch(streams->epoll, EPOLL_CTL_MOD, streams->input, LK_ON_INPUT, EPOLLOUT);
            return;
        } else if (errno != EINTR) {
            close_input_now(streams); /* the process has closed its end */
            return;
        }
    }
    streams->input_size = streams->input_done = 0;
    if (streams->input >= 0)
        (void)lk_watch(streams->epoll, EPOLL_CTL_MOD, streams->input, LK_ON_INPUT, 0);
    if (streams->input_closing)
        close_input_now(streams);
}

/* Reads one buffer of a client's input. False when there is no more for now. */
static bool read_input(struct lk_streams *streams, struct lk_client *client) {
    if (client->fd < 0 || client->input_ended || streams->input_size > 0)
        return false;
    const ssize_t count =
        recv(client->fd, streams->input_buffer, sizeof streams->input_buffer, MSG_DONTWAIT);
    if (count < 0)
        return errno == EINTR;
    if (count == 0) {
        client->input_ended = true;
        if (client->wants & LK_ATTACH_STDIN && streams->stdin_once && !streams->tty)
            lk_streams_close_input(streams);
    } else if (client->wants & LK_ATTACH_STDIN && streams->input >= 0 && !streams->input_closing) {
        streams->input_size = (size_t)count;
        write_input(streams);
    }
    watch_client(streams, client);
    return count > 0;
}

static void client_ready(struct lk_streams *streams, struct lk_client *client, uint32_t events) {
    if (client->fd < 0)
        return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        while (read_input(streams, client)) {
        }
        if (streams->input_size == 0 || client->input_ended) {
            drop_client(streams, client);
        } else if (!client->gone) {
            /* Its last words wait for room; a hang-up would be reported without end meanwhile. */
            client->gone = true;
            client->pending = false;
            (void)epoll_ctl(streams->epoll, EPOLL_CTL_DEL, client->fd, NULL);
        }
        chunk_progress(streams);
        return;
    }
    if (events & EPOLLIN)
        (void)read_input(streams, client);
    if (events & EPOLLOUT && client->fd >= 0 && client->pending) {
        send_chunk(streams, client);
        chunk_progress(streams);
    }
}

static void input_ready(struct lk_streams *streams, uint32_t events) {
    if (events & (EPOLLERR | EPOLLHUP)) {
        close_input_now(streams); /* nobody can read it any more */
        return;
    }
    write_input(streams);
    for (int i = 0; i < LK_CLIENTS_MAX && streams->input_size == 0; i++) {
        struct lk_client *client = &streams->clients[i];
        if (client->fd < 0)
            continue;
        if (client->gone) {
            while (read_input(streams, client)) {
            }
            if (client->input_ended)
                drop_client(streams, client);
        } else {
            watch_client(streams, client);
        }
    }
}

void lk_streams_ready(struct lk_streams *streams, uint32_t source, uint32_t events) {
    if (source >= LK_ON_CLIENT) {
        if (source - LK_ON_CLIENT < LK_CLIENTS_MAX)
            client_ready(streams, &streams->clients[source - LK_ON_CLIENT], events);
    } else if (source == LK_ON_INPUT) {
        input_ready(streams, events);
    } else {
        (void)pump(streams, (int)source - LK_ON_OUTPUT);
    }
}
