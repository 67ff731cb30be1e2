/* /dev: the nodes a container is given, the links programs expect, and its terminal. */
#pragma once

#include "timeline.h"
#include "wire.h"

int lk_make_devices(const struct lk_spec *spec, int root, struct lk_timeline *timeline,
                    struct lk_error *error);

struct lk_tty {
    int master, slave;
};
/* A new terminal of the container's own devpts. With `console`, it is shown as /dev/console. */
int lk_open_tty(const struct lk_spec *spec, int root, bool console, struct lk_tty *tty,
                struct lk_timeline *timeline, struct lk_error *error);
