"""Addresses of proposals."""

from django.urls import URLPattern, path

from proposals import views

urlpatterns: list[URLPattern] = [
    path("approvals/", views.queue, name="queue"),
    path("approvals/<uuid:proposal_id>/", views.proposal, name="proposal"),
    path("approvals/<uuid:proposal_id>/reject/", views.reject, name="reject_proposal"),
    path("advisor/", views.advisor, name="advisor"),
    path("scoreboard/", views.scoreboard, name="scoreboard"),
    path("scoreboard/file.csv", views.scoreboard_csv, name="scoreboard_csv"),
    path("advisor/ask/", views.ask, name="ask_advisor"),
    path("proposals/", views.all_proposals, name="proposals"),
]
