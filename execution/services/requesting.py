"""What a person decided and the exchange must be asked for: a row by the page, the deed by a trading worker.

No request handler reaches the signed exchange, so a page only writes the row. `taken_at` is committed before
anything is sent; a cancel whose worker was lost after that is not sent again by itself (invariant 1).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from execution import selectors
from execution.contracts import AnswerRefused, ExchangeGateway, QueryFailed, RequestKind
from execution.models import Divergence, OperatorRequest, Order
from tradingbot.core import audit
from tradingbot.core.announce import announce

TOPIC = "operator_request"
BATCH = 20
REASON_LENGTH_MAX = 300
# A worker that took a request and is silent for longer has died: queries take a few time-outs at most.
RETAKE = timedelta(seconds=4 * settings.EXCHANGE_TIMEOUT_SECONDS)
IN_WORDS = {
    RequestKind.CONFIRM_FILLED: "confirm it filled",
    RequestKind.CONFIRM_ABSENT: "confirm it absent",
    RequestKind.ADOPT_ORDER: "adopt its trades",
    RequestKind.CANCEL_ORDER: "cancel it on the exchange",
    RequestKind.CANCEL_OWN: "cancel it",
    RequestKind.CLOSE_POSITION: "close the position",
    RequestKind.REPLACE_OWN: "put it at another price",
}
Doer = Callable[[OperatorRequest, ExchangeGateway, datetime], None]


def checked_reason(text: str) -> str:
    """The reason that a person gave; raises AnswerRefused when there is none."""
    reason = " ".join(text.split())
    if not reason:
        raise AnswerRefused("NO_REASON", "Nothing was done: say why, in a few words.")
    if len(reason) > REASON_LENGTH_MAX:
        raise AnswerRefused(
            "LONG_REASON", f"Nothing was done: the reason may have {REASON_LENGTH_MAX} characters."
        )
    return reason


def open_request(
    *,
    kind: RequestKind,
    subject: Order | Divergence,
    seen_version: int,
    reason: str,
    actor: str,
    now: datetime,
    trade_ids: Sequence[int] = (),
    price: Decimal | None = None,
) -> OperatorRequest:
    """Write the row; the caller holds the transaction and the lock of `subject`."""
    refuse_while_asked(subject)
    request = OperatorRequest.objects.create(
        environment=selectors.ENVIRONMENT,
        kind=kind,
        order=subject if isinstance(subject, Order) else None,
        divergence=subject if isinstance(subject, Divergence) else None,
        seen_version=seen_version,
        trade_ids=list(trade_ids),
        price=price,
        reason=reason,
        actor=actor,
        asked_at=now,
    )
    audit.record(
        action=f"asked.{kind.value}",
        subject=_subject_of(request),
        actor=actor,
        now=now,
        reason=reason,
        trade_ids=list(trade_ids),
        **({} if price is None else {"price": price}),
    )
    _announce(request)
    return request


def refuse_while_asked(subject: Order | Divergence) -> None:
    """Raise AnswerRefused when somebody's answer is being carried out."""
    request = subject.requests.filter(done_at=None).first()
    if request is not None:
        raise AnswerRefused(
            "ALREADY_ASKED",
            f"Nothing was done: {request.actor} asked to {IN_WORDS[RequestKind(request.kind)]} at "
            f"{request.asked_at:%H:%M:%S} UTC, and it is being carried out.",
        )


def carry_out_requests(*, exchange: ExchangeGateway, doers: dict[str, Doer], now: datetime) -> int:
    """Carry out what people asked for, each by one worker; how many were taken."""
    taken = 0
    rows = OperatorRequest.objects.filter(environment=selectors.ENVIRONMENT, done_at=None)
    for request in rows.select_related("order__intent", "divergence").order_by("id")[:BATCH]:
        if request.taken_at is not None and now - request.taken_at < RETAKE:
            continue
        is_second_try = request.taken_at is not None
        mine = OperatorRequest.objects.filter(pk=request.pk, done_at=None, taken_at=request.taken_at)
        if not mine.update(taken_at=now):
            continue
        taken += 1
        if is_second_try and request.kind == RequestKind.CANCEL_ORDER:
            finish(
                request,
                succeeded=False,
                detail="The worker was lost while it sent the cancel. The next comparison shows what it did.",
                now=now,
            )
            continue
        _carry_out(request, exchange, doers[request.kind], now)
    return taken


def _carry_out(request: OperatorRequest, exchange: ExchangeGateway, doer: Doer, now: datetime) -> None:
    try:
        doer(request, exchange, now)
    except AnswerRefused as refusal:
        finish(request, succeeded=False, detail=refusal.detail, now=now)
    except QueryFailed as error:
        sentence = f"The exchange gave no answer ({error}). Nothing was changed; ask again."
        finish(request, succeeded=False, detail=sentence, now=now)


def finish(request: OperatorRequest, *, succeeded: bool, detail: str, now: datetime) -> None:
    """Close the request; a doer calls it in the transaction of its effect."""
    with transaction.atomic():
        request.done_at, request.succeeded, request.detail = now, succeeded, detail[:600]
        request.save(update_fields=["done_at", "succeeded", "detail"])
        audit.record(
            action=f"{'done' if succeeded else 'not_done'}.{request.kind}",
            subject=_subject_of(request),
            actor=request.actor,
            now=now,
            detail=request.detail,
        )
        _announce(request)


def _subject_of(request: OperatorRequest) -> str:
    return f"order:{request.order_id}" if request.order_id else f"divergence:{request.divergence_id}"


def _announce(request: OperatorRequest) -> None:
    announce(TOPIC, request.pk)
    if request.order_id:
        announce(Order.TOPIC, request.order_id)
    else:
        announce("divergence", request.divergence_id)
