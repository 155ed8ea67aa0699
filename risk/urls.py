"""Addresses of risk."""

from django.urls import URLPattern, path

from risk import views

urlpatterns: list[URLPattern] = [
    path("control/", views.control, name="control"),
    path("halt/", views.halt, name="halt"),
    path("approvals/<uuid:proposal_id>/reduce/", views.reduce, name="reduce_proposal"),
]
