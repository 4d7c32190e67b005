"""The settings of processes that a fault test starts: those of the tests, on the test's own database."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES = {"default": {**DATABASES["default"], "NAME": os.environ["HSVM_TEST_DATABASE"]}}
