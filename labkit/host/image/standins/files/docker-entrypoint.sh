#!/bin/sh
# Part of labkit's stand-in for docker, the client: `docker run docker ps` means `docker ps`.
set -e
if [ "${1#-}" != "$1" ] || docker help "$1" >/dev/null 2>&1; then
    set -- docker "$@"
fi
exec "$@"
