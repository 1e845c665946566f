#!/bin/sh
# Restores a backup of backup.sh to an empty target, after verifying it.
#
#   restore.sh check BACKUP               only verify
#   restore.sh base BACKUP PGDATA [TIME]  a cluster: start PostgreSQL on PGDATA, and it recovers until TIME (what was
#                                         committed then or later is left out), without TIME until the archive's end
#   restore.sh dump BACKUP                into the empty database PGDATABASE of PGHOST, as its owner
#
# WAL_ARCHIVE_DIR is needed for a TIME. Without it a base backup is restored as it was when it was made.
# The restored cluster archives nothing until archive_mode is removed from its postgresql.auto.conf.
set -eu
umask 077

say() { printf 'restore: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

what=${1:-} backup=${2:-}
[ -n "$backup" ] || fail "usage: restore.sh check|base|dump BACKUP [PGDATA [TIME]]"
here=$(cd "$(dirname "$0")" && pwd)

check() {
    case ${backup##*/} in .*) fail "$backup was never finished" ;; esac
    [ -s "$backup/SHA256SUMS" ] || fail "$backup has no SHA256SUMS: it is no backup, or not a whole one"
    listed=$(wc -l <"$backup/SHA256SUMS")
    [ "$listed" -eq "$(find "$backup" -type f ! -name SHA256SUMS | wc -l)" ] || fail "$backup is not whole"
    (cd "$backup" && sha256sum -c SHA256SUMS >/dev/null) || fail "$backup is damaged: nothing was restored"
}

restore_base() {
    target=$1 time=$2
    grep -q ' \./base\.tar\.gz$' "$backup/SHA256SUMS" || fail "$backup is no base backup"
    [ -z "$(ls -A "$target" 2>/dev/null)" ] || fail "$target is not empty"
    case $time in
        '') ;;
        *[!0-9TZ:.+\ -]*) fail "$time is no time: write it as 2026-11-21T10:00:00Z" ;;
        *Z | *T*[+-]*) [ -n "${WAL_ARCHIVE_DIR:-}" ] || fail "a TIME needs WAL_ARCHIVE_DIR" ;;
        *) fail "$time has no time zone: write it as 2026-11-21T10:00:00Z" ;;
    esac
    mkdir -p "$target"
    chmod 700 "$target"
    tar -xzf "$backup/base.tar.gz" -C "$target"
    tar -xzf "$backup/pg_wal.tar.gz" -C "$target/pg_wal"
    cp "$backup/backup_manifest" "$target/"
    pg_verifybackup --quiet "$target" || fail "$backup is damaged; do not start what is in $target"
    {
        cat "$backup/SETTINGS"
        echo "archive_mode = off"
        if [ -n "${WAL_ARCHIVE_DIR:-}" ]; then
            printf "restore_command = '\"%s\" \"%%f\" \"%%p\" \"%s\"'\n" "$here/restore-wal.sh" "$WAL_ARCHIVE_DIR"
            echo "recovery_target_action = promote"
        fi
        if [ -n "$time" ]; then
            # PostgreSQL does not know the time zone Z yet when it reads this.
            case $time in *Z) time=${time%Z}+00:00 ;; esac
            printf "recovery_target_time = '%s'\nrecovery_target_inclusive = off\n" "$time"
        fi
    } >>"$target/postgresql.auto.conf"
    [ -z "${WAL_ARCHIVE_DIR:-}" ] || : >"$target/recovery.signal"
    say "start PostgreSQL on $target, then run: ciris-billing ledger verify"
}

restore_dump() {
    : "${PGHOST:?}" "${PGUSER:?}" "${PGDATABASE:?}"
    PGPASSWORD=$(cat "${PGPASSWORD_FILE:?}")
    export PGPASSWORD
    set -- "$backup"/*.dump
    [ -f "$1" ] || fail "$backup is no dump"
    tables=$(psql --no-psqlrc -AXtqc "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    [ "$tables" = 0 ] || fail "the database $PGDATABASE is not empty"
    pg_restore --exit-on-error --single-transaction --no-owner --no-password --dbname="$PGDATABASE" "$1"
    psql --no-psqlrc -Xqc ANALYZE >/dev/null 2>&1
    say "restored into $PGDATABASE; now run: ciris-billing ledger verify"
}

check
case $what in
    check) say "$backup is whole" ;;
    base) restore_base "${3:?PGDATA is missing}" "${4:-}" ;;
    dump) restore_dump ;;
    *) fail "what is a backup of the kind $what?" ;;
esac
