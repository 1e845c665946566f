"""Every metric there is, on one page: what a process counts, and what was last read from the database.

Labels are words of ours and route templates, never ids. What counts money is counted after the commit. Counters are a
process's own and begin at 0 with it; the books' sums (`BOOKS`) are the database's, and the same whoever tells them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
BUILD = Info("billing_build", "What is running.", registry=REGISTRY)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


def _found(name: str, text: str) -> Gauge:
    """Without a value until it is known: a zero would say something."""
    gauge = _gauge(name, text)
    gauge.set(float("nan"))
    return gauge


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)


# --- requests and decisions: counted as they happen ----------------------------------------------------------------

HTTP_SECONDS = _histogram(
    "billing_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer.",
    "method",
    "route",
    "status",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
CHECKS = _counter("billing_checks_total", "Checks by result.", "operation", "result")
CHARGES = _counter("billing_charges_total", "Charges by operation and outcome.", "operation", "outcome")
CHARGED = _counter(
    "billing_charged_credits_total",
    "What charges have taken from each pool: credits, or uses of a product's own pools.",
    "operation",
    "pool",
)
LOCK_WAIT_SECONDS = _histogram(
    "billing_charge_lock_wait_seconds",
    "How long charges took that had to wait for their account by themselves: it was locked, or their batch failed.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
REJECTED = _counter(
    "billing_requests_turned_away_total",
    "Agents' requests answered 503 at once because the process had enough to do.",
)
CHARGES_WAITING = _gauge(
    "billing_charges_waiting", "Charges whose transaction has not ended yet; 2,000 is the most.", "operation"
)
RATE_LIMITS_SHARED = _gauge(
    "billing_rate_limits_shared",
    "Whether this process shares its rate limits with others: 0 while REDIS_URL is unset or does not answer.",
)
ARGON2_UNFINISHED = _gauge("billing_argon2_unfinished", "First verifications of API keys, waiting or under way.")
ARGON2_REFUSED = _counter("billing_argon2_refused_total", "Verifications refused because too many waited.")

# --- Stripe --------------------------------------------------------------------------------------------------------

WEBHOOKS = _counter(
    "billing_webhook_events_total",
    "Stripe's signed events by what became of them; `repeated`: it had had its effect before.",
    "environment",
    "outcome",
)
WEBHOOK_FAILURES = _counter(
    "billing_webhook_failures_total",
    "Webhooks without effect: not signed by any of our secrets, or an error of ours, after which Stripe tries again.",
    "reason",
)
for _reason in ("signature", "error"):
    WEBHOOK_FAILURES.labels(_reason)  # there from the start: the first one to be counted must show as a rise from 0
WEBHOOK_LAG = _histogram(
    "billing_webhook_lag_seconds",
    "From an event at Stripe to its effect here, each event once.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600),
)
EVENTS_CAUGHT_UP = _counter(
    "billing_webhook_events_missed_total", "Events that had an effect only when reconciliation read Stripe's event log."
)
STRIPE_SECONDS = _histogram(
    "billing_stripe_request_duration_seconds",
    "Requests to Stripe, each try by itself. `outcome`: the class of the answer's status, or `none`.",
    "operation",
    "outcome",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5),
)
STRIPE_REJECTIONS = _counter(
    "billing_stripe_rejections_total",
    "Requests that Stripe finds invalid (400) and will reject again. `create`: a purchase that cannot be made.",
    "operation",
)
for _operation in ("create", "read"):
    STRIPE_REJECTIONS.labels(_operation)

# --- background jobs -----------------------------------------------------------------------------------------------

JOB_SECONDS = _histogram(
    "billing_job_duration_seconds",
    "Runs of background jobs, in the worker.",
    "task",
    "outcome",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600),
)

# --- connections: as they are when asked ---------------------------------------------------------------------------

CONNECTIONS = _gauge("billing_database_connections", "Connections that a pool may have.", "pool")
CONNECTIONS_IN_USE = _gauge("billing_database_connections_in_use", "Connections that are in use.", "pool")
CONNECTION_TIMEOUTS = _counter(
    "billing_database_connection_timeouts_total", "Waits for a free connection that ended without one.", "pool"
)
for _pool in ("batches", "transactions", "reports", "reads"):
    CONNECTION_TIMEOUTS.labels(_pool)

# --- as the database said when it was last asked; without a value while it does not answer ---------------------------

REPLICA_LAG = _gauge(
    "billing_replica_lag_seconds",
    "How old reports from the replica may be. +Inf: nobody knows. NaN: there is no replica.",
)
ALERTS_OPEN = _gauge("billing_alerts_open", "Findings of unusual activity that wait for a person.", "rule")
DATABASE_UP = _gauge("billing_database_up", "Whether the database answered when these metrics were asked for.")
LEDGER_OK = _found("billing_ledger_ok", "Whether the last verification of the ledger passed.")
LEDGER_VERIFIED = _found(
    "billing_ledger_verified_timestamp_seconds", "When the last ledger verification that passed ended."
)
JOBS = _gauge("billing_jobs", "Background jobs in the queue, at most 10,000 of each status.", "status")
JOBS_AGE = _found("billing_jobs_oldest_due_age_seconds", "Since when the job that is overdue longest is due.")
WORKER_AGE = _found("billing_worker_heartbeat_age_seconds", "Since when no worker has been heard of.")
NOT_CREDITED = _found("billing_purchases_paid_not_credited", "Purchases whose money has arrived and credits have not.")
NOT_CREDITED_AGE = _found(
    "billing_purchases_paid_not_credited_oldest_age_seconds", "Since when the oldest of them has been so at Stripe."
)
UNHEARD_AGE = _found(
    "billing_purchases_unheard_oldest_age_seconds",
    "Since when Stripe has not been asked about the purchase, not settled yet, that was longest not asked about.",
)
WEBHOOK_AGE = _found("billing_webhook_last_received_age_seconds", "Since when Stripe has sent no event.")
LOCK_WAITERS = _found("billing_database_lock_waiters", "Statements of ours that wait for a lock of another's.")
LOCK_WAIT_AGE = _found("billing_database_longest_lock_wait_seconds", "Since when the longest waiting one runs.")

# --- the books' sums: read by the worker each minute -----------------------------------------------------------------

BOOKS_MEASURED = _found("billing_books_measured_timestamp_seconds", "When the books' sums were read.")
JOBS_FAILED = _found("billing_jobs_failed", "Background jobs that were given up, for a person to look at.")


@dataclass(frozen=True, slots=True)
class Sum:
    """A family of sums. One that only grows is a counter, and its name gets the usual ending."""

    name: str
    text: str
    labels: tuple[str, ...]
    grows: bool = False


SOLD = Sum("billing_credits_sold", "Credits of purchases that were paid for.", ("environment",), grows=True)
GRANTED = Sum("billing_credits_granted", "Paid credits that came otherwise.", ("environment",), grows=True)
REFUNDED = Sum(
    "billing_credits_refunded", "Credits that refunds and disputes took back.", ("environment", "cause")
)  # a dispute that is won gives them back
SPENT = Sum("billing_credits_spent", "Credits and products' uses spent.", ("environment", "pool"), grows=True)
OUTSTANDING = Sum("billing_credits_outstanding", "What accounts hold, and what they owe.", ("environment", "pool"))
ACCOUNTS = Sum("billing_accounts", "Accounts by status.", ("environment", "status"))
PURCHASES = Sum("billing_purchases", "Purchases by status.", ("environment", "status"))
FOR_REVIEW = Sum("billing_purchases_for_review", "Purchases that a person has to look at.", ("environment",))
RECEIVED = Sum(
    "billing_received_minor", "Money received, in minor units of its currency.", ("environment", "currency"), grows=True
)
GIVEN_BACK = Sum(
    "billing_given_back_minor",
    "Money refunded, in minor units of its currency.",
    ("environment", "currency"),
    grows=True,
)
SUMS = (SOLD, GRANTED, REFUNDED, SPENT, OUTSTANDING, ACCOUNTS, PURCHASES, FOR_REVIEW, RECEIVED, GIVEN_BACK)
Values = Mapping[Sum, Mapping[tuple[str, ...], float]]


class Books(Collector):
    """The books' sums as they were when somebody last read them. Before that there are none."""

    def __init__(self) -> None:
        self._values: Values = {}

    def replace(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for told in SUMS:
            family = CounterMetricFamily if told.grows else GaugeMetricFamily
            metric = family(told.name, told.text, labels=told.labels)
            for labels, value in self._values.get(told, {}).items():
                metric.add_metric(labels, value)
            yield metric


BOOKS = Books()
REGISTRY.register(BOOKS)


class ChargeCounter:
    """Counts one operation's charges. Looking up a metric by its labels costs several times what counting does."""

    def __init__(self, operation: str, pools: Iterable[str]) -> None:
        self._operation = operation
        self._outcomes: dict[type, Counter] = {}
        self._pools = {pool: CHARGED.labels(operation, pool) for pool in pools}

    def outcome(self, outcome: object) -> None:
        counter = self._outcomes.get(type(outcome))
        if counter is None:
            counter = CHARGES.labels(self._operation, type(outcome).__name__.lower())
            self._outcomes[type(outcome)] = counter
        counter.inc()

    def taken(self, pool: str, amount: int) -> None:
        self._pools[pool].inc(amount)
