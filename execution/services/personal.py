"""What people asked for, carried out: the one place that knows who does which kind of request."""

from datetime import datetime

from execution.contracts import ExchangeGateway, RequestKind
from execution.services import operating, replacing, requesting, reviewing, settling

DOERS: dict[str, requesting.Doer] = {
    RequestKind.CONFIRM_FILLED: reviewing.confirm_filled,
    RequestKind.CONFIRM_ABSENT: reviewing.confirm_absent,
    RequestKind.ADOPT_ORDER: settling.adopt_order,
    RequestKind.CANCEL_ORDER: settling.cancel_order,
    RequestKind.CANCEL_OWN: operating.cancel_own,
    RequestKind.CLOSE_POSITION: operating.close_position,
    RequestKind.REPLACE_OWN: replacing.replace_own,
}


def carry_out_requests(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Carry out what people asked for, each by one worker; how many were taken."""
    return requesting.carry_out_requests(exchange=exchange, doers=DOERS, now=now)
