/* Network namespaces: the loopback of a new one, and one made before it is asked for. */
#pragma once

#include "lk.h"

/* Brings up `lo` of the network namespace this process is in. */
int lk_raise_loopback(struct lk_error *error);

/*
 * A fresh network namespace with its loopback up, held by the descriptor returned; this process
 * stays where it was. Negative when that cannot be had, which is no error: the container makes its
 * own then.
 */
int lk_spare_network(void);
