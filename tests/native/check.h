/* Assertions that name what did not hold, and a random source whose seed is printed. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* LABKIT_SEED replays a run. */
static inline uint64_t seed_of_this_run(void) {
    const char *given = getenv("LABKIT_SEED");
    const uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)(uintptr_t)&given | 1;
    (void)printf("LABKIT_SEED=%llu\n", (unsigned long long)seed);
    return seed ? seed : 1;
}
