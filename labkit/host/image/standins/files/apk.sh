#!/bin/sh
# Part of labkit's stand-in for alpine: a small program with the words of Alpine's package manager.
# Packages come from the lab's own index, which makes them of Debian's; they are real programs.
db=/lib/apk/db/labkit
gateway=$(ip route 2>/dev/null | awk '$1 == "default" { print $3; exit }')
index=http://${gateway:-127.0.0.1}:3142/apk

# No -T: the busybox of some machines crashes over it.
ask() { wget -q -O - "$index/$1" 2>/dev/null; }

usage() {
    echo "apk: labkit's stand-in for Alpine's package manager"
    echo
    echo "usage: apk add|del|info|search|update|upgrade [PACKAGE]..."
}

installed() { ls "$db" 2>/dev/null | sed -n 's/\.info$//p'; }

total() {
    count=$(installed | wc -l)
    bytes=$(cat "$db"/*.info 2>/dev/null | awk '$1 == "size" { all += $2 } END { print int(all / 1048576) }')
    echo "OK: ${bytes:-0} MiB in $count packages"
}

# names ARG...: the packages among the arguments, without versions.
names() {
    while [ $# -gt 0 ]; do
        case "$1" in
        -t | --virtual | -X | --repository | -p | --root) shift ;;
        -*) ;;
        *) echo "$1" | sed 's/[=<>~@].*//' ;;
        esac
        [ $# -gt 0 ] && shift
    done
}

refuse() {
    echo "ERROR: unable to select packages:" >&2
    for name in $1; do
        printf '  %s (no such package):\n    required by: world[%s]\n' "$name" "$name" >&2
    done
    exit $(echo "$1" | wc -w)
}

add() {
    wanted= unknown=
    for name in $(names "$@"); do
        [ -e "$db/$name.info" ] && continue
        if ! found=$(ask "$name.info"); then
            echo "WARNING: fetching $index: temporary error (try again later)" >&2
            refuse "$(names "$@")"
        fi
        case "$found" in
        ok*) wanted="$wanted $name" ;;
        unavailable*)
            echo "$found" | sed -n 's/^why /labkit: /p' >&2
            unknown="$unknown $name"
            ;;
        *) unknown="$unknown $name" ;;
        esac
    done
    [ -n "$unknown" ] && refuse "$unknown"
    mkdir -p "$db"
    set -- $wanted
    number=0
    for name in "$@"; do
        number=$((number + 1))
        ask "$name.info" >"$db/.new"
        echo "($number/$#) Installing $name ($(sed -n 's/^version //p' "$db/.new"))"
        echo "      origin: $(sed -n 's/^origin //p' "$db/.new")"
        if ! ask "$name.tar.gz" >"$db/.tar.gz" || ! tar -xzf "$db/.tar.gz" -C / ||
            ! tar -tzf "$db/.tar.gz" >"$db/$name.files"; then
            rm -f "$db/.new" "$db/.tar.gz" "$db/$name.files"
            echo "ERROR: $name: cannot be installed" >&2
            exit 1
        fi
        rm -f "$db/.tar.gz"
        mv "$db/.new" "$db/$name.info"
    done
    total
}

del() {
    for name in $(names "$@"); do
        if [ ! -e "$db/$name.info" ]; then
            echo "ERROR: No such package: $name" >&2
            exit 1
        fi
        echo "Purging $name ($(sed -n 's/^version //p' "$db/$name.info"))"
        mv "$db/$name.files" "$db/.files"
        rm "$db/$name.info"
        while read -r file; do
            # Another package may have brought the same library.
            grep -qxF "$file" "$db"/*.files 2>/dev/null && continue
            case "$file" in */) ;; *) rm -f "/$file" ;; esac
        done <"$db/.files"
        rm "$db/.files"
    done
    total
}

command=
for word in "$@"; do
    case "$word" in
    -V | --version) echo "apk-tools 2.14 (labkit's stand-in)"; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    -*) ;;
    *) command=$word; break ;;
    esac
done
# The command's own arguments are what comes after it.
while [ $# -gt 0 ] && [ "$1" != "$command" ]; do shift; done
[ $# -gt 0 ] && shift
case "$command" in
add) add "$@" ;;
del) del "$@" ;;
info) installed ;;
update | upgrade)
    if ! found=$(ask index); then
        echo "WARNING: fetching $index: temporary error (try again later)" >&2
        exit 1
    fi
    echo "$index"
    echo "OK: $(echo "$found" | wc -l) distinct packages available"
    ;;
search)
    ask index | grep -F -- "$(names "$@" | head -n 1)" | awk '{ print ($2 == "" ? $1 : $1 "-" $2) }'
    ;;
*) usage; exit 1 ;;
esac
