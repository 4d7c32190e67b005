"""The REST API: collects each app's router; one handler turns every refusal into one JSON shape."""

from ninja import NinjaAPI

api = NinjaAPI(title="VPMS", version="1", docs_url="/docs")
