"""Which tasks are nudged by which announcement: the one place that joins the apps by name.

Keys are a topic or `topic.event`. Every task named here is also run by the beat schedule, which finds the
same rows without any message.
"""

NUDGES: dict[str, tuple[str, ...]] = {
    "alert": ("tradingbot.operations.tasks.deliver_alerts",),
    "candle": ("proposals.tasks.advise_due",),
    "decision_request.asked": ("proposals.tasks.advise_due",),
    "proposal.proposed": ("execution.tasks.assess_proposals",),
    "proposal.auto_approved": ("execution.tasks.execute_approved",),
    "proposal.approved": ("execution.tasks.execute_approved",),
    "account_event": ("execution.tasks.fold_account_events",),
    "position.unprotected": ("execution.tasks.guard_positions",),
    "order.execution_unknown": ("execution.tasks.resolve_unknown",),
    "filter_refused": ("market.tasks.refresh_instruments",),
    "reconciliation_request": ("execution.tasks.reconcile_requested",),
    "kill.under_way": ("execution.tasks.carry_out_kills",),
    "operator_request": ("execution.tasks.carry_out_requests",),
}

# Task name -> queue. Everything else goes to `trading`.
ROUTES: dict[str, str] = {
    "proposals.tasks.advise_due": "advisor",
    "proposals.tasks.advise_one": "advisor",
    "proposals.tasks.score_proposals": "advisor",
    "market.tasks.refresh_instruments": "streams",
    "market.tasks.drop_old": "streams",
    "tradingbot.operations.tasks.deliver_alerts": "alerts",
    "tradingbot.operations.tasks.tend_alerts": "alerts",
    "tradingbot.operations.tasks.canary_alerts": "alerts",
    "tradingbot.operations.tasks.anchor_audit": "alerts",
    "tradingbot.operations.tasks.canary_streams": "streams",
    "tradingbot.operations.tasks.canary_advisor": "advisor",
}

# Task name -> seconds between two sweeps.
SWEEPS: dict[str, float] = {
    "proposals.tasks.advise_due": 1.0,
    "proposals.tasks.expire_overdue": 1.0,
    "proposals.tasks.score_proposals": 30.0,
    "execution.tasks.assess_proposals": 1.0,
    "execution.tasks.execute_approved": 1.0,
    "execution.tasks.fold_account_events": 1.0,
    "execution.tasks.resolve_unknown": 2.0,
    "execution.tasks.guard_positions": 2.0,
    "execution.tasks.reconcile_requested": 1.0,
    "execution.tasks.carry_out_requests": 1.0,
    "execution.tasks.carry_out_kills": 1.0,
    "execution.tasks.watch_autonomy": 2.0,
    "execution.tasks.reconcile": 60.0,
    "execution.tasks.measure_clock": 30.0,
    "execution.tasks.record_equity": 60.0,
    "market.tasks.refresh_instruments": 3600.0,
    "market.tasks.drop_old": 6 * 3600.0,
    "tradingbot.operations.tasks.watch_health": 2.0,
    "tradingbot.operations.tasks.deliver_alerts": 2.0,
    "tradingbot.operations.tasks.tend_alerts": 10.0,
    "tradingbot.operations.tasks.anchor_audit": 600.0,
    "tradingbot.operations.tasks.canary_trading": 5.0,
    "tradingbot.operations.tasks.canary_alerts": 5.0,
    "tradingbot.operations.tasks.canary_streams": 5.0,
    "tradingbot.operations.tasks.canary_advisor": 5.0,
}
