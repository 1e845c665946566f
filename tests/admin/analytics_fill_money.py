"""Money, grants and usage events of the customers that tests.admin.analytics_fill writes: a third of the uses, again.

The balances are the sums of what the statements write, so the proof of the days by the balances holds.
"""

MONEY = (
    # Some events arrive days after their own time; some are refused, owed, or of accounts that are not billed.
    """
    INSERT INTO usage_events (account_id, usage_id, environment, source, event_id, meter, provider, model, quantities,
                              status, refusal, currency, cost_nanos, provider_cost_nanos, debt_nanos,
                              balance_after_nanos, plan_name, agent_id, tool, run_id, key_id, occurred_at, created_at)
    SELECT account_id, pg_temp.id_at(at, 'event' || i), environment, 'fill', 'event-' || i,
           CASE WHEN i % 4 = 0 THEN 'compute' ELSE 'llm_tokens' END,
           CASE WHEN i % 4 > 0 THEN 'openai' END, CASE WHEN i % 4 > 0 THEN 'gpt-' || i % 5 END, '{}',
           status, CASE WHEN status = 'refused' THEN 'insufficient_money' END, currency, cost,
           CASE WHEN i % 7 > 0 THEN cost / 2 + i % 3 END, CASE WHEN status = 'debt' THEN 1 + cost / 3 ELSE 0 END, 0,
           'free', CASE WHEN i % 11 > 0 THEN 'agent-' || i % 6 END, NULL, 'run-' || i,
           CASE WHEN i % 5 > 0 THEN lpad(CAST(i % 3 AS text), 16, '0') END,
           created_at - CASE WHEN i % 37 = 0 THEN interval '9 days' WHEN i % 17 = 0 THEN interval '6 hours'
                             ELSE interval '0' END, created_at
      FROM (SELECT u.*, a.environment, a.currency, 1 + CAST(i % 1000 AS bigint) * 1234567 AS cost,
                   CASE WHEN i % 19 = 0 THEN 'refused' WHEN i % 23 = 0 THEN 'debt' WHEN i % 29 = 0 THEN 'recorded'
                        ELSE 'charged' END AS status
              FROM used u JOIN accounts a USING (account_id)
             WHERE i % 3 = 1) u
    """,
    """
    CREATE TEMP TABLE wallets AS
    SELECT a.account_id, a.currency, a.created_at, coalesce(u.cost, 0) AS cost, coalesce(u.owed, 0) AS owed,
           coalesce(c.granted, 0) AS granted, row_number() OVER (ORDER BY a.account_id) AS n
      FROM accounts a
      LEFT JOIN (SELECT account_id, sum(cost_nanos) AS cost, sum(debt_nanos) AS owed FROM usage_events
                  WHERE status IN ('charged', 'debt') GROUP BY 1) u USING (account_id)
      LEFT JOIN (SELECT account_id, sum(from_grants) AS granted FROM charges GROUP BY 1) c USING (account_id)
    """,
    """
    UPDATE accounts a SET money_nanos = 7000000007, money_debt_nanos = owed, grants_money_nanos = 2000000000,
           grants_credits = 5, grants_expire_at = now() + interval '300 days'
      FROM wallets w WHERE w.account_id = a.account_id
    """,
    # Bought, taken back, given, and used in an earlier system.
    """
    INSERT INTO money_credits (account_id, money_credit_id, entry_no, transaction_type, amount_nanos, currency,
                               balance_after_nanos, created_at)
    SELECT account_id, pg_temp.id_at(now(), 'money' || n || m.number), m.number, m.kind,
           CASE m.number WHEN 1 THEN 7000000000 + cost - owed - 100 + 30 + 40 - 20 ELSE m.amount END, currency, 0,
           now() - make_interval(days => CAST((n * m.number) % 45 AS int))
      FROM wallets
     CROSS JOIN (VALUES (1, 'purchase', 0), (2, 'bonus', 100), (3, 'refund_reversal', -30), (4, 'usage', -40),
                        (5, 'dispute_reinstatement', 20)) AS m (number, kind, amount)
    """,
    """
    INSERT INTO grants (account_id, grant_id, unit, amount, remaining, priority, category, source, expires_at,
                        created_at)
    SELECT account_id, pg_temp.id_at(now(), 'grant' || n || unit), CASE unit WHEN 'money' THEN currency ELSE unit END,
           CASE unit WHEN 'money' THEN 3000000000 ELSE granted + 8 END,
           CASE unit WHEN 'money' THEN 2000000000 ELSE 5 END, 0, 'promotional', 'fill',
           now() + interval '300 days', now()
      FROM wallets CROSS JOIN unnest(ARRAY['credit', 'money']) AS unit
    """,
    # Each grant was given, and a part of it expired or was ended.
    """
    INSERT INTO ledger_entries (account_id, entry_no, pool, unit, grant_id, delta, balance_after, kind, cause_type,
                                cause_id, actor_type, actor_id, created_at)
    SELECT account_id, 100000 + row_number() OVER (PARTITION BY account_id), 'grant', g.unit, grant_id,
           CASE k.kind WHEN 'grant_given' THEN g.amount WHEN 'grant_expiry' THEN -rest / 2 ELSE rest / 2 - rest END,
           0, k.kind, 'grant', grant_id, 'system', 'fill',
           now() - make_interval(days => CAST((n + k.back) % 43 AS int))
      FROM (SELECT *, CASE unit WHEN 'credit' THEN 3 ELSE 1000000000 END AS rest FROM grants) g
      JOIN wallets USING (account_id)
     CROSS JOIN (VALUES ('grant_given', 0), ('grant_expiry', 3), ('grant_ended', 5)) AS k (kind, back)
    """,
    """
    INSERT INTO ledger_entries (account_id, entry_no, pool, unit, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    SELECT account_id, 300000, 'money', currency, 7, 0, 'correction', 'correction', account_id, 'system', 'fill',
           now() - make_interval(days => CAST(n % 41 AS int))
      FROM wallets
    """,
    # The debt of a purchase that was taken back, and its payment: in the amounts of credits already.
    """
    INSERT INTO ledger_entries (account_id, entry_no, pool, unit, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    SELECT account_id, 200000 + m.number, m.pool, currency, m.delta, 0, m.kind, 'money_credit',
           pg_temp.id_at(now(), 'money' || n || m.cause), 'system', 'fill',
           now() - make_interval(days => CAST((n * m.cause) % 45 AS int))
      FROM wallets
     CROSS JOIN (VALUES (1, 'money_debt', 12, 'debt_incurred', 3), (2, 'money', -12, 'debt_repayment', 5),
                        (3, 'money_debt', -12, 'debt_repayment', 5)) AS m (number, pool, delta, kind, cause)
    """,
)
