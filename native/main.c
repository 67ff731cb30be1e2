/* labkit-shim: one static program, several small ones. The first argument says which. */
#include <stdio.h>
#include <string.h>

#include "applets.h"

static const struct applet {
    const char *name;
    int (*run)(int argc, char **argv);
} APPLETS[] = {
    {"nursery", lk_nursery_main},
#ifdef LABKIT_HAVE_ANCHOR
    {"anchor", lk_anchor_main},
#endif
#ifdef LABKIT_HAVE_OCI
    {"oci", lk_oci_main},
#endif
#ifdef LABKIT_HAVE_BOX
    {"box", lk_box_main},
#endif
};

int main(int argc, char **argv) {
    /* The one applet that is executed under a name of its own: students see it in `ps`. */
    if (argc > 0 && strcmp(argv[0], "/sbin/docker-init") == 0)
        return lk_init_main(argc, argv);
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof APPLETS / sizeof APPLETS[0]; i++)
        if (strcmp(name, APPLETS[i].name) == 0)
            return APPLETS[i].run(argc - 1, argv + 1);
    (void)fprintf(stderr, "labkit-shim: started by labkitd, not by hand\n");
    return 125;
}
