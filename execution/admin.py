"""The back office of execution: everything here is read-only, orders and fills most of all."""

from django.contrib import admin

from execution import models
from tradingbot.core.admin import ReadOnlyAdmin


@admin.register(models.Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = (
        "client_order_id",
        "symbol",
        "side",
        "quantity",
        "status",
        "exchange_status",
        "created_at",
    )
    list_filter = ("environment", "status", "exchange_status", "symbol")
    search_fields = ("client_order_id",)


@admin.register(models.Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "trade_id", "side", "quantity", "price", "commission", "commission_asset", "at")
    list_filter = ("environment", "symbol", "side")


@admin.register(models.Position)
class PositionAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "quantity", "cost_quote", "realised_pnl_quote", "fees_quote", "environment")


@admin.register(models.ReconciliationRun)
class ReconciliationRunAdmin(ReadOnlyAdmin):
    list_display = ("id", "trigger", "status", "divergence_count", "started_at", "finished_at", "note")
    list_filter = ("environment", "status")


@admin.register(models.Divergence)
class DivergenceAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "kind",
        "symbol",
        "amount",
        "amount_asset",
        "first_seen_at",
        "closed_at",
        "resolution",
    )
    list_filter = ("environment", "kind")


@admin.register(models.OrderTest)
class OrderTestAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "passed", "detail", "at", "environment")
    list_filter = ("environment", "passed", "symbol")


@admin.register(models.OperatorRequest)
class OperatorRequestAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "actor", "reason", "asked_at", "done_at", "succeeded", "detail")
    list_filter = ("environment", "kind", "succeeded")
