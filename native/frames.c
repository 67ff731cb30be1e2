/*
 * json-file records into the frames of Docker's log stream, a whole block of the file at a time.
 *
 * A record is `{"log":"TEXT","stream":"stdout","time":"…Z"}` in this order of keys, as log.c and
 * Docker's own driver write it. What a frame takes is never more than its record had, so the output
 * of a block fits where the block did.
 */
#include "core.h"

#include <stdbool.h>
#include <string.h>

static const char TEXT_BEGIN[] = "{\"log\":\"";
static const char STREAM_BEGIN[] = "\",\"stream\":\"std";
static const char TIME_BEGIN[] = "\",\"time\":\"";
enum { FRAME = 8, SECOND = 19, FRACTION = 9, STAMP = SECOND + 1 + FRACTION + 2 };

static bool starts(const char *at, const char *end, const char *word, size_t size) {
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0;
}

static int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The number of a \uXXXX whose four digits begin at `at`, or -1. */
static int code_unit(const char *at, const char *end) {
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* Decodes the escape at *at (past its backslash); false when it is none. */
static bool unescape(const char **at, const char *end, char **out) {
    static const char from[] = "\"\\/nrtbf", to[] = "\"\\/\n\r\t\b\f";
    if (*at == end)
        return false;
    const char letter = *(*at)++;
    if (letter != 'u') {
        const char *known = memchr(from, letter, sizeof from - 1);
        if (known == NULL)
            return false;
        *(*out)++ = to[known - from];
        return true;
    }
    const int unit = code_unit(*at, end);
    if (unit < 0)
        return false;
    *at += 4;
    uint32_t code = (uint32_t)unit;
    if (code >= 0xd800 && code < 0xdc00 && starts(*at, end, "\\u", 2)) {
        const int low = code_unit(*at + 2, end);
        if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
            *at += 6;
        }
    }
    *out = put_utf8(*out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return true;
}

/* The record's text from *at to its closing quote; returns the end of what was written or NULL. */
static char *text_of(const char **at, const char *end, char *out) {
    const char *quote = memchr(*at, '"', (size_t)(end - *at));
    while (quote != NULL) {
        const char *escape = memchr(*at, '\\', (size_t)(quote - *at));
        const char *stop = escape != NULL ? escape : quote;
        memmove(out, *at, (size_t)(stop - *at));
        out += stop - *at;
        *at = stop;
        if (escape == NULL)
            return out;
        ++*at;
        if (!unescape(at, end, &out))
            return NULL;
        if (*at > quote) /* it was an escaped one */
            quote = memchr(*at, '"', (size_t)(end - *at));
    }
    return NULL;
}

/* `2024-05-01T10:00:00.5Z` with all nine digits and a blank, as `docker logs -t` prints it. */
static bool put_stamp(char *out, const char *at, const char *end) {
    if (end - at < SECOND + 1 || at[SECOND - 9] != 'T')
        return false;
    memcpy(out, at, SECOND);
    memcpy(out + SECOND, ".000000000Z ", 1 + FRACTION + 2);
    at += SECOND;
    if (*at == '.')
        for (int i = 1; i <= FRACTION && ++at < end && *at >= '0' && *at <= '9'; i++)
            out[SECOND + i] = *at;
    return true;
}

/* One record without its newline; returns the end of its frame (`out` itself where none is due), or
 * NULL when it is written in another way. */
static char *frame(const char *at, const char *end, char *out, int flags) {
    char *const begin = out;
    char *text = out + (flags & LK_FRAMES_RAW ? 0 : FRAME) + (flags & LK_FRAMES_TIMES ? STAMP : 0);
    const size_t head = sizeof TEXT_BEGIN - 1, middle = sizeof STREAM_BEGIN - 1;
    if (!starts(at, end, TEXT_BEGIN, head))
        return NULL;
    /* The stream is named behind the text: looked at first, for the text may be the other one's. */
    at += head;
    char *stop = text_of(&at, end, text);
    if (stop == NULL || !starts(at, end, STREAM_BEGIN, middle) || at + middle == end)
        return NULL;
    const bool errors = at[middle] == 'e';
    if (!(flags & (errors ? LK_FRAMES_STDERR : LK_FRAMES_STDOUT)))
        return begin;
    at += middle + 3; /* "out" and "err" */
    if (flags & LK_FRAMES_TIMES) {
        const size_t size = sizeof TIME_BEGIN - 1;
        if (at > end || !starts(at, end, TIME_BEGIN, size) ||
            !put_stamp(text - STAMP, at + size, end))
            return NULL;
        text -= STAMP;
    }
    if (!(flags & LK_FRAMES_RAW)) {
        const uint32_t size = (uint32_t)(stop - text);
        const unsigned char header[FRAME] = {
            errors ? 2 : 1, 0, 0, 0,
            (unsigned char)(size >> 24), (unsigned char)(size >> 16),
            (unsigned char)(size >> 8), (unsigned char)size,
        };
        memcpy(begin, header, FRAME);
    }
    return stop;
}

size_t lk_log_frames(const char *block, size_t size, char *out, int flags, size_t *taken) {
    const char *at = block, *const end = block + size;
    char *const begin = out;
    const char *newline;
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        char *const next = frame(at, newline, out, flags);
        if (next == NULL)
            break;
        out = next;
        at = newline + 1;
    }
    *taken = (size_t)(at - block);
    return (size_t)(out - begin);
}
