"""Routing of HTTP and websockets. Full origins are checked before a socket is accepted."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()  # Django must be set up before anything below is imported

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

from webapp.admission import admitted
from webapp.live.consumers import LiveConsumer, abortable, from_origins
from webapp.live.hub import lifespan

application = ProtocolTypeRouter(
    {
        "http": admitted(http, settings.REQUESTS_AT_ONCE),
        "websocket": abortable(
            from_origins(AuthMiddlewareStack(URLRouter([path("ws/", LiveConsumer.as_asgi())])), settings.ORIGINS)
        ),
        "lifespan": lifespan,
    }
)

# None of this ever becomes garbage. Looking through it again, as a full collection does, stops every socket for 0.2 s.
gc.collect()
gc.freeze()
