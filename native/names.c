/* Names of system calls, for seccomp profiles and for the pictures. */
#include "core.h"

#include <linux/audit.h>
#include <string.h>
#include <sys/syscall.h>

struct name {
    const char *text;
    int64_t number;
};

/* Sorted by text: the generator writes the table in that order. */
static const struct name NAMES[] = {
#define LK_SYSCALL(name) {#name, __NR_##name},
#include "syscalls.inc"
#undef LK_SYSCALL
};
static const size_t NAME_COUNT = sizeof NAMES / sizeof NAMES[0];

int64_t lk_syscall_number(const char *name) {
    size_t low = 0, high = NAME_COUNT;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, NAMES[middle].text);
        if (order == 0)
            return NAMES[middle].number;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

const char *lk_syscall_name(int64_t number) {
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (NAMES[i].number == number)
            return NAMES[i].text;
    return NULL;
}

uint32_t lk_audit_arch(void) {
#if defined(__x86_64__)
    return AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
    return AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
    return AUDIT_ARCH_RISCV64;
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
    return AUDIT_ARCH_PPC64LE;
#elif defined(__s390x__)
    return AUDIT_ARCH_S390X;
#else
#error "labkit does not know this processor's AUDIT_ARCH value"
#endif
}
