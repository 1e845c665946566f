#!/bin/sh
# Backs up PostgreSQL into BACKUP_DIR:  backup.sh [all|base|dump]
#
#   base/TIME/   the whole cluster; with the WAL since then, restore.sh restores any later moment
#   dump/TIME/   the database alone, readable by other versions of PostgreSQL
#
# A backup gets its name when it is complete, on disk and verified; SHA256SUMS verifies it later.
# Needs PGHOST, PGUSER (default billing_backup), PGPASSWORD_FILE, BACKUP_DIR; PGDATABASE (default ciris_billing).
#   BACKUP_KEEP       how many of each kind to keep, default 14
#   WAL_ARCHIVE_DIR   where archive-wal.sh stores WAL; files older than the oldest base backup are deleted
#   BACKUP_EVERY_S    repeat, with this pause
set -eu
umask 077

say() { printf 'backup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

: "${PGHOST:?}" "${BACKUP_DIR:?}"
kind=${1:-all} keep=${BACKUP_KEEP:-14}
case $kind in all | base | dump) ;; *) fail "what is a backup of the kind $kind?" ;; esac
case $keep in '' | 0 | *[!0-9]*) fail "BACKUP_KEEP=$keep is no number of backups" ;; esac

if [ -n "${BACKUP_EVERY_S:-}" ]; then
    trap 'exit 0' TERM INT
    while :; do
        (unset BACKUP_EVERY_S && "$0" "$kind") || say "failed; trying again in $BACKUP_EVERY_S s"
        sleep "$BACKUP_EVERY_S" &
        wait $!
    done
fi

PGUSER=${PGUSER:-billing_backup} PGDATABASE=${PGDATABASE:-ciris_billing}
PGPASSWORD=$(cat "${PGPASSWORD_FILE:?}")
export PGUSER PGDATABASE PGPASSWORD
here=$(cd "$(dirname "$0")" && pwd)
name=${BACKUP_NAME:-$(date -u +%Y%m%dT%H%M%SZ)}
unfinished=
trap '[ -z "$unfinished" ] || rm -rf "$unfinished"' EXIT

begin() {
    mkdir -p "$BACKUP_DIR/$1"
    [ ! -e "$BACKUP_DIR/$1/$name" ] || fail "$BACKUP_DIR/$1/$name exists already"
    mkdir "$BACKUP_DIR/$1/.unfinished-$name" || fail "another backup is being made right now"
    unfinished=$BACKUP_DIR/$1/.unfinished-$name
}

finish() {
    (cd "$unfinished" && find . -type f -exec sha256sum {} +) >"$BACKUP_DIR/$1/.unfinished-sums"
    mv "$BACKUP_DIR/$1/.unfinished-sums" "$unfinished/SHA256SUMS"
    sync
    mv "$unfinished" "$BACKUP_DIR/$1/$name"
    unfinished=
    say "$BACKUP_DIR/$1/$name"
}

# Keeps the newest $keep. A backup is renamed before it is deleted, so that a partial one has no backup's name.
forget_old() {
    kind_dir=$BACKUP_DIR/$1
    find "$kind_dir" -mindepth 1 -maxdepth 1 -name '.unfinished-*' -mmin +1440 -exec rm -rf {} +
    set -- "$kind_dir"/[0-9]*
    while [ $# -gt "$keep" ]; do
        mv "$1" "$kind_dir/.unfinished-old-${1##*/}"
        rm -rf "$kind_dir/.unfinished-old-${1##*/}"
        shift
    done
    oldest=$1
}

if [ "$kind" != dump ]; then
    begin base
    pg_basebackup --pgdata="$unfinished" --format=tar --gzip --wal-method=stream --checkpoint=fast --no-password \
        --manifest-checksums=SHA256
    tar -xzOf "$unfinished/base.tar.gz" backup_label |
        sed -n 's/^START WAL LOCATION: .* (file \([0-9A-F]\{24\}\))$/\1/p' >"$unfinished/START_WAL"
    [ -s "$unfinished/START_WAL" ] || fail "the base backup says nothing of where its WAL begins"
    psql --no-psqlrc -AXtq --file "$here/recovery-settings.sql" >"$unfinished/SETTINGS"
    finish base
    forget_old base
    if [ -n "${WAL_ARCHIVE_DIR:-}" ]; then
        pg_archivecleanup -x .gz "$WAL_ARCHIVE_DIR" "$(cat "$oldest/START_WAL")"
    fi
fi
if [ "$kind" != base ]; then
    begin dump
    pg_dump --format=custom --no-password --file="$unfinished/$PGDATABASE.dump"
    pg_restore --list "$unfinished/$PGDATABASE.dump" >"$unfinished/CONTENTS"
    finish dump
    forget_old dump
fi
