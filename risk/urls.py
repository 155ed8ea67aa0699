"""Addresses of risk."""

from django.urls import URLPattern, path

from risk import views

urlpatterns: list[URLPattern] = [path("halt/", views.halt, name="halt")]
