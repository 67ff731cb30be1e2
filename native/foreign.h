/* Starting a container through another OCI runtime, for `docker run --runtime crun`. */
#pragma once

#include "launch.h"

/* Ends of the pipes, or -1: as struct lk_child has them. `sync` is the conductor's end. */
struct lk_foreign_stdio {
    int input, output, errors, sync;
};

/* Like the clone of lk_launch(): fills in launched->pid and pidfd. */
int lk_start_foreign(const struct lk_spec *spec, struct lk_timeline *timeline,
                     const struct lk_foreign_stdio *stdio, struct lk_launched *launched,
                     struct lk_error *error);
