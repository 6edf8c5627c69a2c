"""Write the .env of docker-compose.yaml with fresh secrets: docs/operations.md.

A server with Docker has no virtual environment, so make calls this file with any Python 3, and it imports nothing else.
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
    """A secret; one that is called FERNET_KEY is 32 bytes in URL-safe base64, as Fernet takes it."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode() if name == "FERNET_KEY" else secrets.token_hex(32)


def filled(example: str) -> str:
    """The text of .env: that of the example, with a secret behind each name that has no value."""
    return re.sub(r"^([A-Z0-9_]+)=$", lambda found: f"{found[1]}={fresh(found[1])}", example, flags=re.MULTILINE)


def write() -> None:
    """Write .env, for its owner alone; exits with an error if it exists, and leaves it as it is."""
    text = filled(EXAMPLE.read_text())
    try:
        descriptor = os.open(ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(f"ERROR: {ENV_FILE} exists already, and volumes may need its secrets. It was left as it is.")
    with open(descriptor, "w") as file:
        file.write(text)
    print(f"{ENV_FILE} is written. The user of the UI is admin; the password is ADMIN_PASSWORD in that file.")


if __name__ == "__main__":
    write()
