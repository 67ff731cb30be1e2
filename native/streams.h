/*
 * The container's output and input, and the clients attached to them.
 *
 * One chunk of output is under way at a time: it goes to the log, then to every client that wants
 * it; nothing more is read before the slowest has taken it. That bounds memory and lets a slow
 * reader slow the writer down, as a pipe would. A client that is gone is dropped at once.
 */
#pragma once

#include <stdbool.h>

#include "log.h"
#include "lk.h"

enum { LK_CHUNK = 64 * 1024, LK_FRAME = 8, LK_CLIENTS_MAX = 64, LK_INPUT = 16 * 1024 };

struct lk_client {
    int fd; /* -1: free */
    uint32_t wants;
    uint32_t events;  /* as registered with epoll */
    bool input_ended; /* it has shut down its writing side, or is not asked for input */
    bool gone;        /* hung up while its last input waits for room */
    size_t sent;      /* of the chunk */
    bool pending;
};

struct lk_streams {
    int epoll;
    bool tty, stdin_once;
    bool ending; /* the process is gone: an empty pipe is an ended one */
    int output[LK_LOG_STREAMS]; /* -1: ended */
    int input;                  /* -1: closed or never open */
    struct lk_log *log;
    struct lk_client clients[LK_CLIENTS_MAX];
    int chunk_stream;
    size_t chunk_size; /* 0: none under way */
    size_t input_size, input_done;
    bool input_closing;
    unsigned char chunk[LK_FRAME + LK_CHUNK];
    char input_buffer[LK_INPUT];
};

enum lk_source {
    LK_ON_OUTPUT,
    LK_ON_ERRORS,
    LK_ON_INPUT,
    LK_ON_SYNC,
    LK_ON_SIGNAL,
    LK_ON_LISTEN,
    LK_ON_CONTROL, /* + index */
    LK_ON_CLIENT = 1024,
};

/* Starts to watch these descriptors, which now belong to the streams. */
int lk_streams_open(struct lk_streams *streams, int output, int errors, int input);
/* A new attached client; the descriptor belongs to the streams on success. */
int lk_streams_attach(struct lk_streams *streams, int fd, uint32_t wants);
void lk_streams_ready(struct lk_streams *streams, uint32_t source, uint32_t events);
void lk_streams_close_input(struct lk_streams *streams);
/* The process has ended: takes what is left without waiting for other holders of its pipes. */
void lk_streams_drain(struct lk_streams *streams);
bool lk_streams_ended(const struct lk_streams *streams);
/* Tells every client that this was all. */
void lk_streams_finish(struct lk_streams *streams);

int lk_watch(int epoll, int operation, int fd, uint32_t source, uint32_t events);
