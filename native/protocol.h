/*
 * What a shim and the daemon say to each other.
 *
 * The daemon talks over a SOCK_SEQPACKET unix socket: the one it started the shim with (nursery.h),
 * or a connection to `shim.sock` (mode 0600) after a restart. Every packet is one struct
 * lk_message, followed by text in a few of them. Requests carry a serial that the reply repeats;
 * events have serial 0. A request's `status` is 0; a reply's is 0 or a negative errno.
 *
 *   request            a          b         reply
 *   HELLO                                   a init's pid, b start (realtime ns), flags state; a pidfd
 *   ATTACH             streams              the shim keeps the descriptor sent along: a stream socket
 *                                           on which it writes Docker's frames (raw with a terminal)
 *                                           and reads stdin. Nothing printed after the reply is lost.
 *   RELEASE                                 when the program runs, or -errno and the error text
 *   RESIZE             rows       columns   done
 *   CLOSE_STDIN                             done
 *   WAIT_LOG           position             once more than `position` bytes are in the log, or the
 *                                           output has ended: a bytes so far, b rotations
 *   ACKNOWLEDGE                             none: the exit status is in safe hands
 *   QUIT                                    none: the shim leaves, whoever is still attached
 *
 *   event
 *   HELD               pid                  the process stands just before exec; text: warnings about
 *                                           its control group; a pidfd comes along
 *   STARTED            pid        start     it runs; text: warnings, one a line; a pidfd comes along
 *   FAILED             0                    status -errno; text: step NUL object
 *   EXITED             code       finish    128+signal when killed; realtime ns
 */
#pragma once

#include <stdint.h>

enum { LK_PROTOCOL = 1, LK_MESSAGE_TEXT = 1024, LK_CONTROL_FD = 3, LK_SPEC_FD = 4 };

enum lk_message_type {
    LK_HELLO = 1,
    LK_ATTACH,
    LK_RELEASE,
    LK_RESIZE,
    LK_CLOSE_STDIN,
    LK_WAIT_LOG,
    LK_ACKNOWLEDGE,
    LK_QUIT,
    LK_EVENT_HELD = 64,
    LK_EVENT_STARTED,
    LK_EVENT_FAILED,
    LK_EVENT_EXITED,
};

enum { LK_ATTACH_STDIN = 1, LK_ATTACH_STDOUT = 2, LK_ATTACH_STDERR = 4 };
enum { LK_STATE_STARTING = 0, LK_STATE_HELD, LK_STATE_RUNNING, LK_STATE_EXITED };

struct lk_message {
    uint16_t version, type;
    uint32_t serial;
    int32_t status;
    uint32_t flags;
    int64_t a, b;
};
