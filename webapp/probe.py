"""`python -m webapp.probe [--wait SECONDS] healthz|readyz`: asks the web process of this machine how it is.

Exit code 0 if it answers 200. For health checks of containers and units: only the standard library, so it starts fast.
It speaks as the proxy does that ends TLS, with a host name that the site answers to.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import time


def status(path: str) -> int:
    """The status that the page answers with; 0 if nobody answers."""
    bind = os.environ.get("HSVM_BIND", "127.0.0.1")
    host = os.environ.get("HSVM_HOSTS", "").split(",")[0] or "127.0.0.1"
    headers = {"Host": host, **({"X-Forwarded-Proto": "https"} if os.environ.get("HSVM_BEHIND_PROXY") == "1" else {})}
    here = "127.0.0.1" if bind in {"0.0.0.0", "::"} else bind
    line = http.client.HTTPConnection(here, int(os.environ.get("HSVM_PORT", "8000")), timeout=4)
    try:
        line.request("GET", f"/{path}", headers=headers)
        return line.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        line.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m webapp.probe", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wait", type=float, default=0, help="ask again for so many seconds")
    parser.add_argument("page", choices=["healthz", "readyz"])
    options = parser.parse_args()
    end = time.monotonic() + options.wait
    while (found := status(options.page)) != 200:
        if time.monotonic() >= end:
            print(f"/{options.page} answers {found or 'nothing'}", file=sys.stderr)
            return 1
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
