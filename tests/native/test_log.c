/* The log's bytes: escapes as Go writes them, whatever the container prints. */
#include "log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static int64_t fixed_time(void) {
    return 1714557600120000000; /* 2024-05-01T10:00:00.12Z */
}

static struct lk_log the_log;

static void start_log(int directory, int64_t limit, int files) {
    memset(&the_log, 0, sizeof the_log);
    the_log.now_ns = fixed_time;
    CHECK(lk_log_open(&the_log, directory, "log", limit, files) == 0);
}

static void expect_file(int directory, const char *name, const char *expected) {
    static char text[1 << 20];
    const int fd = openat(directory, name, O_RDONLY);
    CHECK(fd >= 0);
    const ssize_t size = read(fd, text, sizeof text - 1);
    CHECK(size >= 0);
    text[size] = 0;
    (void)close(fd);
    if (strcmp(text, expected) != 0)
        (void)fprintf(stderr, "found:    %s\nexpected: %s\n", text, expected);
    CHECK(strcmp(text, expected) == 0);
}

static void expect_escape(const char *text, size_t size, const char *expected) {
    char *copy = malloc(size ? size : 1), target[256];
    CHECK(copy != NULL);
    memcpy(copy, text, size);
    size_t taken;
    const size_t used = lk_log_escape(target, sizeof target, copy, size, &taken);
    CHECK(taken == size);
    CHECK(used == strlen(expected) && memcmp(target, expected, used) == 0);
    free(copy);
}

static void escapes_are_gos(void) {
    expect_escape("plain", 5, "plain");
    expect_escape("\"\\\r\t\x7f", 5, "\\\"\\\\\\r\\u0009\x7f");
    expect_escape("<&>\0", 4, "\\u003c\\u0026\\u003e\\u0000");
    expect_escape("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3", 9, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3");
    expect_escape("\xe2\x80\xa8\xe2\x80\xa9", 6, "\\u2028\\u2029");
    expect_escape("\xff\xc0\x80", 3, "\\ufffd\\ufffd\\ufffd");        /* never valid, overlong */
    expect_escape("\xed\xa0\x80", 3, "\\ufffd\\ufffd\\ufffd");        /* a surrogate */
    expect_escape("\xf4\x90\x80\x80", 4, "\\ufffd\\ufffd\\ufffd\\ufffd"); /* past U+10FFFF */
    expect_escape("\xe2\x82", 2, "\\ufffd\\ufffd");                   /* cut short */
}

static void lines_become_records(int directory) {
    start_log(directory, -1, 1);
    lk_log_add(&the_log, 0, "one\ntw", 6);
    lk_log_add(&the_log, 1, "err\n", 4);
    lk_log_add(&the_log, 0, "o\nthree", 7);
    lk_log_end(&the_log, 0);
    expect_file(directory, "log",
                "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00.12Z\"}\n"
                "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"2024-05-01T10:00:00.12Z\"}\n"
                "{\"log\":\"two\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00.12Z\"}\n"
                "{\"log\":\"three\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00.12Z\"}\n");
    CHECK(unlinkat(directory, "log", 0) == 0);
}

static void the_longest_line_of_the_worst_bytes_fits(int directory) {
    static char worst[3 * LK_LOG_LINE];
    memset(worst, 1, sizeof worst);
    start_log(directory, -1, 1);
    lk_log_add(&the_log, 0, worst, sizeof worst);
    lk_log_add(&the_log, 0, "\n", 1);
    struct stat found;
    CHECK(fstatat(directory, "log", &found, 0) == 0);
    CHECK(the_log.total == (uint64_t)found.st_size);
    CHECK(found.st_size > 3 * LK_LOG_LINE * 6);
    CHECK(unlinkat(directory, "log", 0) == 0);
}

static void rotation_renames_in_order(int directory) {
    start_log(directory, 1, 3);
    const char *const words[] = {"a\n", "b\n", "c\n", "d\n"};
    for (int i = 0; i < 4; i++)
        lk_log_add(&the_log, 0, words[i], 2);
    const char *const names[] = {"log", "log.1", "log.2"};
    for (int i = 0; i < 3; i++) {
        char expected[128];
        (void)snprintf(expected, sizeof expected,
                       "{\"log\":\"%c\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00.12Z\"}\n",
                       'd' - i);
        expect_file(directory, names[i], expected);
        CHECK(unlinkat(directory, names[i], 0) == 0);
    }
    CHECK(faccessat(directory, "log.3", F_OK, 0) < 0);
    CHECK(the_log.rotations == 3);
}

static void random_bytes_in_random_pieces_keep_records_whole(int directory, uint64_t seed) {
    uint64_t state = seed;
    static char piece[70000];
    start_log(directory, 100000, 2);
    for (int round = 0; round < 200; round++) {
        const size_t size = next_random(&state) % sizeof piece;
        for (size_t i = 0; i < size; i++)
            piece[i] = (char)next_random(&state);
        lk_log_add(&the_log, (int)(next_random(&state) & 1), piece, size);
    }
    lk_log_end(&the_log, 0);
    lk_log_end(&the_log, 1);
    static char text[1 << 20];
    const int fd = openat(directory, "log", O_RDONLY);
    const ssize_t size = read(fd, text, sizeof text);
    (void)close(fd);
    CHECK(size > 0 && text[0] == '{' && text[size - 1] == '\n' && text[size - 2] == '}');
    for (ssize_t i = 0; i < size; i++)
        CHECK((unsigned char)text[i] >= 0x20 || text[i] == '\n');
    (void)unlinkat(directory, "log", 0);
    (void)unlinkat(directory, "log.1", 0);
}

int main(void) {
    char folder[] = "/tmp/lklogXXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    const int directory = open(folder, O_RDONLY | O_DIRECTORY);
    escapes_are_gos();
    lines_become_records(directory);
    the_longest_line_of_the_worst_bytes_fits(directory);
    rotation_renames_in_order(directory);
    random_bytes_in_random_pieces_keep_records_whole(directory, seed_of_this_run());
    CHECK(rmdir(folder) == 0);
    return 0;
}
