"""Addresses of execution."""

from django.urls import URLPattern, path

from execution import views

urlpatterns: list[URLPattern] = [
    path("approvals/<uuid:proposal_id>/approve/", views.approve, name="approve_proposal"),
    path("orders/", views.orders, name="orders"),
    path("orders/<uuid:order_id>/", views.order, name="order"),
    path("positions/", views.positions, name="positions"),
    path("reconciliation/", views.reconciliation, name="reconciliation"),
    path("reconciliation/run/", views.reconcile_now, name="reconcile_now"),
    path("reconciliation/<int:run_id>/", views.reconciliation_run, name="reconciliation_run"),
]
