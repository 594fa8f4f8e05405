"""Says by its exit status whether the Parley process of this host and port answers: for systemd and containers.

Needs nothing but Python. With --wait it asks again until the process answers or the seconds are over.
"""

import argparse
import http.client
import os
import sys
import time

PATIENCE = 2  # seconds for one try


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to go on asking")
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.wait
    while problem := trouble(chosen.port):
        if time.monotonic() >= end:
            sys.exit(f"Parley does not answer at port {chosen.port}: {problem}")
        time.sleep(0.2)


def trouble(port: int) -> str:
    """What is wrong; empty when Parley answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/healthz", headers={"Host": served_name()})
        response = connection.getresponse()
        return "" if response.status == 200 else f"status {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def served_name() -> str:
    """A host name that this installation serves: it refuses all others."""
    first = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip()
    return first.removeprefix(".") if first not in ("", "*") else "localhost"


if __name__ == "__main__":
    main()
