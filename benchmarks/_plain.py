"""What the fan-out is compared with: channels' documented group broadcast over channels_redis' pub/sub layer.

A page's consumer joins a group and sends on what the group is sent, as the tutorial of channels does it, on the same
server with the same options. Nothing of the product is in it.
"""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings

URL = os.environ["HSVM_REDIS"]
LAYER = {
    "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "CONFIG": {"hosts": [{"address": URL, "socket_timeout": None}], "capacity": 100_000},  # else it drops above 100
}
if not settings.configured:
    settings.configure(CHANNEL_LAYERS={"default": LAYER}, SECRET_KEY="bench")

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402

GROUP = "bench"


class Broadcast(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def frame(self, event: dict[str, Any]) -> None:
        await self.send(bytes_data=event["data"])


application = ProtocolTypeRouter({"websocket": Broadcast.as_asgi()})
