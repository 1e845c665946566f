#!/bin/sh
# PostgreSQL's archive_command: stores one WAL file, compressed. Succeeds only when the whole file is on disk.
#
#   archive_command = '/opt/billing/backup/archive-wal.sh "%p" "%f" /wal-archive'
set -eu
umask 077

file=$1 name=$2 archive=${3:-${WAL_ARCHIVE_DIR:?}}
kept=$archive/$name.gz unfinished=$archive/.$name.$$
trap 'rm -f "$unfinished"' EXIT

if [ -e "$kept" ]; then
    # Repeated after a crash: succeeds for the same file, and never overwrites another cluster's.
    gzip -dc "$kept" >"$unfinished" && cmp -s "$unfinished" "$file" && exit 0
    echo "archive-wal: $kept exists and is another file: do two clusters share this archive?" >&2
    exit 1
fi
gzip -c "$file" >"$unfinished"
sync "$unfinished"
mv "$unfinished" "$kept"
sync "$archive"
