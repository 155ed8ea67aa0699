"""WebSocket addresses."""

from django.urls import path

from tradingbot.operations.consumers import DeskConsumer

websocket_urlpatterns = [path("ws/desk/", DeskConsumer.as_asgi())]
