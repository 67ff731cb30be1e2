#include "timeline.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lk.h"

static struct lk_timeline *map(int fd) {
    struct lk_timeline *timeline = mmap(NULL, sizeof *timeline, PROT_READ | PROT_WRITE,
                                        MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (timeline == MAP_FAILED)
        return NULL;
    timeline->magic = LK_TIMELINE_MAGIC;
    timeline->version = LK_TIMELINE_VERSION;
    return timeline;
}

static int create(int directory, const char *name) {
    return openat(directory, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
}

struct lk_timeline *lk_timeline_create(int directory, const char *name) {
    LK_FD fd = create(directory, name);
    if (fd < 0 || ftruncate(fd, sizeof(struct lk_timeline)) < 0)
        return NULL;
    return map(fd);
}

struct lk_timeline *lk_timeline_share(void) {
    return map(-1);
}

int lk_timeline_save(const struct lk_timeline *timeline, int directory, const char *name) {
    const uint32_t count = timeline->count < LK_STEPS_MAX ? timeline->count : LK_STEPS_MAX;
    LK_FD fd = create(directory, name);
    if (fd < 0)
        return -errno;
    return lk_write_all(fd, timeline, offsetof(struct lk_timeline, steps) + count * sizeof timeline->steps[0]);
}

void lk_timeline_close(struct lk_timeline *timeline) {
    (void)munmap(timeline, sizeof *timeline);
}

struct lk_step *lk_begin(struct lk_timeline *timeline, enum lk_by by, const char *name,
                         const char *call, const char *format, ...) {
    /* Where steps go that find no room. */
    static struct lk_step scratch;
    struct lk_step *step = &scratch;
    const uint32_t index = __atomic_fetch_add(&timeline->count, 1, __ATOMIC_RELAXED);
    if (index < LK_STEPS_MAX)
        step = &timeline->steps[index];
    step->by = by;
    step->error = 0;
    (void)snprintf(step->name, sizeof step->name, "%s", name);
    (void)snprintf(step->call, sizeof step->call, "%s", call);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(step->detail, sizeof step->detail, format, arguments);
    va_end(arguments);
    step->end_ns = 0;
    step->start_ns = lk_monotonic_ns();
    return step;
}

int lk_end(struct lk_step *step, int result) {
    step->end_ns = lk_monotonic_ns();
    if (result < 0)
        step->error = -result;
    return result;
}
