"""Time, network, disk and chance as small ports, each with a real and a simulated side."""
