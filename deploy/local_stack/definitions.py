"""The broker's definitions: the shipped file, and the users with generated passwords."""

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from local_stack.run_dir import CHECKOUT, RunDir, write_private_json

SHIPPED = CHECKOUT / "deploy" / "rabbitmq"
VHOST = "viaduct"


def password_hash(password: str, salt: bytes) -> str:
    """Return RabbitMQ's own form: base64 of the salt, 4 bytes, and SHA-256 of salt and password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def render_definitions(run_dir: RunDir, target: Path) -> None:
    """Write the definitions that a broker of this stack loads at boot."""
    definitions: dict[str, Any] = json.loads((SHIPPED / "definitions.json").read_text())
    users: dict[str, dict[str, Any]] = json.loads((SHIPPED / "users.json").read_text())
    definitions["users"] = [
        {
            "name": name,
            "password_hash": password_hash(run_dir.secret(f"amqp-{name}"), secrets.token_bytes(4)),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": user["tags"],
        }
        for name, user in users.items()
    ]
    definitions["permissions"] = [
        {"user": name, "vhost": VHOST, **{right: user[right] for right in ("configure", "write", "read")}}
        for name, user in users.items()
    ]
    write_private_json(target, definitions)
