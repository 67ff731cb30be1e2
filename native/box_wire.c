/* Frames of the box protocol, and the record of steps taken. */
#include "box.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lk.h"

static int read_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        const ssize_t got = read(fd, at, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -EPIPE;
        at += got;
        size -= (size_t)got;
    }
    return 0;
}

int box_receive(struct box *box, struct box_request *request) {
    uint32_t size = 0;
    *request = (struct box_request){.passed_fd = -1};
    const ssize_t got =
        lk_receive_fd(box->channel, &size, sizeof size, &request->passed_fd, MSG_WAITALL);
    if (got == 0)
        return 0;
    if (got != (ssize_t)sizeof size || size > BOX_FRAME_MAX)
        return got < 0 ? (int)got : -EPROTO;
    /* One byte more, so that the last field is terminated too. */
    request->buffer = malloc((size_t)size + 1);
    if (request->buffer == NULL)
        return -ENOMEM;
    const int rc = read_all(box->channel, request->buffer, size);
    if (rc < 0)
        return rc;
    for (size_t at = 0; at < size;) {
        uint32_t length;
        if (request->count == BOX_FIELDS_MAX || size - at < sizeof length)
            return -EPROTO;
        memcpy(&length, request->buffer + at, sizeof length);
        /* The previous field's end is this length's first byte, which has been read by now. */
        request->buffer[at] = '\0';
        at += sizeof length;
        if (length > size - at)
            return -EPROTO;
        request->field[request->count++] = (struct box_field){request->buffer + at, length};
        at += length;
    }
    request->buffer[size] = '\0';
    return 1;
}

void box_request_free(struct box_request *request) {
    free(request->buffer);
    if (request->passed_fd >= 0)
        (void)close(request->passed_fd);
    *request = (struct box_request){.passed_fd = -1};
}

const char *box_argument(const struct box_request *request, size_t index) {
    return index + 1 < request->count ? request->field[index + 1].text : "";
}

long long box_number(const struct box_request *request, size_t index, long long fallback) {
    const char *text = box_argument(request, index);
    char *end;
    const long long value = strtoll(text, &end, 0);
    return *text == '\0' || *end != '\0' ? fallback : value;
}

static void append(struct box_reply *reply, const void *data, size_t size) {
    if (reply->extra_size + size > reply->extra_room) {
        const size_t room = (reply->extra_size + size) * 2 + 256;
        char *larger = realloc(reply->extra, room);
        if (larger == NULL)
            return;
        reply->extra = larger;
        reply->extra_room = room;
    }
    memcpy(reply->extra + reply->extra_size, data, size);
    reply->extra_size += size;
}

static void append_field(struct box_reply *reply, const void *data, size_t size) {
    const uint32_t length = (uint32_t)size;
    append(reply, &length, sizeof length);
    append(reply, data, size);
}

void box_put(struct box_reply *reply, const char *key, const void *value, size_t size) {
    append_field(reply, key, strlen(key));
    append_field(reply, value, size);
}

void box_put_text(struct box_reply *reply, const char *key, const char *value) {
    box_put(reply, key, value, strlen(value));
}

void box_put_number(struct box_reply *reply, const char *key, long long value) {
    char text[32];
    const int length = snprintf(text, sizeof text, "%lld", value);
    box_put(reply, key, text, (size_t)length);
}

struct box_step *box_begin(struct box_reply *reply, const char *name, const char *call,
                           const char *format, ...) {
    /* A full table goes on in its last place: the latest step is the one that explains. */
    if (reply->steps < BOX_STEPS_MAX)
        reply->steps++;
    struct box_step *step = &reply->step[reply->steps - 1];
    *step = (struct box_step){.name = name, .call = call};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(step->detail, sizeof step->detail, format, arguments);
    va_end(arguments);
    step->start_ns = lk_monotonic_ns();
    return step;
}

long box_end(struct box_reply *reply, struct box_step *step, long result) {
    const int number = errno;
    step->end_ns = lk_monotonic_ns();
    if (result < 0) {
        step->error = number;
        if (reply->error == 0) {
            reply->error = number;
            reply->failed_call = step->call;
        }
        errno = number;
    }
    return result;
}

int box_send(struct box *box, struct box_reply *reply) {
    struct box_reply out = {0};
    char number[32];
    append_field(&out, reply->error ? "error" : "ok", reply->error ? 5 : 2);
#define NUMBER(value)                                                                              \
    append_field(&out, number, (size_t)snprintf(number, sizeof number, "%llu",                     \
                                                (unsigned long long)(value)))
    NUMBER(reply->error);
    const char *call = reply->failed_call != NULL ? reply->failed_call : "";
    append_field(&out, call, strlen(call));
    NUMBER(reply->steps);
    for (size_t i = 0; i < reply->steps; i++) {
        const struct box_step *step = &reply->step[i];
        append_field(&out, step->name, strlen(step->name));
        append_field(&out, step->call, strlen(step->call));
        append_field(&out, step->detail, strlen(step->detail));
        NUMBER(step->start_ns);
        NUMBER(step->end_ns);
        NUMBER(step->error);
    }
#undef NUMBER
    append(&out, reply->extra, reply->extra_size);
    const uint32_t size = (uint32_t)out.extra_size;
    int rc = lk_write_all(box->channel, &size, sizeof size);
    if (rc == 0)
        rc = lk_write_all(box->channel, out.extra, out.extra_size);
    free(out.extra);
    return rc;
}
