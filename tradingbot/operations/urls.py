"""Addresses that span the apps."""

from django.contrib.auth import views as auth_views
from django.urls import URLPattern, URLResolver, path

from tradingbot.operations import alert_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.overview, name="overview"),
    path("more/", views.more, name="more"),
    path("panels/", views.fresh_panels, name="panels"),
    path("alerts/", alert_views.alerts, name="alerts"),
    path("alerts/<int:alert_id>/acknowledge/", alert_views.acknowledge, name="acknowledge_alert"),
    path("alerts/<int:alert_id>/silence/", alert_views.silence, name="silence_alert"),
    path("alerts/silences/<int:silence_id>/end/", alert_views.end_silence, name="end_silence"),
    path("alerts/channels/<int:channel_id>/test/", alert_views.test_channel, name="test_channel"),
    path("alerts/devices/", alert_views.add_device, name="add_device"),
    path("alerts/devices/<int:channel_id>/remove/", alert_views.remove_device, name="remove_device"),
    path("sw.js", alert_views.service_worker, name="service_worker"),
    path("login/", auth_views.LoginView.as_view(template_name="operations/login.html"), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
]
