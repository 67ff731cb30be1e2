/* Malformed specs are refused without reading a byte that is not theirs. */
#include "wire.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>

#include "check.h"

struct builder {
    char data[8192];
    size_t size;
};

static void put(struct builder *builder, const void *data, size_t size) {
    CHECK(builder->size + size <= sizeof builder->data);
    memcpy(builder->data + builder->size, data, size);
    builder->size += size;
}

static void record(struct builder *builder, uint16_t tag, const void *body, uint32_t size) {
    const uint16_t zero = 0;
    put(builder, &tag, 2);
    put(builder, &zero, 2);
    put(builder, &size, 4);
    put(builder, body, size);
}

static void finish(struct builder *builder) {
    const uint32_t header[4] = {LK_SPEC_MAGIC, LK_SPEC_VERSION, (uint32_t)builder->size, 0};
    memcpy(builder->data, header, sizeof header);
}

static struct builder valid(void) {
    struct builder builder = {.size = 16};
    const struct lk_basics basics = {.flags = LK_TTY, .umask = 022, .clone_flags = CLONE_NEWNS};
    record(&builder, LK_TAG_BASICS, &basics, sizeof basics);
    record(&builder, LK_TAG_ID, "abc", 4);
    record(&builder, LK_TAG_ARGS, "sh\0-c\0true\0", 11);
    record(&builder, LK_TAG_ENV, "PATH=/bin\0", 10);
    record(&builder, LK_TAG_LOWER, "/one", 5);
    record(&builder, LK_TAG_LOWER, "/two", 5);
    const uint32_t groups[2] = {5, 6};
    record(&builder, LK_TAG_GROUPS, groups, sizeof groups);
    const struct sock_filter filter[2] = {{6, 0, 0, 0}, {6, 0, 0, 0}};
    record(&builder, LK_TAG_SECCOMP, filter, sizeof filter);
    struct builder mount = {.size = 0};
    const uint8_t kinds[4] = {LK_MOUNT_TMPFS, LK_CREATE_DIR, 0, 0};
    const uint32_t flags = LK_RDONLY, propagation = MS_SLAVE;
    put(&mount, kinds, 4);
    put(&mount, &flags, 4);
    put(&mount, &propagation, 4);
    put(&mount, "/dev\0\0mode=755\0", 15);
    record(&builder, LK_TAG_MOUNT, mount.data, (uint32_t)mount.size);
    record(&builder, LK_TAG_SYSCTL, "a/b\0001\0", 6);
    finish(&builder);
    return builder;
}

/* Decodes a copy that ends exactly at an allocation's end, so that ASan sees the first byte past it. */
static int decode(const struct builder *builder, struct lk_spec *spec, char **copy) {
    struct lk_error error = {0};
    *copy = malloc(builder->size ? builder->size : 1);
    CHECK(*copy != NULL);
    memcpy(*copy, builder->data, builder->size);
    const int status = lk_spec_decode(spec, *copy, builder->size, &error);
    CHECK((status < 0) == (error.number != 0));
    return status;
}

static int decode_and_forget(const struct builder *builder) {
    struct lk_spec spec;
    char *copy;
    const int status = decode(builder, &spec, &copy);
    if (status == 0)
        lk_spec_free(&spec);
    free(copy);
    return status;
}

static void a_valid_spec_decodes_to_what_was_said(void) {
    const struct builder builder = valid();
    struct lk_spec spec;
    char *copy;
    CHECK(decode(&builder, &spec, &copy) == 0);
    CHECK(spec.arg_count == 3 && strcmp(spec.args[2], "true") == 0 && spec.args[3] == NULL);
    CHECK(spec.env_count == 1 && strcmp(spec.env[0], "PATH=/bin") == 0 && spec.env[1] == NULL);
    CHECK(spec.lower_count == 2 && strcmp(spec.lowers[1], "/two") == 0);
    CHECK(spec.group_count == 2 && spec.groups[1] == 6);
    CHECK(spec.seccomp_count == 2);
    CHECK(spec.mount_count == 1 && strcmp(spec.mounts[0].data, "mode=755") == 0);
    CHECK(spec.mounts[0].source[0] == 0 && spec.mounts[0].propagation == MS_SLAVE);
    CHECK(spec.sysctl_count == 1 && strcmp(spec.sysctls[0].second, "1") == 0);
    CHECK(strcmp(spec.id, "abc") == 0 && spec.hostname[0] == 0);
    lk_spec_free(&spec);
    free(copy);
}

static void every_truncation_is_refused(void) {
    const struct builder whole = valid();
    for (size_t size = 0; size < whole.size; size++) {
        struct builder part = whole;
        part.size = size;
        CHECK(decode_and_forget(&part) == -EBADMSG);
        if (size >= 16) {
            finish(&part); /* also when the header agrees with the shorter size */
            (void)decode_and_forget(&part);
        }
    }
}

static void what_is_not_in_the_format_is_refused(void) {
    struct builder builder = valid();
    record(&builder, LK_TAG_ID, "again", 6);
    finish(&builder);
    CHECK(decode_and_forget(&builder) == -EBADMSG); /* repeated */
    builder = valid();
    record(&builder, LK_TAG_COUNT, "x", 2);
    finish(&builder);
    CHECK(decode_and_forget(&builder) == -EBADMSG); /* unknown */
    builder = valid();
    record(&builder, LK_TAG_CWD, "/a\0b", 5);
    finish(&builder);
    CHECK(decode_and_forget(&builder) == -EBADMSG); /* a NUL within a text */
    builder = valid();
    record(&builder, LK_TAG_CWD, "/a", 2);
    finish(&builder);
    CHECK(decode_and_forget(&builder) == -EBADMSG); /* a text without its NUL */
    builder = (struct builder){.size = 16};
    record(&builder, LK_TAG_ARGS, "sh", 3);
    finish(&builder);
    CHECK(decode_and_forget(&builder) == -EBADMSG); /* no basics */
    builder = valid();
    const uint32_t huge = 0xfffffff0u;
    memcpy(builder.data + 16 + 4, &huge, 4); /* a length that would wrap */
    CHECK(decode_and_forget(&builder) == -EBADMSG);
}

static void random_damage_never_reads_out_of_bounds(uint64_t seed) {
    uint64_t state = seed;
    for (int round = 0; round < 60000; round++) {
        struct builder builder = valid();
        const int hits = 1 + (int)(next_random(&state) % 6);
        for (int i = 0; i < hits; i++)
            builder.data[16 + next_random(&state) % (builder.size - 16)] = (char)next_random(&state);
        (void)decode_and_forget(&builder);
    }
}

int main(void) {
    a_valid_spec_decodes_to_what_was_said();
    every_truncation_is_refused();
    what_is_not_in_the_format_is_refused();
    random_damage_never_reads_out_of_bounds(seed_of_this_run());
    return 0;
}
