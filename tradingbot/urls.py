"""Mounts the apps."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("tradingbot.operations.health_urls")),
    path("", include("tradingbot.operations.urls")),
    path("", include("market.urls")),
    path("", include("proposals.urls")),
    path("", include("risk.urls")),
    path("", include("execution.urls")),
]

handler500 = "tradingbot.core.outage.server_error"
