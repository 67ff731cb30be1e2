"""Containers, execs, logs and events of one Docker host; the facade is `engine.Engine`."""
