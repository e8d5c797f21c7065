"""The stack's broker and database, each on its own: from nothing to serving, through a crash, to nothing."""

import json
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lab.process import Process

from local_stack.broker import Broker
from local_stack.part import StackError, accepts
from local_stack.postgres import Postgres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A database server for this module."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for this module."""
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def api(broker: Broker, path: str, user: str = "viaduct-operator") -> object:
    """GET from the management API."""
    url = urlsplit(broker.api_url(user))
    token = b64encode(f"{url.username}:{url.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{url.port}/api{path}", headers={"Authorization": f"Basic {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def command_lines() -> list[str]:
    """The command lines of all processes of this machine."""
    paths = Path("/proc").glob("[0-9]*/cmdline")
    return [path.read_bytes().replace(b"\0", b" ").decode(errors="replace") for path in paths if path.exists()]


def test_services_own_a_schema_each_and_do_not_see_the_others(postgres: Postgres) -> None:
    """A service's role works in the schema of its name and cannot enter another's."""
    role = postgres.url("viaduct_ipam")
    psql = ["psql", "--no-psqlrc", "-At", role, "-c"]

    made = subprocess.run(
        [*psql, "CREATE TABLE t (x int); SELECT schemaname FROM pg_tables WHERE tablename = 't'"],
        capture_output=True,
        text=True,
        check=False,
    )
    refused = subprocess.run(
        [*psql, "CREATE TABLE viaduct_manager.t (x int)"], capture_output=True, text=True, check=False
    )

    assert made.stdout.split() == ["CREATE", "TABLE", "viaduct_ipam"]
    assert "permission denied" in refused.stderr


def test_committed_rows_survive_a_crash_of_the_server(postgres: Postgres) -> None:
    """Killed and started again, the database holds what was committed."""
    postgres.sql("CREATE TABLE crash (x int); INSERT INTO crash VALUES (42);")

    postgres.kill()
    assert not postgres.alive()
    postgres.start()

    assert postgres.sql("SELECT x FROM crash;") == "42"


def test_databases_of_tests_come_and_go(postgres: Postgres) -> None:
    """Another database is provisioned like the first and can be dropped under its clients."""
    postgres.create_database("other")

    assert postgres.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'viaduct%';", database="other") == "2"
    postgres.drop_database("other")
    with pytest.raises(StackError, match="does not exist"):
        postgres.sql("SELECT 1;", database="other")


def test_broker_has_all_queues_with_their_policies_from_its_first_moment(broker: Broker) -> None:
    """Definitions are loaded before the first client is let in; dead letters are at-least-once."""
    rows = broker.ctl("list_queues", "--no-table-headers", "-p", "viaduct", "name", "type", "policy").splitlines()

    assert sorted(row.split() for row in rows) == [
        ["viaduct.dead-letters", "quorum", "viaduct-dead-letters"],
        ["viaduct.ipam", "quorum", "viaduct-services"],
        ["viaduct.manager", "quorum", "viaduct-services"],
        ["viaduct.manager.agents", "quorum", "viaduct-services"],
    ]


def test_only_known_users_with_their_own_passwords_get_in(broker: Broker) -> None:
    """There is no guest, and the service that needs no management API has none."""
    users = api(broker, "/users", "viaduct-manager")

    assert isinstance(users, list)
    assert {user["name"] for user in users} == {"viaduct-operator", "viaduct-manager", "viaduct-ipam"}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        api(broker, "/overview", "viaduct-ipam")
    refusal.value.close()
    assert refusal.value.code == 401


def test_broker_comes_back_after_a_crash_and_no_password_is_on_a_command_line(broker: Broker) -> None:
    """Killed and started again it serves as before; secrets stay in files."""
    secrets = [path.read_text() for path in broker.run_dir.folder("secrets").iterdir()]

    broker.kill()
    assert not accepts(broker.port)
    broker.start()

    assert isinstance(api(broker, "/queues/viaduct"), list)
    assert [line for line in command_lines() if any(secret in line for secret in secrets)] == []


def test_nothing_is_left_after_a_stop(tmp_path: Path) -> None:
    """Neither the node nor its port mapper, nor anything they had started."""
    broker = Broker(tmp_path)
    with broker:
        node, epmd = broker.process(), Process.load(broker.folder / "epmd.json")
        assert node is not None
        assert epmd is not None
        family = [*node.family(), *epmd.family()]
        assert len(family) >= 3

    assert [process for process in family if process.alive()] == []
