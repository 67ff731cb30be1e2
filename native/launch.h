/* The shim's side of a start: namespaces, pipes and the clone itself. */
#pragma once

#include "child.h"

/* What the shim keeps of a started process; -1 where there is none. */
struct lk_launched {
    int pid, pidfd;
    int sync;
    int input, output, errors; /* our ends of the pipes */
    struct lk_shared *shared;
};

int lk_launch(const struct lk_spec *spec, struct lk_timeline *timeline, struct lk_launched *launched,
              struct lk_error *error);
