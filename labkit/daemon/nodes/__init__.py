"""Simulated nodes: hosts of their own beside the lab's default one, or mere entries."""
