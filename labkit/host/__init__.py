"""One Linux host: isolation, images, engine. This floor acts on the kernel."""
