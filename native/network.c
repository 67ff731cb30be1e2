#include "network.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int lk_raise_loopback(struct lk_error *error) {
    LK_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return lk_fail(error, "bring up loopback", "lo");
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return lk_fail(error, "bring up loopback", "lo");
    return 0;
}

int lk_spare_network(void) {
    struct lk_error ignored;
    LK_FD home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || unshare(CLONE_NEWNET) < 0)
        return -1;
    LK_FD spare = lk_raise_loopback(&ignored) < 0 ? -1 : open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    /* In the wrong namespace nothing of what follows would be right. */
    if (setns(home, CLONE_NEWNET) < 0)
        abort();
    return lk_take_fd(&spare);
}
