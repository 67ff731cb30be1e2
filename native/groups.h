/*
 * Control groups of a start: made, limited and opened by the shim, while on another core the child
 * builds its root. Which files take which values is decided in labkit/host/isolation/cgroups.
 */
#pragma once

#include "timeline.h"
#include "wire.h"

enum { LK_GROUP_FOLDERS_MAX = 32 };

/* What the child needs to be born in the group; -1 and 0 where there is nothing. */
struct lk_group_handles {
    int tasks[LK_GROUP_FOLDERS_MAX]; /* v1: it writes "0" into each of them */
    size_t task_count;
    int directory; /* v2, for CLONE_INTO_CGROUP */
};

/* Begins a line of the warnings: the number of a write that could not be done, or 'p' for the
 * device program, then a blank and the errno. The daemon has the sentence for it. */
enum { LK_GROUP_REFUSED = 1 };

/* `bases` are the lab's own folders, in the order that the spec's numbers count. */
int lk_groups_make(const struct lk_spec *spec, const int *bases, size_t base_count,
                   struct lk_timeline *timeline, struct lk_group_handles *handles, char *warnings,
                   size_t size, struct lk_error *error);
void lk_groups_close(struct lk_group_handles *handles);
