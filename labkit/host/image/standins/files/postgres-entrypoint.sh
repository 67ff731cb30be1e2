#!/bin/bash
# Part of labkit's stand-in for postgres: makes the database at the first start, then runs the
# server as its own user. Understands POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB (each also with
# _FILE), POSTGRES_HOST_AUTH_METHOD, POSTGRES_INITDB_ARGS, PGDATA and /docker-entrypoint-initdb.d.
set -eo pipefail

from_file() {
    local name="$1" file="${1}_FILE"
    if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
        echo >&2 "error: both $name and $file are set (but are exclusive)"
        exit 1
    fi
    if [ -n "${!file:-}" ]; then
        export "$name"="$(<"${!file}")"
        unset "$file"
    fi
}

case "$1" in
-*) set -- postgres "$@" ;;
esac

if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    chmod 3777 /var/run/postgresql
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
fi

if [ "$1" = postgres ]; then
    for name in POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB POSTGRES_INITDB_ARGS; do
        from_file "$name"
    done
    user="${POSTGRES_USER:-postgres}"
    database="${POSTGRES_DB:-$user}"
    if [ -s "$PGDATA/PG_VERSION" ]; then
        printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
    else
        if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
            cat >&2 <<'END'
Error: Database is uninitialized and superuser password is not specified.
       You must specify POSTGRES_PASSWORD to a non-empty value for the
       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".

       You may also use "POSTGRES_HOST_AUTH_METHOD=trust" to allow all
       connections without a password. This is *not* recommended.

       See PostgreSQL documentation about "trust":
       https://www.postgresql.org/docs/current/auth-trust.html
END
            exit 1
        fi
        eval 'initdb --username="$user" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"
        printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
        printf "\\nlisten_addresses = '*'\\n" >>"$PGDATA/postgresql.conf"
        # Nobody outside is answered before the scripts are through: only the local socket listens.
        PGUSER="$user" pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
        run_sql=(psql -v ON_ERROR_STOP=1 --username "$user" --no-password --no-psqlrc)
        if [ "$database" != postgres ]; then
            "${run_sql[@]}" --dbname postgres --set database="$database" <<<'CREATE DATABASE :"database" ;'
        fi
        for file in /docker-entrypoint-initdb.d/*; do
            case "$file" in
            *.sh)
                echo "$0: running $file"
                if [ -x "$file" ]; then "$file"; else . "$file"; fi
                ;;
            *.sql)
                echo "$0: running $file"
                "${run_sql[@]}" --dbname "$database" -f "$file"
                ;;
            *.sql.gz)
                echo "$0: running $file"
                gunzip -c "$file" | "${run_sql[@]}" --dbname "$database"
                ;;
            */\*) ;;
            *) echo "$0: ignoring $file" ;;
            esac
        done
        PGUSER="$user" pg_ctl -D "$PGDATA" -m fast -w stop
        unset PGPASSWORD
        printf '\nPostgreSQL init process complete; ready for start up.\n\n'
    fi
fi
exec "$@"
