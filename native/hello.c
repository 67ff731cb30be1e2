/* The program in the hello-world stand-in: print the greeting and leave.
 *
 * No stdio, so that a static build stays small. The text is
 * kept equal to labkit/host/image/standins/hello.py's by a test. */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

static const char greeting[] =
    "\n"
    "Hello from Docker!\n"
    "You can read this, so every part of the road it travelled works.\n"
    "\n"
    "Four things happened on the way:\n"
    " 1. The client you typed into sent your request to the daemon.\n"
    " 2. The daemon had no image called \"hello-world\" and went to get one.\n"
    " 3. From that image the daemon made a new container and ran the one program in it,\n"
    "    which is printing these lines.\n"
    " 4. The daemon handed the program's output to the client, and the client showed it here.\n"
    "\n"
    "Something with more in it to try next:\n"
    " $ docker run -it ubuntu bash\n"
    "\n"
    "(This image is a stand-in that labkit built on this machine; it is not the one from Docker "
    "Hub.)\n"
    "\n";

int main(void)
{
    const char *at = greeting;
    size_t left = sizeof greeting - 1;

    while (left > 0) {
        ssize_t count = write(STDOUT_FILENO, at, left);

        if (count < 0) {
            if (errno == EINTR)
                continue;
            return 1;
        }
        at += count;
        left -= (size_t)count;
    }
    return 0;
}
