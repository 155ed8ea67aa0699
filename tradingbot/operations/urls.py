"""Addresses that span the apps."""

from django.contrib.auth import views as auth_views
from django.urls import URLPattern, URLResolver, path

from tradingbot.operations import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.overview, name="overview"),
    path("more/", views.more, name="more"),
    path("panels/", views.fresh_panels, name="panels"),
    path("alerts/", views.alerts, name="alerts"),
    path("alerts/<int:alert_id>/acknowledge/", views.acknowledge, name="acknowledge_alert"),
    path("login/", auth_views.LoginView.as_view(template_name="operations/login.html"), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
]
