"""Addresses of execution."""

from django.urls import URLPattern, path

from execution import views

urlpatterns: list[URLPattern] = [
    path("approvals/<uuid:proposal_id>/approve/", views.approve, name="approve_proposal"),
    path("orders/", views.orders, name="orders"),
    path("orders/<uuid:order_id>/", views.order, name="order"),
    path("orders/<uuid:order_id>/cancel/", views.cancel_order, name="cancel_order"),
    path("orders/<uuid:order_id>/replace/", views.replace_order, name="replace_order"),
    path("positions/<slug:symbol>/close/", views.close_position, name="close_position"),
    path("orders/<uuid:order_id>/review/", views.review, name="review"),
    path("orders/<uuid:order_id>/review/answer/", views.answer_review, name="answer_review"),
    path("positions/", views.positions, name="positions"),
    path("reconciliation/", views.reconciliation, name="reconciliation"),
    path("reconciliation/run/", views.reconcile_now, name="reconcile_now"),
    path("reconciliation/divergences.csv", views.divergences_csv, name="divergences_csv"),
    path("reconciliation/divergences/<int:divergence_id>/", views.divergence, name="divergence"),
    path("reconciliation/divergences/<int:divergence_id>/settle/", views.settle, name="settle_divergence"),
    path("reconciliation/<int:run_id>/", views.reconciliation_run, name="reconciliation_run"),
]
