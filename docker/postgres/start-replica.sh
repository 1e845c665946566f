#!/bin/sh
# Runs a streaming replica in PGDATA; copies the primary there first if it is empty. Arguments are passed to postgres.
#
# Needs PGHOST (the primary) and PGPASSWORD_FILE; PGPORT, PGUSER (default billing_backup) and PGDATABASE (default
# ciris_billing) where they differ.
# WAL_ARCHIVE_DIR: source of WAL that the primary has deleted, for a replica that fell behind. There is no replication
# slot: a replica that is down must not fill the primary's disk. To rebuild one that cannot catch up, empty PGDATA.
set -eu
umask 077

: "${PGHOST:?}" "${PGDATA:?}"
PGUSER=${PGUSER:-billing_backup}
PGPASSWORD=$(cat "${PGPASSWORD_FILE:?}")
export PGUSER PGPASSWORD
here=$(cd "$(dirname "$0")" && pwd)

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    unfinished=$PGDATA.unfinished
    rm -rf "$unfinished"
    pg_basebackup --pgdata="$unfinished" --wal-method=stream --checkpoint=fast --write-recovery-conf --no-password
    # A replica with lower limits (max_connections etc.) than its primary does not start.
    psql --no-psqlrc -AXtq --dbname "${PGDATABASE:-ciris_billing}" --file "$here/../backup/recovery-settings.sql" \
        >>"$unfinished/postgresql.auto.conf"
    if [ -n "${WAL_ARCHIVE_DIR:-}" ]; then
        printf "restore_command = '\"%s\" \"%%f\" \"%%p\" \"%s\"'\n" "$here/../backup/restore-wal.sh" "$WAL_ARCHIVE_DIR" \
            >>"$unfinished/postgresql.auto.conf"
    fi
    [ ! -d "$PGDATA" ] || rmdir "$PGDATA"
    mv "$unfinished" "$PGDATA"
fi
unset PGPASSWORD
exec postgres -D "$PGDATA" -c hot_standby=on "$@"
