"""All metrics: counters and histograms of this process, and gauges that were last read from the database.

Labels are fixed words and route templates, never ids. Metrics of money are counted after the commit. Counters belong to
a process and start at 0 with it. The books' sums (`BOOKS`) are the database's, the same from every process.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
BUILD = Info("billing_build", "The running version.", registry=REGISTRY)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


def _found(name: str, text: str) -> Gauge:
    """Create a gauge without a value until it is known: a zero would be a wrong value."""
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
    "Charged amounts by pool: credits, or uses of a product's own pools.",
    "operation",
    "pool",
)
LOCK_WAIT_SECONDS = _histogram(
    "billing_charge_lock_wait_seconds",
    "Duration of charges that left their batch: their account was locked, or the batch failed.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
REJECTED = _counter(
    "billing_requests_turned_away_total",
    "Agents' requests rejected with 503 at the concurrency limit.",
)
CHARGES_WAITING = _gauge(
    "billing_charges_waiting", "Charges whose transaction has not ended yet, at most 2,000.", "operation"
)
RATE_LIMITS_SHARED = _gauge(
    "billing_rate_limits_shared",
    "1 while this process shares its rate limits with others; 0 while REDIS_URL is unset or does not answer.",
)
ARGON2_UNFINISHED = _gauge("billing_argon2_unfinished", "First verifications of API keys, waiting or under way.")
ARGON2_REFUSED = _counter("billing_argon2_refused_total", "Verifications rejected because too many were waiting.")

EVENT_STREAMS = _gauge("billing_event_streams", "Open event streams, by the kind of caller.", "caller")
for _caller in ("key", "user"):
    EVENT_STREAMS.labels(_caller)
EVENT_STREAMS_ENDED = _counter("billing_event_streams_ended_total", "Event streams that ended, by reason.", "reason")
for _reason in ("client", "credential", "lifetime", "draining", "account_closed", "slow_reader", "unavailable"):
    EVENT_STREAMS_ENDED.labels(_reason)

UNKNOWN_MODELS = _counter(
    "billing_unknown_models_total",
    "Usage events of models without a price, by reason. `stated_price`: the price book states one for such models.",
    "reason",
    "outcome",
)
for _reason in ("no_row", "not_yet_valid", "disputed", "no_price_for_mode", "no_price_for_class"):
    for _outcome in ("refused", "stated_price"):
        UNKNOWN_MODELS.labels(_reason, _outcome)  # exists from the start, so that the first count is a rise from 0

USAGE_EVENTS = _counter(
    "billing_usage_events_total",
    "Reported usage events by outcome. `repeated`: the event was recorded before. `unpaid`: too little money.",
    "outcome",
)
for _outcome in ("recorded", "repeated", "unpaid", "rejected"):
    USAGE_EVENTS.labels(_outcome)
USAGE_COST = _counter(
    "billing_usage_cost_total",
    "Cost of recorded usage events, in the currency's major unit, by the events' status.",
    "currency",
    "status",
)

LIMITS_CROSSED = _counter(
    "billing_limits_crossed_total",
    "Windows of limits that counted more than their amount, by the limit's action.",
    "action",
)
for _action in ("refuse", "notify", "ask"):
    LIMITS_CROSSED.labels(_action)

REFILLS = _counter(
    "billing_refills_total",
    "Automatic refills by outcome. `started`: a payment begins. `authenticate`: the user has to authenticate it.",
    "outcome",
)
for _outcome in ("started", "paid", "declined", "canceled", "authenticate"):
    REFILLS.labels(_outcome)
REFILLS_SWITCHED_OFF = _counter(
    "billing_refills_switched_off_total", "Accounts whose refills the service switched off, by reason.", "reason"
)
for _reason in ("declined", "disputed", "suspended", "closed"):
    REFILLS_SWITCHED_OFF.labels(_reason)

# --- Stripe --------------------------------------------------------------------------------------------------------

WEBHOOKS = _counter(
    "billing_webhook_events_total",
    "Stripe's signed events by outcome. `repeated`: the event had its effect before.",
    "environment",
    "outcome",
)
WEBHOOK_FAILURES = _counter(
    "billing_webhook_failures_total",
    "Webhooks without effect: a signature by none of our secrets, or an error of ours, after which Stripe retries.",
    "reason",
)
for _reason in ("signature", "error"):
    WEBHOOK_FAILURES.labels(_reason)  # exists from the start, so that the first count shows as a rise from 0
WEBHOOK_LAG = _histogram(
    "billing_webhook_lag_seconds",
    "Time from an event at Stripe to its effect here, once per event.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600),
)
EVENTS_CAUGHT_UP = _counter(
    "billing_webhook_events_missed_total", "Events that had an effect only when reconciliation read Stripe's event log."
)
STRIPE_SECONDS = _histogram(
    "billing_stripe_request_duration_seconds",
    "Requests to Stripe, each attempt separately. `outcome`: the class of the answer's status, or `none`.",
    "operation",
    "outcome",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5),
)
STRIPE_REJECTIONS = _counter(
    "billing_stripe_rejections_total",
    "Requests that Stripe rejects as invalid (400), and would again. `create`: the purchase is impossible.",
    "operation",
)
for _operation in ("create", "read"):
    STRIPE_REJECTIONS.labels(_operation)

# --- background jobs -----------------------------------------------------------------------------------------------

JOB_SECONDS = _histogram(
    "billing_job_duration_seconds",
    "Duration of background jobs, in the worker.",
    "task",
    "outcome",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600),
)

# --- connections: read with each scrape ----------------------------------------------------------------------------

CONNECTIONS = _gauge("billing_database_connections", "Size of a connection pool.", "pool")
CONNECTIONS_IN_USE = _gauge("billing_database_connections_in_use", "Connections of a pool that are in use.", "pool")
CONNECTION_TIMEOUTS = _counter(
    "billing_database_connection_timeouts_total", "Waits for a free connection that timed out.", "pool"
)
for _pool in ("batches", "transactions", "reports", "reads"):
    CONNECTION_TIMEOUTS.labels(_pool)

# --- read from the database with each scrape; NaN while it does not answer -----------------------------------------

REPLICA_LAG = _gauge(
    "billing_replica_lag_seconds",
    "Upper bound of the replica's lag. +Inf: unknown. NaN: there is no replica.",
)
ALERTS_OPEN = _gauge("billing_alerts_open", "Findings of unusual activity that no admin has handled yet.", "rule")
DATABASE_UP = _gauge("billing_database_up", "1 if the database answered this scrape.")
LEDGER_OK = _found("billing_ledger_ok", "1 if the last ledger verification passed.")
LEDGER_VERIFIED = _found(
    "billing_ledger_verified_timestamp_seconds", "End of the last ledger verification that passed."
)
JOBS = _gauge("billing_jobs", "Background jobs in the queue, at most 10,000 of each status.", "status")
JOBS_AGE = _found("billing_jobs_oldest_due_age_seconds", "Time since the oldest overdue job was due.")
WORKER_AGE = _found("billing_worker_heartbeat_age_seconds", "Time since the last heartbeat of any worker.")
NOT_CREDITED = _found("billing_purchases_paid_not_credited", "Purchases that are paid but not yet credited.")
NOT_CREDITED_AGE = _found(
    "billing_purchases_paid_not_credited_oldest_age_seconds", "Time since Stripe received the oldest of these payments."
)
UNCHECKED_AGE = _found(
    "billing_purchases_unheard_oldest_age_seconds",
    "Age of the oldest unsettled purchase since its last check with Stripe.",
)
WEBHOOK_AGE = _found("billing_webhook_last_received_age_seconds", "Time since Stripe's last event.")
LOCK_WAITERS = _found("billing_database_lock_waiters", "This role's statements that wait for a lock.")
LOCK_WAIT_AGE = _found("billing_database_longest_lock_wait_seconds", "Duration of the longest waiting statement.")

# --- the books' sums: read by the worker each minute -----------------------------------------------------------------

BOOKS_MEASURED = _found("billing_books_measured_timestamp_seconds", "Time at which the books' sums were read.")
JOBS_FAILED = _found("billing_jobs_failed", "Background jobs that failed for good and need attention.")


@dataclass(frozen=True, slots=True)
class Sum:
    """A family of sums. One that only grows is a counter: its name gets the suffix `_total`."""

    name: str
    text: str
    labels: tuple[str, ...]
    grows: bool = False


SOLD = Sum("billing_credits_sold", "Credits of purchases that were paid for.", ("environment",), grows=True)
GRANTED = Sum("billing_credits_granted", "Paid credits that were granted, not sold.", ("environment",), grows=True)
REFUNDED = Sum(
    "billing_credits_refunded", "Credits taken back by refunds and disputes.", ("environment", "cause")
)  # a won dispute gives them back
SPENT = Sum("billing_credits_spent", "Credits and products' uses spent.", ("environment", "pool"), grows=True)
OUTSTANDING = Sum("billing_credits_outstanding", "Credits that accounts hold, and their debt.", ("environment", "pool"))
ACCOUNTS = Sum("billing_accounts", "Accounts by status.", ("environment", "status"))
PURCHASES = Sum("billing_purchases", "Purchases by status.", ("environment", "status"))
FOR_REVIEW = Sum("billing_purchases_for_review", "Purchases that need a review.", ("environment",))
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
    """The books' sums as of their last reading. No values before the first."""

    def __init__(self) -> None:
        self._values: Values = {}

    def replace(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for total in SUMS:
            family = CounterMetricFamily if total.grows else GaugeMetricFamily
            metric = family(total.name, total.text, labels=total.labels)
            for labels, value in self._values.get(total, {}).items():
                metric.add_metric(labels, value)
            yield metric


BOOKS = Books()
REGISTRY.register(BOOKS)


class ChargeCounter:
    """Counts one operation's charges. Caches metrics: a lookup by labels costs several times as much as counting."""

    def __init__(self, operation: str, pools: Iterable[str]) -> None:
        self._operation = operation
        self._outcomes: dict[type, Counter] = {}
        self._pools = {pool: CHARGED.labels(operation, pool) for pool in pools}

    def outcome(self, outcome: object) -> None:
        counter = self._outcomes.get(type(outcome))
        if counter is None:
            name = type(outcome).__name__.lower()
            counter = CHARGES.labels(self._operation, "charged" if name == "new" else name)
            self._outcomes[type(outcome)] = counter
        counter.inc()

    def taken(self, pool: str, amount: int) -> None:
        self._pools[pool].inc(amount)
