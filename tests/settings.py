"""The site's settings under test: plain http on loopback, a run directory of its own."""

import os
from pathlib import Path

os.environ.setdefault("HSVM_TLS", "0")
os.environ.setdefault("HSVM_RUN_DIR", str(Path(__file__).resolve().parent.parent / ".run" / "test"))
os.environ.setdefault("HSVM_LOG", "WARNING")
os.environ.setdefault("HSVM_API_CALLS_PER_MINUTE", "0")  # the walks call faster than people
os.environ.setdefault("HSVM_API_WRITES_PER_MINUTE", "0")

os.environ.setdefault("HSVM_METRICS_SECONDS", "0")  # no threads that write beside the tests

import webapp.settings as site

globals().update({name: value for name, value in vars(site).items() if name.isupper()})
