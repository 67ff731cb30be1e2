#!/bin/sh
# Part of labkit's stand-in for redis: the server runs as its own user, in /data.
set -e
case "$1" in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ] && setpriv --reuid=redis --regid=redis --clear-groups true 2>/dev/null; then
        find . \! -user redis -exec chown redis '{}' +
        exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
    fi
    umask 0077
    # As in the image of that name, other containers may connect; a configuration file decides itself.
    case "$2" in
    *.conf) ;;
    *) set -- "$@" --protected-mode no ;;
    esac
fi
exec "$@"
