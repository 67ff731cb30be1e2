#!/bin/bash
# Part of labkit's stand-in for mariadb and mysql: makes the database at the first start, then runs
# the server as its own user. Understands MARIADB_* and MYSQL_* of ROOT_PASSWORD,
# ALLOW_EMPTY_ROOT_PASSWORD (MYSQL_ALLOW_EMPTY_PASSWORD), RANDOM_ROOT_PASSWORD, ROOT_HOST, DATABASE,
# USER, PASSWORD (each also with _FILE) and /docker-entrypoint-initdb.d.
set -eo pipefail

note() { printf '%s [Note] [Entrypoint]: %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S+00:00')" "$*"; }
fail() {
    printf '%s [ERROR] [Entrypoint]: %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S+00:00')" "$1" >&2
    exit 1
}

# setting NAME: the value of MARIADB_NAME or MYSQL_NAME, or what the file of that setting holds.
setting() {
    local prefix name file
    for prefix in MARIADB MYSQL; do
        name="${prefix}_$1"
        file="${name}_FILE"
        if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
            fail "Both $name and $file are set (but are exclusive)"
        fi
        if [ -n "${!file:-}" ]; then cat "${!file}"; return; fi
        if [ -n "${!name:-}" ]; then printf '%s' "${!name}"; return; fi
    done
}

# sql_text TEXT: TEXT as the inside of a quoted string.
sql_text() { printf '%s' "$1" | sed -e 's/\\/\\\\/g' -e "s/'/\\\\'/g"; }

case "$1" in
-*) set -- mariadbd "$@" ;;
esac
is_server=
case "$1" in
mariadbd | mysqld) is_server=1 ;;
esac
data=/var/lib/mysql

if [ -n "$is_server" ] && [ "$(id -u)" = 0 ]; then
    mkdir -p "$data" /run/mysqld
    find "$data" /run/mysqld \! -user mysql -exec chown mysql: '{}' +
    note "Switching to dedicated user 'mysql'"
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$BASH_SOURCE" "$@"
fi

if [ -n "$is_server" ] && [ ! -d "$data/mysql" ]; then
    root_password="$(setting ROOT_PASSWORD)"
    empty="$(setting ALLOW_EMPTY_ROOT_PASSWORD)$(setting ALLOW_EMPTY_PASSWORD)"
    random="$(setting RANDOM_ROOT_PASSWORD)"
    if [ -z "$root_password$empty$random" ]; then
        if [ "$LABKIT_STANDS_IN_FOR" = mysql ]; then
            fail $'Database is uninitialized and password option is not specified\n    You need to specify one of the following as an environment variable:\n    - MYSQL_ROOT_PASSWORD\n    - MYSQL_ALLOW_EMPTY_PASSWORD\n    - MYSQL_RANDOM_ROOT_PASSWORD'
        fi
        fail $'Database is uninitialized and password option is not specified\n\tYou need to specify one of MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_HASH, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD'
    fi
    if [ -n "$random" ]; then
        root_password="$(head -c 24 /dev/urandom | base64 | tr -d '+/=')"
        note "GENERATED ROOT PASSWORD: $root_password"
    fi
    note "Initializing database files"
    mariadb-install-db --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
        --skip-name-resolve --cross-bootstrap >/dev/null
    note "Database files initialized"
    note "Starting temporary server"
    "$1" --datadir="$data" --skip-networking --socket=/run/mysqld/mysqld.sock &
    server=$!
    client=(mariadb --protocol=socket -uroot -hlocalhost --socket=/run/mysqld/mysqld.sock)
    for _ in $(seq 600); do
        if "${client[@]}" --database=mysql -e 'SELECT 1' >/dev/null 2>&1; then break; fi
        kill -0 "$server" 2>/dev/null || fail "Unable to start server."
        sleep 0.1
    done
    note "Temporary server started."
    database="$(setting DATABASE)"
    user="$(setting USER)"
    password="$(setting PASSWORD)"
    host="$(setting ROOT_HOST)"
    {
        echo "SET @@SESSION.SQL_LOG_BIN=0;"
        echo "DELETE FROM mysql.global_priv WHERE User='' OR (User='root' AND Host NOT IN ('localhost'));"
        echo "FLUSH PRIVILEGES;"
        if [ -n "$database" ]; then
            echo "CREATE DATABASE IF NOT EXISTS \`${database//\`/\`\`}\`;"
        fi
        if [ -n "$user" ] && [ -n "$password" ]; then
            echo "CREATE USER '$(sql_text "$user")'@'%' IDENTIFIED BY '$(sql_text "$password")';"
            if [ -n "$database" ]; then
                pattern="${database//_/\\_}"
                echo "GRANT ALL ON \`${pattern//\`/\`\`}\`.* TO '$(sql_text "$user")'@'%';"
            fi
        fi
        if [ "${host:-%}" != localhost ]; then
            echo "CREATE USER 'root'@'$(sql_text "${host:-%}")' IDENTIFIED BY '$(sql_text "$root_password")';"
            echo "GRANT ALL ON *.* TO 'root'@'$(sql_text "${host:-%}")' WITH GRANT OPTION;"
        fi
        echo "SET PASSWORD FOR 'root'@'localhost' = PASSWORD('$(sql_text "$root_password")');"
    } | "${client[@]}" --database=mysql
    export MYSQL_PWD="$root_password"
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
        *.sh)
            note "$0: running $file"
            if [ -x "$file" ]; then "$file"; else . "$file"; fi
            ;;
        *.sql)
            note "$0: running $file"
            "${client[@]}" --database="${database:-mysql}" <"$file"
            ;;
        *.sql.gz)
            note "$0: running $file"
            gunzip -c "$file" | "${client[@]}" --database="${database:-mysql}"
            ;;
        */\*) ;;
        *) note "$0: ignoring $file" ;;
        esac
    done
    unset MYSQL_PWD
    note "Stopping temporary server"
    kill "$server"
    wait "$server" || true
    note "Temporary server stopped"
    note "MariaDB init process done. Ready for start up."
fi
exec "$@"
