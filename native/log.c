#include "log.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lk.h"

/* An escaped byte takes at most six; a record adds its keys, stream and time. */
enum { ESCAPE_MAX = 6, RECORD_EXTRA = 96 };
_Static_assert(LK_LOG_LINE * ESCAPE_MAX + RECORD_EXTRA <= LK_LOG_OUT, "a record fits the buffer");

/* Length of the UTF-8 sequence at `text`, or 0 when it is not one (RFC 3629). */
static size_t sequence_length(const unsigned char *text, size_t left) {
    const unsigned char first = text[0];
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t length;
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        length = 2;
    else if (first >= 0xe0 && first <= 0xef)
        length = 3;
    else if (first >= 0xf0 && first <= 0xf4)
        length = 4;
    else
        return 0;
    if (first == 0xe0)
        low = 0xa0; /* overlong */
    else if (first == 0xed)
        high = 0x9f; /* surrogates */
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f; /* above U+10FFFF */
    if (left < length || text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* Bytes that stand for themselves: a table, because most of the shim's work is this question. */
static const bool PLAIN[256] = {
    [' ' ... '!'] = true, ['#' ... '%'] = true,  ['\'' ... ';'] = true,
    ['='] = true,         ['?' ... '['] = true, [']' ... 0x7f] = true,
};

/* Writes the escape of one sequence into six bytes; returns how many were used. */
static size_t escape_one(char *target, const unsigned char *text, size_t length) {
    static const char hex[] = "0123456789abcdef";
    if (length == 0) {
        memcpy(target, "\\ufffd", 6);
        return 6;
    }
    if (length > 1) {
        /* JSON allows U+2028 and U+2029, JavaScript did not; Go escapes both. */
        if (length == 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] & 0xfe) == 0xa8) {
            memcpy(target, text[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
            return 6;
        }
        memcpy(target, text, length);
        return length;
    }
    target[0] = '\\';
    switch (text[0]) {
    case '"': case '\\': target[1] = (char)text[0]; return 2;
    case '\n': target[1] = 'n'; return 2;
    case '\r': target[1] = 'r'; return 2;
    default:
        memcpy(target + 1, "u00", 3);
        target[4] = hex[text[0] >> 4];
        target[5] = hex[text[0] & 15];
        return 6;
    }
}

size_t lk_log_escape(char *target, size_t room, const char *text, size_t size, size_t *taken) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t used = 0, i = 0;
    while (i < size) {
        size_t run = i;
        while (run < size && PLAIN[bytes[run]])
            run++;
        size_t count = run - i;
        if (count > room - used)
            count = room - used;
        memcpy(target + used, bytes + i, count);
        used += count;
        i += count;
        if (i < run || i == size || room - used < ESCAPE_MAX)
            break;
        const size_t length = sequence_length(bytes + i, size - i);
        used += escape_one(target + used, bytes + i, length);
        i += length ? length : 1;
    }
    *taken = i;
    return used;
}

/* RFC 3339 with as many digits of a second as are not zero, in UTC. */
static size_t format_time(char *target, int64_t now_ns) {
    static time_t cached = -1;
    static char prefix[24];
    const time_t seconds = (time_t)(now_ns / 1000000000);
    if (seconds != cached) {
        struct tm parts;
        (void)gmtime_r(&seconds, &parts);
        (void)strftime(prefix, sizeof prefix, "%Y-%m-%dT%H:%M:%S", &parts);
        cached = seconds;
    }
    size_t used = strlen(prefix);
    memcpy(target, prefix, used);
    uint32_t fraction = (uint32_t)(now_ns % 1000000000);
    if (fraction != 0) {
        char digits[9];
        for (int i = 8; i >= 0; i--, fraction /= 10)
            digits[i] = (char)('0' + fraction % 10);
        size_t count = 9;
        while (digits[count - 1] == '0')
            count--;
        target[used++] = '.';
        memcpy(target + used, digits, count);
        used += count;
    }
    target[used++] = 'Z';
    return used;
}

static int open_file(struct lk_log *log, int extra) {
    const int fd = openat(log->directory, log->name,
                          O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | extra, 0640);
    if (fd < 0)
        return -errno;
    const off_t end = lseek(fd, 0, SEEK_END);
    log->fd = fd;
    log->size = end > 0 ? end : 0;
    return 0;
}

int lk_log_open(struct lk_log *log, int directory, const char *name, int64_t limit, int files) {
    log->directory = directory;
    log->fd = -1;
    log->name = name;
    log->limit = limit;
    log->files = files;
    if (log->now_ns == NULL)
        log->now_ns = lk_realtime_ns;
    return directory >= 0 ? open_file(log, 0) : 0;
}

void lk_log_flush(struct lk_log *log) {
    if (log->used == 0)
        return;
    const int status = log->fd >= 0 ? lk_write_all(log->fd, log->out, log->used) : -EBADF;
    if (status < 0) {
        log->dropped += log->used;
        /* Half a record would spoil the file for every reader. */
        if (log->fd >= 0)
            (void)!ftruncate(log->fd, log->size);
    } else {
        log->size += (int64_t)log->used;
        log->total += log->used;
    }
    log->used = 0;
}

/* name.2 becomes name.3, name.1 becomes name.2, name becomes name.1; the oldest is overwritten. */
static void rotate(struct lk_log *log) {
    char from[300], to[300];
    lk_close_fd(&log->fd);
    log->fd = -1;
    for (int i = log->files - 1; i > 0; i--) {
        (void)snprintf(to, sizeof to, "%s.%d", log->name, i);
        if (i > 1)
            (void)snprintf(from, sizeof from, "%s.%d", log->name, i - 1);
        else
            (void)snprintf(from, sizeof from, "%s", log->name);
        (void)renameat(log->directory, from, log->directory, to);
    }
    (void)open_file(log, O_TRUNC);
    log->rotations++;
}

static void put(struct lk_log *log, const char *text, size_t size) {
    memcpy(log->out + log->used, text, size);
    log->used += size;
}

/* One record, never split over two writes: a refused one must not leave half of itself behind. */
static void record(struct lk_log *log, int stream, const char *text, size_t size, bool newline) {
    if (log->limit > 0 && log->size + (int64_t)log->used >= log->limit) {
        lk_log_flush(log);
        rotate(log);
    }
    if (LK_LOG_OUT - log->used < size * ESCAPE_MAX + RECORD_EXTRA)
        lk_log_flush(log);
    put(log, "{\"log\":\"", 8);
    size_t taken;
    log->used += lk_log_escape(log->out + log->used, LK_LOG_OUT - log->used, text, size, &taken);
    if (newline)
        put(log, "\\n", 2);
    put(log, stream == 0 ? "\",\"stream\":\"stdout\",\"time\":\"" : "\",\"stream\":\"stderr\",\"time\":\"",
        28);
    log->used += format_time(log->out + log->used, log->now_ns());
    put(log, "\"}\n", 3);
}

void lk_log_add(struct lk_log *log, int stream, const char *data, size_t size) {
    if (log->directory < 0)
        return;
    char *line = log->line[stream];
    size_t *used = &log->line_used[stream];
    while (size > 0) {
        const size_t room = LK_LOG_LINE - *used;
        const size_t span = size < room ? size : room;
        const char *end = memchr(data, '\n', span);
        const size_t length = end ? (size_t)(end - data) : span;
        if (*used == 0 && end != NULL) {
            record(log, stream, data, length, true); /* the common case copies nothing */
        } else {
            memcpy(line + *used, data, length);
            *used += length;
            if (end != NULL || *used == LK_LOG_LINE) {
                record(log, stream, line, *used, end != NULL);
                *used = 0;
            }
        }
        data += length + (end != NULL);
        size -= length + (end != NULL);
    }
    lk_log_flush(log);
}

void lk_log_end(struct lk_log *log, int stream) {
    if (log->directory >= 0 && log->line_used[stream] > 0) {
        record(log, stream, log->line[stream], log->line_used[stream], false);
        log->line_used[stream] = 0;
    }
    lk_log_flush(log);
}
