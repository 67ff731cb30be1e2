/*
 * Paths inside a container are opened beneath its root and then acted on by descriptor; they are
 * never spelt to the kernel twice. A path of an image or a volume may contain symbolic links that
 * somebody changes while we look: openat2(2) resolves them inside the root, atomically.
 */
#pragma once

#include <stdbool.h>

#include "lk.h"

enum lk_want { LK_WANT_NOTHING, LK_WANT_DIR, LK_WANT_FILE };

/* Opens `path` beneath `root` with O_PATH; links are followed inside the root. -1 with errno. */
int lk_open_in_root(int root, const char *path);
/* The same, refusing every symbolic link on the way. */
int lk_open_no_links(int root, const char *path);

/*
 * Opens a mount target, creating what is missing as directories and, for LK_WANT_FILE, an empty
 * file at the end. `links` says whether links may be followed.
 */
int lk_open_target(int root, const char *path, enum lk_want want, bool links,
                   struct lk_error *error);

/* Opens the parent folder of `path` beneath `root`, creating it; *leaf points into `path`. */
int lk_open_parent(int root, const char *path, const char **leaf, struct lk_error *error);

/* Whether a descriptor lies on a file system of this magic (statfs(2)). */
bool lk_is_on(int fd, long magic);
