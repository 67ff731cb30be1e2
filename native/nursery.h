/*
 * The nursery: a small process of one lab host that has shims ready before they are needed.
 *
 * It stands in the lab host's namespaces and forks on request; nothing is executed, and its few pages
 * are shared by all shims. A ready shim waits on a socket of its own, whose other end the daemon
 * holds, for one packet: the descriptors a start needs. When the daemon is gone, the nursery and the
 * shims that wait end; those that have a container live on.
 *
 *   to the nursery      struct lk_nursery_request; the first packet is a struct lk_nursery_setup with
 *                       the lab's own cgroup folders, and the host's mnt and net namespaces before
 *                       them if it has any
 *   from the nursery    struct lk_nursery_reply; with status 0 come the socket and a pidfd
 *   to a ready shim     one byte and the descriptors: the spec, then those that the spec names;
 *                       they become LK_SPEC_FD and following
 */
#pragma once

#include "launch.h"

struct lk_nursery_setup {
    uint32_t version, has_host, base_count, unified;
};
enum { LK_NURSERY_CONTAINER = 1 << 0 }; /* with a network namespace and control groups as well */
struct lk_nursery_request {
    uint32_t flags;
};
struct lk_nursery_reply {
    int32_t status, pid;
};

/* Moves a descriptor above those that a spec names by number; negative when that fails. */
int lk_keep_high(int fd);

/* A ready shim's life; `socket` is its end. Ends the process. */
_Noreturn void lk_shim_serve(int socket, struct lk_ground *ground, bool container);
