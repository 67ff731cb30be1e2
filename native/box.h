/*
 * A box: one single-threaded process to which a notebook sends one kernel primitive at a time.
 *
 * Frames in both directions: a 32-bit length, then that many bytes holding fields, each a 32-bit
 * length and its bytes (both in machine order). A request is an operation and its arguments; a
 * reply is: `ok` or `error`, errno, the failed call, the number of steps, six fields for each step
 * (name, call, detail, start ns, end ns, errno), then pairs of key and value.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    BOX_FIELDS_MAX = 512,
    BOX_FRAME_MAX = 1 << 20,
    BOX_STEPS_MAX = 64,
    BOX_CHILDREN_MAX = 64,
    BOX_OUTPUT_MAX = 4 << 20,
};

struct box_field {
    char *text; /* NUL-terminated, but may hold NULs before that */
    uint32_t size;
};

struct box_request {
    struct box_field field[BOX_FIELDS_MAX];
    size_t count;
    char *buffer;
    int passed_fd; /* a descriptor sent along, or -1 */
};

struct box_step {
    const char *name;
    const char *call;
    char detail[160];
    uint64_t start_ns, end_ns;
    int error;
};

struct box_reply {
    struct box_step step[BOX_STEPS_MAX];
    size_t steps;
    char *extra; /* encoded key and value fields */
    size_t extra_size, extra_room;
    int error;
    const char *failed_call;
};

struct box_child {
    pid_t pid;
    bool running;
    int status;
};

struct box {
    int channel; /* -1 in a helper that has handed over to its child */
    int null_fd;
    int signal_fd;
    struct box_child child[BOX_CHILDREN_MAX];
    size_t children;
};

/* box_wire.c */
int box_receive(struct box *box, struct box_request *request); /* 1, 0 at the end, or -errno */
void box_request_free(struct box_request *request);
int box_send(struct box *box, struct box_reply *reply);
void box_put(struct box_reply *reply, const char *key, const void *value, size_t size);
void box_put_text(struct box_reply *reply, const char *key, const char *value);
void box_put_number(struct box_reply *reply, const char *key, long long value);
const char *box_argument(const struct box_request *request, size_t index);
long long box_number(const struct box_request *request, size_t index, long long fallback);

/* A step is begun, the call made, and the step ended with its result (-1 and errno on failure);
 * the result is handed through. */
struct box_step *box_begin(struct box_reply *reply, const char *name, const char *call,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));
long box_end(struct box_reply *reply, struct box_step *step, long result);

/* box_ops.c, box_run.c: one function per operation; what it did is in the reply */
typedef void box_op(struct box *box, const struct box_request *request, struct box_reply *reply);
box_op *box_find_op(const char *name);
box_op box_op_run, box_op_spawn, box_op_kill, box_op_children, box_op_unshare;
void box_reap(struct box *box);
