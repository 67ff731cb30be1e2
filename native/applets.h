/* The programs inside labkit-shim; argv[0] is the applet's own name. */
#pragma once

int lk_anchor_main(int argc, char **argv);
int lk_box_main(int argc, char **argv);
int lk_nursery_main(int argc, char **argv);
int lk_oci_main(int argc, char **argv);
int lk_init_main(int argc, char **argv);
