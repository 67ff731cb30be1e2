#!/bin/sh
# Part of labkit's stand-in for httpd: Debian's apache2 with this image's folders.
exec /usr/sbin/apache2 -d /usr/local/apache2 -f conf/httpd.conf "$@"
