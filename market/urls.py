"""Addresses of market."""

from django.urls import URLPattern, path

from market import views

urlpatterns: list[URLPattern] = [
    path("feed/", views.feed, name="feed"),
    path("market/<str:symbol>/", views.candles, name="candles"),
    path("market/<str:symbol>/candles.json", views.candle_data, name="candle_data"),
]
