#pragma once

#include "lk.h"

/*
 * Makes a fresh copy of a mount namespace our own: its mounts stop propagating (MS_SLAVE or
 * MS_PRIVATE says how), and the folder seen as "/" becomes its root. The latter it is already,
 * unless we run in a chroot. Sets errno too.
 */
int lk_own_root(unsigned long propagation, struct lk_error *error);
