"""Addresses of the health checks; mounted by tradingbot.urls."""

from django.urls import path

from tradingbot.operations import health

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
]
