"""`manage.py create_operator`: who operates this site. No password is made: a link lets the person choose one."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.core.validators import validate_email
from django.db import transaction
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from webapp.accounts import services as accounts
from webapp.accounts import support as support_staff
from webapp.accounts.models import User
from webapp.errors import BadInput, Fault, VpmsError
from webapp.tenants.services import membership_add


class Command(BaseCommand):
    help = "Make an account with the operator's role and print the link by which the person chooses a password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", help="asked for when it is not given")
        parser.add_argument("--email", help="asked for when it is not given")
        parser.add_argument("--support", action="store_true", help="may also open /admin/")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            username = options["username"] or asked("user name: ")
            user = operator(username, options["email"], support=options["support"])
        except VpmsError as error:
            self.stderr.write(f"create_operator: {error.message}")
            sys.exit(1)
        uid = urlsafe_base64_encode(force_bytes(user.pk))
        address = accounts.link("password-new", uid, default_token_generator.make_token(user))
        minutes = settings.PASSWORD_RESET_TIMEOUT // 60
        self.stdout.write(f"{user.username} operates this site. Choose a password within {minutes} minutes at")
        self.stdout.write(address)
        self.stdout.write("The link works once. If it is over, give the same command again.")


def asked(question: str) -> str:
    """What is typed; nothing where nobody can type."""
    return input(question).strip() if sys.stdin.isatty() else ""


@transaction.atomic
def operator(username: str, email: str | None, *, support: bool) -> User:
    """The new account, or the one of this name that never had a password; any other is refused."""
    waiting = User.objects.filter(username=username, is_active=True).first()
    if (
        waiting is not None
        and not waiting.has_usable_password()
        and waiting.memberships.filter(role="operator").exists()
    ):
        return waiting
    accounts.name_check(username)
    email = email or asked("e-mail address: ")
    try:
        validate_email(email)
    except ValidationError:
        raise BadInput([Fault("$.email", "This is not an e-mail address.")]) from None
    user = accounts.user_create(by=None, username=username, password="", email=email)
    user.set_unusable_password()
    user.save(update_fields=["password"])
    membership_add(by=None, user=user, role="operator")
    if support:
        support_staff.admin_allow(by=None, user=user)
    return user
