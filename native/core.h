#pragma once
#include <stddef.h>
#include <stdint.h>
/*
 * What the daemon calls: the few things that must not be done from Python.
 *
 * Every function returns a negative errno on failure and zero or more on success. Nothing here
 * keeps state between calls. (cffi reads this file: no preprocessor lines but those that start
 * in the first column, no inline functions.)
 */

/* The number of a system call on this machine, or -1 when the kernel headers do not know it. */
int64_t lk_syscall_number(const char *name);

/* The name of a system call, or NULL. */
const char *lk_syscall_name(int64_t number);

/* The AUDIT_ARCH_ value seccomp filters must compare with on this machine. */
uint32_t lk_audit_arch(void);

/*
 * Starts the program open at descriptor `program` in a session of its own, without copying the
 * caller's page tables (CLONE_VM|CLONE_VFORK), so that it costs the same in a large process.
 * fds[i] becomes descriptor 3+i of the child; 0, 1 and 2 are /dev/null; everything else is
 * closed. *pid receives the process id.
 */
int lk_spawn(int program, char *const argv[], char *const envp[], const int *fds, size_t fd_count,
             int *pid);

/*
 * An anonymous, sealed copy of the file at `path`: nobody, whatever their privilege, can write to
 * what is executed from it. Returns a descriptor.
 */
int lk_sealed_copy(const char *path);

/* What lk_log_frames shows: bits of its `flags`. */
enum { LK_FRAMES_STDOUT = 1, LK_FRAMES_STDERR = 2, LK_FRAMES_RAW = 4, LK_FRAMES_TIMES = 8 };

/*
 * The whole lines of `block`, a piece of a json-file log, as Docker's log stream: frames with an
 * 8-byte header, or bare text with LK_FRAMES_RAW; each text after its time with LK_FRAMES_TIMES.
 * `out` has room for `size` bytes, which always suffices, and may not be `block`. Returns how many
 * it got; *taken becomes how many of `block` were used: all of them, or those before the first line
 * that has other keys, or another order of them, than log.c writes.
 */
size_t lk_log_frames(const char *block, size_t size, char *out, int flags, size_t *taken);
