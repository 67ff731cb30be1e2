"""The simulated world: virtual time, and everything that can go wrong, from one seed."""
