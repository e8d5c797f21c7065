"""What is shipped for the broker says the same as the code."""

import json
from pathlib import Path

from local_stack.definitions import SHIPPED, password_hash, render_definitions
from local_stack.run_dir import RunDir
from viaduct_common import topology

DEFINITIONS = json.loads((SHIPPED / "definitions.json").read_text())


def test_definitions_hold_the_topology_of_the_code() -> None:
    """Every exchange, service queue and binding of topology.py is in the shipped file, and no other."""
    exchanges = {row["name"]: row["type"] for row in DEFINITIONS["exchanges"]}
    queues = {row["name"]: row["arguments"] for row in DEFINITIONS["queues"]}
    bindings = {(row["destination"], row["source"], row["routing_key"]) for row in DEFINITIONS["bindings"]}

    assert exchanges == topology.EXCHANGE_TYPES
    assert queues == dict.fromkeys(topology.SERVICE_QUEUES, topology.QUORUM_ARGUMENTS)
    assert bindings == {(queue, exchange, key) for queue, (exchange, keys) in topology.BINDINGS.items() for key in keys}


def test_password_hash_is_what_rabbitmq_documents() -> None:
    """The example of RabbitMQ's own guide on passwords."""
    assert password_hash("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_rendered_file_is_private_and_holds_no_password(tmp_path: Path) -> None:
    """Users come in with salted hashes, in a file for its owner alone."""
    run_dir = RunDir(tmp_path)

    render_definitions(run_dir, tmp_path / "definitions.json")

    text = (tmp_path / "definitions.json").read_text()
    assert (tmp_path / "definitions.json").stat().st_mode & 0o777 == 0o600
    assert {user["name"] for user in json.loads(text)["users"]} == {
        "viaduct-operator",
        "viaduct-manager",
        "viaduct-ipam",
    }
    assert [secret for secret in run_dir.folder("secrets").iterdir() if secret.read_text() in text] == []
