"""Books of many customers, written by a few statements: heavy and light users, two environments, two currencies.

Ids carry the time of writing, as real ones do; some things belong to a day long before it, as imported ones would.
"""

from tests.admin.analytics_fill_money import MONEY
from tests.books import connected
from tests.databases import Urls

HISTORY = """
    CREATE FUNCTION pg_temp.id_at(at timestamptz, salt text) RETURNS uuid LANGUAGE sql AS $$
        SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0') || '7'
                    || substr(md5(salt), 1, 3) || '8' || substr(md5(salt), 4, 15) AS uuid) $$;
    CREATE FUNCTION pg_temp.account(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT CAST(md5('account' || n) AS uuid) $$;
    SELECT setseed(0.42);
"""
STATEMENTS = (
    """
    INSERT INTO accounts (account_id, environment, currency, plan_name, status, status_reason, daily_free, free, paid,
                          debt, total_uses, last_entry_no, created_at, updated_at)
    SELECT pg_temp.account(n), CASE WHEN n % 10 = 9 THEN 'test' ELSE 'live' END,
           CASE WHEN n % 7 = 3 THEN 'EUR' ELSE 'USD' END, 'free',
           CASE WHEN n % 50 = 1 THEN 'suspended' ELSE 'active' END, CASE WHEN n % 50 = 1 THEN 'because' END,
           0, n % 4, n % 5 * 3, CASE WHEN n % 40 = 2 THEN 5 ELSE 0 END, 0, 0,
           now() - make_interval(secs => ({days} + 20) * 86400 * (1 - n::float / {accounts}) * random()), now()
      FROM generate_series(0, {accounts} - 1) AS n
    """,
    """
    INSERT INTO account_identities (environment, oauth_provider, external_id, account_id, created_at)
    SELECT environment, 'oauth:google', account_id || '@example.com', account_id, created_at FROM accounts
    """,
    # Each user has a separate first day, and then uses the service several times.
    """
    CREATE TEMP TABLE used AS
    SELECT i, pg_temp.account(n) AS account_id, at, at - CASE WHEN i % 97 = 0 THEN interval '2 days'
                                                              WHEN i % 13 = 0 THEN interval '3 seconds'
                                                              ELSE interval '0' END AS created_at,
           row_number() OVER (PARTITION BY n ORDER BY at, i) AS entry_no, i % 5 = 4 AS by_tool
      FROM (SELECT i, n, now() - make_interval(secs => 90 + 3600 * random() * 8 + 86400 * (
                       abs(hashint8extended(n * 1000 + visit, 7)) % {days})) AS at
              FROM (SELECT i, CAST(floor(power(random(), 3) * {accounts}) AS int) AS n,
                           CAST(floor(power(random(), 2) * 40) AS bigint) AS visit
                      FROM generate_series(1, {uses}) AS i) chosen) timed
    """,
    """
    UPDATE accounts a SET last_entry_no = u.entries
      FROM (SELECT account_id, max(entry_no) AS entries FROM used GROUP BY account_id) u
     WHERE u.account_id = a.account_id
    """,
    """
    INSERT INTO charges (account_id, charge_id, entry_no, operation, idempotency_key, amount_minor, currency, cost,
                         from_daily_free, from_free, from_paid, from_grants, paid_after, metadata, created_at,
                         caller_kind)
    SELECT account_id, pg_temp.id_at(at, 'charge' || i), entry_no,
           CASE WHEN by_tool THEN 'tool_charge' ELSE 'charge' END,
           CASE WHEN NOT by_tool THEN CASE WHEN i % 20 = 11 THEN 'charge:' ELSE '' END || 'key-' || i END,
           cost * 100, 'USD', cost,
           CASE WHEN NOT by_tool AND i % 3 = 0 THEN cost ELSE 0 END,
           CASE WHEN NOT by_tool AND i % 3 = 1 THEN cost ELSE 0 END,
           CASE WHEN (by_tool OR i % 3 = 2) AND NOT by_grant THEN cost ELSE 0 END,
           CASE WHEN by_grant THEN cost ELSE 0 END, 0,
           CASE WHEN i % 11 = 0 THEN '{}' ELSE jsonb_build_object('agent_id', 'agent-' || i % 6) END, created_at,
           CASE WHEN i % 9 = 0 THEN 'user' ELSE 'key' END
      FROM (SELECT *, 1 + i % 2 AS cost, CASE WHEN by_tool THEN i % 30 = 4 ELSE i % 12 = 2 END AS by_grant
              FROM used) u
     WHERE (NOT by_tool OR i % 15 = 4)
    """,
    """
    UPDATE accounts a SET total_uses = c.credits
      FROM (SELECT account_id, sum(cost) AS credits FROM charges GROUP BY account_id) c
     WHERE c.account_id = a.account_id
    """,
    """
    INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    SELECT account_id, entry_no, 'paid', -1, 0, 'charge', 'charge', account_id,
           CASE WHEN i % 9 = 0 THEN 'user' ELSE 'api_key' END, lpad(CAST(i % 3 AS text), 16, '0'), created_at
      FROM used
    """,
    # Some accounts are made with a balance, all with free uses.
    """
    INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    SELECT account_id, last_entry_no + CASE pool WHEN 'free' THEN 1 ELSE 2 END, pool, 3, 3, 'opening_grant', 'account',
           account_id, 'system', 'demo', created_at
      FROM accounts CROSS JOIN unnest(ARRAY['free', 'paid']) AS pool
     WHERE pool = 'free' OR hashtext(CAST(account_id AS text)) % 6 = 0
    """,
    "UPDATE accounts SET last_entry_no = last_entry_no + 2",
    """
    INSERT INTO product_usage_log (account_id, usage_log_id, product_type, source, charge_id, result, actor_type,
                                   actor_id, created_at)
    SELECT account_id, pg_temp.id_at(at, 'tool' || i), CASE WHEN i % 2 = 0 THEN 'web_search' ELSE 'image_gen' END,
           CASE WHEN i % 15 = 4 THEN 'main_pool' WHEN i % 15 = 9 THEN 'paid' ELSE 'free' END,
           CASE WHEN i % 15 = 4 THEN pg_temp.id_at(at, 'charge' || i) END, '{}', 'api_key',
           lpad(CAST(i % 3 AS text), 16, '0'), created_at
      FROM used WHERE by_tool
    """,
    # Four calls and, before, after or between them, a summary that may say more or less than they do. Some interactions
    # use two models, one call of which names both.
    """
    INSERT INTO llm_usage (account_id, usage_log_id, interaction_id, total_llm_calls, total_prompt_tokens,
                           total_completion_tokens, models_used, actual_cost_cents, duration_ms, error_count,
                           fallback_count, created_at)
    SELECT u.account_id, pg_temp.id_at(u.at + make_interval(secs => (r * 7 + u.i) % 5), 'llm' || u.i || '/' || r),
           'key-' || u.i, CASE WHEN r = 0 THEN 4 ELSE 1 END, 100 + u.i % 50 * r, 10 + r,
           CASE WHEN u.i % 4 = 1 AND r = 4 THEN ARRAY['model-a', 'model-b']
                WHEN u.i % 4 = 1 AND r > 1 THEN ARRAY['model-b'] ELSE ARRAY['model-a'] END,
           CASE WHEN r = 0 THEN 0.5 + u.i % 3 * 0.3333333333 ELSE 0.1 + r * 0.0000000001 * (u.i % 7) END, 5, 0, 0,
           u.created_at + make_interval(secs => (r * 7 + u.i) % 5)
      FROM used u CROSS JOIN generate_series(0, 4) AS r
     WHERE u.i % 10 = 1 AND (r > 0 OR u.i % 20 = 1)
    """,
    """
    INSERT INTO purchases (account_id, purchase_id, environment, pack, credits, amount_minor, currency, status,
                           status_at, received_minor, received_currency, credit_id, refunded_minor, credits_refunded,
                           credits_disputed, created_at, updated_at)
    SELECT u.account_id, pg_temp.id_at(u.at, 'purchase' || u.i), a.environment, 'standard', 20, 500, a.currency,
           CASE WHEN u.i % 600 = 0 THEN 'pending' ELSE 'succeeded' END, u.at,
           CASE WHEN u.i % 600 > 0 THEN 500 END, CASE WHEN u.i % 600 > 0 THEN a.currency END,
           CASE WHEN u.i % 600 > 0 THEN pg_temp.id_at(u.at, 'credit' || u.i) END,
           CASE WHEN u.i % 500 = 0 THEN 250 ELSE 0 END, CASE WHEN u.i % 600 > 0 AND u.i % 500 = 0 THEN 10 ELSE 0 END,
           0, u.created_at, u.at
      FROM used u JOIN accounts a ON a.account_id = u.account_id WHERE u.i % 50 = 0
    """,
    """
    INSERT INTO purchase_disputes (account_id, purchase_id, dispute_id, amount_minor, status, updated_at)
    SELECT account_id, purchase_id, 'du', 400, (ARRAY['won', 'open', 'lost'])[1 + (row_number() OVER ()) % 3], now()
      FROM purchases WHERE credits_refunded > 0
    """,
    """
    INSERT INTO credits (account_id, credit_id, entry_no, transaction_type, credits, currency, paid_after, created_at)
    SELECT account_id, pg_temp.id_at(at, 'credit' || i), entry_no,
           CASE WHEN i % 50 = 0 THEN 'purchase' WHEN i % 50 = 10 THEN 'refund_reversal'
                WHEN i % 50 = 20 THEN 'dispute_reinstatement' WHEN i % 50 = 30 THEN 'bonus' ELSE 'adjustment' END,
           CASE WHEN i % 50 = 10 THEN -7 WHEN i % 50 = 40 THEN -2 ELSE 20 END, 'USD', 0, created_at
      FROM used WHERE i % 10 = 0
    """,
    """
    INSERT INTO product_inventory (account_id, product_type, free, free_day, paid, total_uses, updated_at)
    SELECT account_id, 'web_search', 1, current_date, 3, 0, now() FROM accounts
     WHERE paid > 6
    """,
)


async def fill(urls: Urls, *, accounts: int, uses: int, days: int) -> None:
    """About a fifth of the uses are tools'; a tenth of all is reported by an LLM proxy."""
    async with connected(urls) as connection:
        await connection.execute(HISTORY)
        for template in (*STATEMENTS, *MONEY):
            statement = template
            for name, number in (("accounts", accounts), ("uses", uses), ("days", days)):
                statement = statement.replace(f"{{{name}}}", str(number))
            await connection.execute(statement)
        await connection.execute("VACUUM ANALYZE")
