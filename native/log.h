/*
 * The json-file log: one JSON object per line, byte for byte what Docker's driver writes.
 *
 *   {"log":"hello\n","stream":"stdout","time":"2024-05-01T10:00:00.123456789Z"}
 *
 * Lines over 16 KiB are cut into parts without "\n"; an unfinished line waits for its end. When
 * the disk refuses, output is dropped and counted: a full disk must not stop the container.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { LK_LOG_LINE = 16 * 1024, LK_LOG_OUT = 128 * 1024, LK_LOG_STREAMS = 2 };

struct lk_log {
    int directory; /* -1: keep no log */
    int fd;
    const char *name;
    int64_t limit;  /* bytes per file; -1 is none */
    int files;      /* how many files to keep, the current one included */
    int64_t size;   /* of the current file */
    uint64_t total; /* bytes appended since this log was opened, over all rotations */
    uint64_t rotations;
    uint64_t dropped; /* bytes the disk refused */
    int64_t (*now_ns)(void);
    size_t used; /* of `out` */
    size_t line_used[LK_LOG_STREAMS];
    char line[LK_LOG_STREAMS][LK_LOG_LINE];
    char out[LK_LOG_OUT];
};

/* Opens (and creates) the log. `name` must stay valid. Negative errno when that fails. */
int lk_log_open(struct lk_log *log, int directory, const char *name, int64_t limit, int files);
/* Takes output of stream 0 (stdout) or 1 (stderr). */
void lk_log_add(struct lk_log *log, int stream, const char *data, size_t size);
/* The stream has ended: its unfinished line is complete now. */
void lk_log_end(struct lk_log *log, int stream);
/* Hands everything to the kernel. */
void lk_log_flush(struct lk_log *log);

/*
 * Escapes text the way Go's encoder does for this driver; bytes that are not UTF-8 become U+FFFD.
 * Stops before output would pass `room`; returns bytes written, *taken bytes read.
 */
size_t lk_log_escape(char *target, size_t room, const char *text, size_t size, size_t *taken);
