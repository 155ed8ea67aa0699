"""Whether every alert that was due reached those who are told: the outbox by SQL beside what the inbox got."""

from collections import Counter
from collections.abc import Mapping

from django.db import connection

# Notices that nobody planned although they are due, and deliveries without an end, claimed or not.
ALERTS_UNDER_WAY = (
    "SELECT (SELECT count(*) FROM core_alertnotice WHERE planned_at IS NULL AND due_at <= now())"
    " + (SELECT count(*) FROM core_alertdelivery WHERE sent_at IS NULL AND given_up_at IS NULL)"
)
_DELIVERIES = """
SELECT channel.name, notice.alert_id, delivery.sent_at IS NOT NULL, delivery.attempts
FROM core_alertdelivery delivery
JOIN core_alertchannel channel ON channel.id = delivery.channel_id
JOIN core_alertnotice notice ON notice.id = delivery.notice_id
"""
_UNTOLD = """
SELECT notice.alert_id, notice.round FROM core_alertnotice notice
LEFT JOIN core_alertdelivery delivery ON delivery.notice_id = notice.id
WHERE notice.planned_at IS NOT NULL AND notice.fate = '' AND delivery.id IS NULL
"""


def check_alerts(came: Mapping[tuple[str, int], int]) -> tuple[list[str], str]:
    """What is wrong, and a line that says how many were told; `came` counts messages by channel and alert."""
    with connection.cursor() as cursor:
        cursor.execute(_DELIVERIES)
        deliveries = cursor.fetchall()
        cursor.execute(_UNTOLD)
        wrong = [f"alert {alert}, round {number}: planned for nobody" for alert, number in cursor.fetchall()]
    told: Counter[tuple[str, int]] = Counter()
    for channel, alert, is_sent, attempts in deliveries:
        told[channel, alert] += 1
        if not is_sent:
            wrong.append(f"alert {alert} was not delivered to {channel} in {attempts} attempts")
    wrong += [
        f"alert {alert}: {count} receipts of {channel}, {came.get((channel, alert), 0)} messages came"
        for (channel, alert), count in told.items()
        if came.get((channel, alert), 0) < count
    ]
    repeated = sum(came.values()) - sum(told.values())
    again = sum(attempts > 1 for *_, attempts in deliveries)
    return wrong, f"alerts: {told.total()} delivered, {again} of them not at once, {repeated} came twice"
