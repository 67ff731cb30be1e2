#!/bin/sh
# Part of labkit's stand-in for httpd.
set -e
# A pid file of an earlier run would keep the server from starting.
rm -f /usr/local/apache2/logs/httpd.pid
exec httpd -DFOREGROUND "$@"
