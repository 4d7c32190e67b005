"""The life of a VM by API: places where it may go, moving, other wishes by profile, its end."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.agreements import life, places
from webapp.agreements.wishes_api import Name, PlaceIn
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants.api import router as vms
from webapp.tenants.selectors import policy_newest, vm_get

router = Router(tags=["vms"])


class SpotOut(Schema):
    host: str
    here: bool = Field(description="The VM is there now.")
    can: bool
    why: list[str] = Field(description="What stands against it, in words.")
    open: int = Field(description="Points that would have to be negotiated with the operator.")
    busy: bool = Field(description="Others run there, who are asked when the VM starts.")
    at_once: bool = Field(description="It could start there now, since nobody has to be asked first.")


class MovedOut(Schema):
    vm: str
    host: str | None = Field(description="Where it is now.")
    negotiation: int | None = Field(description="Of a VM that runs: the negotiation of its new place.")


class ProfileChoiceIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"profile": "balanced"}]})
    profile: Annotated[str, Field(max_length=63)]


class ProfileSetOut(Schema):
    vm: str
    saved: bool = Field(description="false: the newest wishes say exactly that already, and nothing was saved.")
    version: int


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def spot_shown(row: dict[str, Any], home: Any) -> dict[str, Any]:
    return {**row, "host": row["host"].name, "here": row["host"] == home}


@vms.delete("/vms/{name}", response={204: None})
def vm_delete(request: HttpRequest, name: Name) -> Any:
    """Delete a stopped VM of yours: its place is free and its wishes are emptied. Its name is never given again, and
    what was signed stays with those who signed it."""
    user = person(request)
    life.vm_delete(by=user, vm=vm_get(user=user, name=name))
    return Status(204, None)


@router.get("/vms/{name}/places", response=Listed[SpotOut])
def place_list(request: HttpRequest, name: Name, paging: Query[Paging]) -> Any:
    """The hosts, whether the newest wishes can be kept on each, and why not. Empty: the VM has no wishes yet.
    Neighbours are asked when it starts there."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    policy = policy_newest(user=user, vm=vm)
    home = vm.placement.host if hasattr(vm, "placement") else None
    rows = places.places_of(user=user, policy=policy) if policy else []
    return pages(request, [spot_shown(row, home) for row in rows], paging, by="host")


@router.post("/vms/{name}/move", response=MovedOut)
def vm_move(request: HttpRequest, name: Name, given: PlaceIn) -> Any:
    """Move a VM of yours. A stopped one is placed on the host after the start check there; for one that runs its place
    there is negotiated, and without an agreement nothing changes."""
    user = person(request)
    begun = life.vm_move(by=user, vm=vm_get(user=user, name=name), host=given.host)
    vm = vm_get(user=user, name=name)
    home = vm.placement.host.name if hasattr(vm, "placement") else None
    return {"vm": vm.name, "host": home, "negotiation": begun.pk if begun else None}


@router.post("/vms/{name}/profile", response=ProfileSetOut)
def profile_put(request: HttpRequest, name: Name, given: ProfileChoiceIn) -> Any:
    """Answer the questions as a profile does: saved as the next version of the wishes. What the questions do not cover
    stays."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    policy = life.profile_set(by=user, vm=vm, profile=given.profile)
    newest = policy or policy_newest(user=user, vm=vm)
    return {"vm": vm.name, "saved": policy is not None, "version": newest.version if newest else 0}
