#!/bin/sh
# PostgreSQL's archive_command: keeps one WAL file, compressed. Succeeds only when it is on disk, whole.
#
#   archive_command = '/opt/billing/backup/archive-wal.sh "%p" "%f" /wal-archive'
set -eu
umask 077

file=$1 name=$2 archive=${3:-${WAL_ARCHIVE_DIR:?}}
kept=$archive/$name.gz unfinished=$archive/.$name.$$
trap 'rm -f "$unfinished"' EXIT

if [ -e "$kept" ]; then
    # Asked again after a crash: fine if it is the same file, and never a reason to overwrite another cluster's.
    gzip -dc "$kept" >"$unfinished" && cmp -s "$unfinished" "$file" && exit 0
    echo "archive-wal: $kept exists and is another file: do two clusters share this archive?" >&2
    exit 1
fi
gzip -c "$file" >"$unfinished"
sync "$unfinished"
mv "$unfinished" "$kept"
sync "$archive"
