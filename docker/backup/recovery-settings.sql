-- Settings that a copy of this cluster needs at least as high, or it refuses to recover: lines for its configuration.
SELECT format('%s = %s', name, setting)
  FROM pg_settings
 WHERE name IN ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions',
                'max_locks_per_transaction')
 ORDER BY name;
