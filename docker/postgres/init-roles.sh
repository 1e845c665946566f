#!/bin/sh
# Creates the database and its three roles on a new cluster; the image runs it once, from /docker-entrypoint-initdb.d.
#
#   billing_owner     owns the database and migrates it (DATABASE_OWNER_URL)
#   billing_service   the API and the worker (DATABASE_URL); migrations grant its privileges, table by table
#   billing_backup    copies everything and changes nothing: backups, and streaming replicas
#
# Needs files with their passwords: OWNER_PASSWORD_FILE, SERVICE_PASSWORD_FILE, BACKUP_PASSWORD_FILE. Connects as the
# superuser POSTGRES_USER. BILLING_DATABASE: the database's name, default ciris_billing. PGDATA: its pg_hba.conf
# gets a line that allows billing_backup to replicate.
set -eu

for file in "${OWNER_PASSWORD_FILE:?}" "${SERVICE_PASSWORD_FILE:?}" "${BACKUP_PASSWORD_FILE:?}"; do
    [ -s "$file" ] || { echo "init-roles: $file is missing or empty" >&2; exit 1; }
done
BILLING_DATABASE=${BILLING_DATABASE:-ciris_billing}
export BILLING_DATABASE OWNER_PASSWORD_FILE SERVICE_PASSWORD_FILE BACKUP_PASSWORD_FILE

# psql itself reads the passwords: every process can see arguments, and every reader of the log a logged statement.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\getenv database BILLING_DATABASE
\set owner_password `cat "$OWNER_PASSWORD_FILE"`
\set service_password `cat "$SERVICE_PASSWORD_FILE"`
\set backup_password `cat "$BACKUP_PASSWORD_FILE"`
CREATE ROLE billing_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE billing_service LOGIN PASSWORD :'service_password';
CREATE ROLE billing_backup LOGIN REPLICATION PASSWORD :'backup_password';
GRANT pg_read_all_data TO billing_backup;
CREATE DATABASE :"database" OWNER billing_owner;
REVOKE ALL ON DATABASE :"database", postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO billing_service, billing_backup;
\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO billing_service, billing_backup;
SQL

# "all" as a database does not include replication, which has separate lines.
if [ -n "${PGDATA:-}" ] && ! grep -q billing_backup "$PGDATA/pg_hba.conf"; then
    echo "host replication billing_backup all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
