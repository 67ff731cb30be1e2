/* Who the process is and what it may do: ids, capabilities, limits, the system-call filter. */
#pragma once

#include "timeline.h"
#include "wire.h"

/*
 * Ids, groups, bounding set; keeps the permitted set across the change of user, because loading
 * a seccomp filter without no_new_privs needs CAP_SYS_ADMIN for one more moment. What could not be
 * given goes to `warnings`, one sentence a line.
 */
int lk_become_user(const struct lk_spec *spec, char *warnings, size_t size,
                   struct lk_timeline *timeline, struct lk_error *error);
/* no_new_privs and the filter, then the final capability sets: the last things before exec. */
int lk_drop_privileges(const struct lk_spec *spec, struct lk_timeline *timeline,
                       struct lk_error *error);
/* Sets what is allowed and reports the rest in `warnings`. */
int lk_set_limits(const struct lk_spec *spec, char *warnings, size_t size,
                  struct lk_timeline *timeline, struct lk_error *error);
