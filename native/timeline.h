/*
 * The measured account of a start: every step with the system call it stands for, when it began
 * and ended, who took it. Shim and child share the memory it is written to, so a step costs no
 * message, survives the exec, and can be told when a start fails. timeline.bin is its copy.
 */
#pragma once

#include <stdint.h>

enum { LK_TIMELINE_MAGIC = 0x4c4b544c /* "LTKL" */, LK_TIMELINE_VERSION = 1, LK_STEPS_MAX = 192 };
enum lk_by { LK_BY_SHIM = 1, LK_BY_CHILD = 2 };

struct lk_step {
    uint64_t start_ns; /* CLOCK_MONOTONIC */
    uint64_t end_ns;   /* 0: did not return (exec succeeded, or the process died here) */
    int32_t error;     /* errno or 0 */
    uint32_t by;       /* enum lk_by */
    char name[32];
    char call[96];
    char detail[104];
};

struct lk_timeline {
    uint32_t magic;
    uint32_t version;
    uint32_t count; /* steps begun; those past the table's end are lost */
    uint32_t zero;
    struct lk_step steps[LK_STEPS_MAX];
};

/* Creates `name` in a folder and maps it; NULL with errno set when that fails. */
struct lk_timeline *lk_timeline_create(int directory, const char *name);
/* One that children made from here on share, and that is in no file yet. */
struct lk_timeline *lk_timeline_share(void);
/* Writes the steps so far to `name` in a folder. */
int lk_timeline_save(const struct lk_timeline *timeline, int directory, const char *name);
void lk_timeline_close(struct lk_timeline *timeline);

/*
 * Begins a step. `call` is the system call in words a manual page would use; `format` tells what
 * it was applied to. Never fails: without room the step is counted and forgotten. Shim and child may
 * both write: the row is claimed atomically.
 */
struct lk_step *lk_begin(struct lk_timeline *timeline, enum lk_by by, const char *name,
                         const char *call, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Ends it; `result` is zero or more, or a negative errno. Returns `result`. */
int lk_end(struct lk_step *step, int result);
