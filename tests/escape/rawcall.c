/* rawcall NUMBER [ARGUMENT…]: one system call, whatever libc thinks of it; prints its errno, or its
 * result when the environment holds RESULT. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long arguments[7] = {0};
    static char buffer[4096];
    for (int i = 1; i < argc && i < 8; i++)
        arguments[i - 1] = strcmp(argv[i], "buffer") == 0 ? (long)buffer : atol(argv[i]);
    errno = 0;
    const long result = syscall(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                                arguments[5], arguments[6]);
    printf("%ld\n", getenv("RESULT") ? result : result < 0 ? (long)errno : 0);
    return 0;
}
