"""Write .env for docker-compose.yaml, with fresh secrets: docs/operations.md.

A server with Docker has no virtual environment, so ``make secrets`` runs this file with any Python 3. It may import the
standard library only.
"""

import base64
import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(".env.example")
ENV_FILE = Path(".env")


def fresh(name: str) -> str:
    """Return a random secret, in the format that Fernet requires (32 bytes, URL-safe base64) for FERNET_KEY."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode() if name == "FERNET_KEY" else secrets.token_hex(32)


def filled(example: str) -> str:
    """Return the text of .env: the example, with a secret for each name without a value."""
    return re.sub(r"^([A-Z0-9_]+)=$", lambda found: f"{found[1]}={fresh(found[1])}", example, flags=re.MULTILINE)


def write() -> None:
    """Write .env, readable by its owner only. If it exists, leave it unchanged and exit with an error."""
    text = filled(EXAMPLE.read_text())
    try:
        descriptor = os.open(ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(
            f"ERROR: {ENV_FILE} already exists and was not changed, because volumes may need its secrets. "
            "To write a new one, move it away first."
        )
    with open(descriptor, "w") as file:
        file.write(text)
    print(f"Wrote {ENV_FILE}. Log in to the UI as admin, with ADMIN_PASSWORD from that file.")


if __name__ == "__main__":
    write()
