/* The shim's side of a start: namespaces, pipes and the clone itself. */
#pragma once

#include "child.h"
#include "groups.h"

enum { LK_BASES_MAX = LK_GROUP_FOLDERS_MAX };

/* What a process finds prepared where it starts; -1 where there is nothing. */
struct lk_ground {
    int program;                  /* labkit-shim itself, for --init */
    int spare_network;            /* a namespace made ahead (network.h) */
    int bases[LK_BASES_MAX];      /* the lab's own cgroup folders */
    size_t base_count;
    bool unified;                 /* the one base is the v2 tree's */
    char spare_group[32];         /* v1: a folder below each base, made ahead; empty: none */
};

/* What the shim keeps of a started process; -1 where there is none. */
struct lk_launched {
    int pid, pidfd;
    int sync;
    int input, output, errors; /* our ends of the pipes */
    struct lk_shared *shared;
};

/* Warnings about the control groups go to `warnings`. */
int lk_launch(const struct lk_spec *spec, struct lk_timeline *timeline, const struct lk_ground *ground,
              char warnings[LK_WARNINGS], struct lk_launched *launched, struct lk_error *error);
