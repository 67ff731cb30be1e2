/*
 * The shim: parent of one container's (or one exec's) first process.
 *
 * It owns stdio and the terminal, writes the log, serves attached clients, reaps the process and
 * records how it ended. It outlives the daemon; when it dies itself, the process dies with it. One
 * thread, one epoll loop, no allocation after the start.
 *
 *   shim.c           its life: ready, begun, looping
 *   shim_process.c   what becomes of the process: held, running, ended
 *   shim_control.c   what daemons ask
 *   shim_record.c    what is written down for a daemon that comes later
 */
#pragma once

#include "nursery.h"
#include "protocol.h"
#include "streams.h"

enum { LK_CONTROLS_MAX = 16 };

struct lk_control {
    int fd; /* -1: free */
    uint32_t release_serial, wait_serial; /* requests not answered yet; 0 is none */
    uint64_t wait_position;
};

struct lk_shim {
    struct lk_ground *ground;
    struct lk_spec spec;
    struct lk_launched launched;
    struct lk_timeline *timeline;
    struct lk_streams streams;
    struct lk_log log;
    struct lk_control controls[LK_CONTROLS_MAX];
    int epoll, listener, signals, terminal;
    int mounts;     /* the container's mount namespace, see hold_mounts(); -1: none */
    uint32_t state; /* LK_STATE_* */
    int64_t started_ns, finished_ns;
    uint64_t drain_until_ns;
    int exit_code;
    bool published, acknowledged, quit;
    void *message; /* the mapped spec, until the process runs */
    size_t message_size;
    char id[128], log_name[256]; /* outlive it */
    char group_warnings[LK_WARNINGS];
};

/* shim_process.c */
int lk_shim_start(struct lk_shim *shim, struct lk_error *error);
void lk_shim_fail(struct lk_shim *shim, const struct lk_error *error);
void lk_shim_let_go(struct lk_shim *shim);
void lk_shim_sync_ready(struct lk_shim *shim);
void lk_shim_reap(struct lk_shim *shim);
/* Everything that follows from the process's end, as far as it can be done now. */
void lk_shim_advance(struct lk_shim *shim);

/* shim_control.c */
int lk_shim_listen(struct lk_shim *shim, struct lk_error *error);
int lk_shim_add_control(struct lk_shim *shim, int fd);
void lk_shim_accept(struct lk_shim *shim);
void lk_shim_control_ready(struct lk_shim *shim, struct lk_control *control);
bool lk_shim_has_controls(const struct lk_shim *shim);
void lk_shim_broadcast(struct lk_shim *shim, uint16_t type, int32_t status, int64_t a, int64_t b,
                       const char *text, size_t size, int fd);
void lk_shim_answer_release(struct lk_shim *shim, int status, const char *text, size_t size);
void lk_shim_answer_waits(struct lk_shim *shim);

/* shim_record.c */
void lk_shim_record_run(struct lk_shim *shim);
void lk_shim_record_identity(struct lk_shim *shim);
void lk_shim_record_exit(struct lk_shim *shim);

/* nursery.c: the words that ps(1) shows. */
void lk_set_title(const char *id);
