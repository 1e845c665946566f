#!/bin/sh
# PostgreSQL's restore_command: restores one WAL file. Exits with 1 for a file that was never archived, which marks the
# archive's end, and with 200, which stops recovery, for one that cannot be read.
set -eu

name=$1 target=$2 archive=${3:-${WAL_ARCHIVE_DIR:?}}
if [ ! -d "$archive" ]; then
    echo "restore-wal: there is no archive $archive" >&2
    exit 200
fi
[ -e "$archive/$name.gz" ] || exit 1
if ! gzip -dc "$archive/$name.gz" >"$target"; then
    rm -f "$target"
    echo "restore-wal: $archive/$name.gz is damaged" >&2
    exit 200
fi
