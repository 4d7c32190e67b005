"""/admin/: who opens it, what it never shows, and that each of its acts is in the log under who did it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.urls import reverse

from tests.conftest import Cast
from webapp.accounts import factors
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.ops import support
from webapp.runs.services import vm_start

pytestmark = pytest.mark.django_db
LISTS = [f"admin:{model._meta.app_label}_{model._meta.model_name}" for model in support.site._registry]


@pytest.fixture
def staff(cast: Cast) -> Client:
    """Olga, who may open it."""
    User.objects.filter(pk=cast.olga.pk).update(is_staff=True)
    client = Client()
    client.force_login(cast.olga)
    return client


def act(staff: Client, name: str, *people: User) -> Any:
    data = {"action": name, "_selected_action": [person.pk for person in people]}
    return staff.post(reverse("admin:accounts_user_changelist"), data, follow=True)


def test_it_is_missing_for_all_but_operators_who_were_allowed_to_it(cast: Cast, staff: Client) -> None:
    address = reverse("admin:accounts_user_changelist")
    assert staff.get(address).status_code == 200
    User.objects.filter(username="alice").update(is_staff=True, is_superuser=True)  # and no operator
    for person in (cast.alice, cast.bob, cast.ines):
        other = Client()
        other.force_login(person)
        assert {other.get("/admin/").status_code, other.get(address).status_code} == {404}
    User.objects.filter(pk=cast.olga.pk).update(is_staff=False)
    assert staff.get(address).status_code == 404
    assert Client().get("/admin/")["Location"].startswith("/sign-in/")
    for door in ("/admin/login/", "/admin/password_change/", "/admin/logout/"):
        assert staff.get(door).status_code == 404


def test_it_sleeps_until_the_person_has_a_second_factor_where_one_is_demanded(
    cast: Cast, staff: Client, settings: Any
) -> None:
    settings.MFA_REQUIRED = True
    assert staff.get("/admin/").status_code == 404
    Authenticator.objects.create(user=cast.olga, type=Authenticator.Type.TOTP, data={})
    assert staff.get("/admin/").status_code == 200


def test_lists_are_searched_and_pages_show_no_wish_and_no_secret(cast: Cast, staff: Client) -> None:
    vm_start(by=cast.alice, vm=cast.a_db)
    User.objects.get(username="alice").set_password("x")
    hash_begins = "argon2"
    shown = 0
    for name in LISTS:
        page = staff.get(reverse(f"{name}_changelist"), {"q": "1"})
        assert page.status_code == 200, name
        model = page.context["cl"].model
        for row in model._default_manager.all()[:3]:
            one = staff.get(reverse(f"{name}_change", args=[row.pk]))
            words = one.content.decode()
            assert one.status_code == 200 and hash_begins not in words and "memory_protection" not in words, name
            assert 'type="submit"' not in words.partition('id="content"')[2], f"{name} can be changed"
            shown += 1
        assert staff.get(reverse(f"{name}_changelist") + "add/").status_code in (302, 403, 404)
        assert staff.post(reverse(f"{name}_changelist") + "1/delete/", {"post": "yes"}).status_code in (302, 403, 404)
    assert shown >= 6


def test_each_act_is_done_by_the_services_and_in_the_log_under_who_did_it(cast: Cast, staff: Client) -> None:
    bob, guest = cast.bob, Client()
    guest.force_login(bob)
    Authenticator.objects.create(user=bob, type=Authenticator.Type.TOTP, data={})
    for name, type in (
        ("factors_remove", "account.factors_removed"),
        ("account_close", "account.closed"),
        ("account_open", "account.opened"),
    ):
        act(staff, name, bob)
        entry = Entry.objects.order_by("-seq").first()
        assert entry is not None and (entry.type, entry.actor, entry.subject) == (
            type,
            cast.olga.alias,
            f"user:{bob.alias}",
        )
        assert guest.get("/tenant/").status_code == (302 if name == "account_close" else 200)
    assert not Authenticator.objects.filter(user=bob).exists() and User.objects.get(pk=bob.pk).is_active
    count = Entry.objects.count()
    act(staff, "account_open", bob)  # it is open: nothing happens, and nothing is written
    assert Entry.objects.count() == count


def test_nobody_closes_the_own_account_or_touches_a_deleted_one(cast: Cast, staff: Client) -> None:
    from webapp.tenants.people import account_delete

    account_delete(user=cast.ines)
    told = act(staff, "account_close", cast.olga, cast.ines).content.decode()
    assert "This is your own account" in told and "was deleted by its person" in told
    assert User.objects.get(pk=cast.olga.pk).is_active


def test_the_pages_need_no_script_or_style_that_the_policy_forbids(staff: Client) -> None:
    for path in ("/admin/", reverse("admin:accounts_user_changelist")):
        answer = staff.get(path)
        words = answer.content.decode()
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>\s*\S", words)
        assert not re.search(r"<style|\sstyle=|\son\w+=", words)


def test_what_support_does_has_words_in_the_log() -> None:
    from webapp.vpms.logwords import SENTENCES

    assert {"account.closed", "account.opened", "account.factors_removed", "account.signed_out"} <= SENTENCES.keys()
    assert factors.SiteAdapter  # the secrets of factors are sealed, and in none of the lists
