"""HTTP and WebSocket entry: sessions and origin are checked before any consumer."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingbot.settings")
_http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 - after the apps are loaded
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from tradingbot.core.boot import refuse_unmigrated  # noqa: E402
from tradingbot.operations.routing import websocket_urlpatterns  # noqa: E402

refuse_unmigrated()

application = ProtocolTypeRouter(
    {
        "http": _http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
