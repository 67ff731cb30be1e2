/* Building what the container sees as "/". All of it runs in the child's own mount namespace. */
#pragma once

#include "timeline.h"
#include "wire.h"

/* Keeps mounts made here from reaching the lab host. */
int lk_detach_propagation(const struct lk_spec *spec, struct lk_timeline *timeline,
                          struct lk_error *error);
/* Mounts the root (overlay or plain folder); returns its descriptor. */
int lk_mount_root(const struct lk_spec *spec, struct lk_timeline *timeline, struct lk_error *error);
/* Makes the mounts of the spec, in order. */
int lk_make_mounts(const struct lk_spec *spec, int root, size_t first, size_t end,
                   struct lk_timeline *timeline, struct lk_error *error);
/* Masked and read-only paths, and a read-only root. Last, when nothing writes below any more. */
int lk_close_paths(const struct lk_spec *spec, int root, struct lk_timeline *timeline,
                   struct lk_error *error);
/* Makes `root` the root and lets go of the old one. */
int lk_enter_root(int root, struct lk_timeline *timeline, struct lk_error *error);

/* Mounts a new file system at an open target. `data` is a comma-separated list of options. */
int lk_mount_new(int target, const char *type, const char *data, unsigned attributes,
                 struct lk_error *error);
/* Attaches a copy of the mount at `source` to an open target. */
int lk_attach_copy(int source, int target, unsigned attributes, bool recursive,
                   struct lk_error *error);
