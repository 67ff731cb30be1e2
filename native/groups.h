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

struct lk_ground;

/* Makes ready folders that lk_groups_make() gives the name it needs; v2 cannot rename its own. */
void lk_groups_prepare(struct lk_ground *ground);
/* Removes them again, when nobody took them. */
void lk_groups_discard(const struct lk_ground *ground);
/* Makes, or enters, the group of the spec and limits it. */
int lk_groups_make(const struct lk_spec *spec, const struct lk_ground *ground,
                   struct lk_timeline *timeline, struct lk_group_handles *handles, char *warnings,
                   size_t size, struct lk_error *error);
void lk_groups_close(struct lk_group_handles *handles);
