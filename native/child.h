/* Between clone and exec: the sequence every container and every exec goes through. */
#pragma once

#include "lk.h"
#include "timeline.h"
#include "wire.h"

enum { LK_WARNINGS = 1024 };

/* One page that shim and child share; whoever of the two is not waiting writes to it. */
struct lk_shared {
    struct lk_error error; /* number 0: none */
    int32_t child_pid;     /* exec: as stage one was told by clone3 */
    char warnings[LK_WARNINGS];
};

/*
 * Over the sync socket (SOCK_SEQPACKET) the child sends one of these bytes; a terminal's master
 * rides along with LK_SYNC_TTY. Its end of file means that exec succeeded, or, when shared->error
 * is set, that the start failed.
 *
 * A detached process (spec->is_detached) is released over a connection to its own socket, which
 * takes the sync socket's place; there an error travels as a struct lk_error.
 */
enum { LK_SYNC_TTY = 'T', LK_SYNC_HELD = 'H', LK_SYNC_MAPPED = 'M', LK_SYNC_GO = 'G' };
enum { LK_SYNC_GROUPS = 'C' }; /* to the child: it joins the groups whose tasks files come along */
enum { LK_SYNC_BUILT = 'B', LK_SYNC_PROCEED = 'P' }; /* with LK_STOP_BUILT */

struct lk_child {
    const struct lk_spec *spec;
    struct lk_timeline *timeline;
    struct lk_shared *shared;
    int sync, shim_sync;       /* ours, and the shim's end, which we must not keep open */
    int input, output, errors; /* ends of pipes for 0, 1, 2; -1 with a terminal or without stdin */
    int program;               /* labkit-shim itself, for --init */
    int network;               /* a namespace made ahead, to be entered; -1: none */
};

/* Does not return: executes the program or leaves an error in `shared` and exits. */
_Noreturn void lk_child_main(const struct lk_child *child);
