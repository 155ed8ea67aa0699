"""Addresses of execution."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
