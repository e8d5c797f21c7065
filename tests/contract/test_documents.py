"""What the documents say is so: their tables, links, examples, and names of settings, tests and files."""

import ast
import importlib
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from viaduct_agent.dispatch import COMMANDS
from viaduct_agent.services.dispatch import COMMANDS as SERVICE_COMMANDS
from viaduct_agent.settings import load_settings
from viaduct_common import errors, topology
from viaduct_common.messages.base import QueryBody
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md"))])
CODE = ("common", "services", "agent", "deploy", "tests")
REQUESTS = MANAGER_REQUESTS | IPAM_REQUESTS


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    """docs/generate_contract.py, which is no part of any package."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("generate_contract")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def notes(generate: ModuleType) -> ModuleType:
    module: ModuleType = generate.notes
    return module


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a language, also those that stand in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def headings(text: str) -> list[str]:
    return re.findall(r"^#{1,6} (.+)$", prose(text), flags=re.MULTILINE)


# ---- generated tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["contract.md", "operations.md"])
def test_generated_tables_are_those_of_the_models(generate: ModuleType, name: str) -> None:
    """A model that was changed without `make docs` is found here."""
    text = (DOCS / name).read_text()
    assert generate.filled(text) == text, "run: make docs"


def test_every_section_stands_in_a_document(generate: ModuleType) -> None:
    """What can be generated is shown."""
    shown = {
        name for file in generate.FILES for name in re.findall(r"<!-- generated: (.*?) -->", (DOCS / file).read_text())
    }
    assert shown == set(generate.SECTIONS)


def test_notes_name_every_request_and_error_and_nothing_that_is_gone(generate: ModuleType, notes: ModuleType) -> None:
    """Refusals are written by hand; the types, fields and codes in them exist."""
    assert set(notes.REFUSALS) == set(REQUESTS)
    assert set(notes.ERRORS) == set(errors.ERRORS_BY_CODE)
    codes = {code for refusals in notes.REFUSALS.values() for code, _ in refusals}
    assert codes <= set(errors.ERRORS_BY_CODE)
    models = {model.__name__: model for model in [*generate.INVENTORIES, *generate.AGENT_PARTS]}
    reports = {report.message_type: report for report in generate.REPORTS}
    for owner, fields in notes.MEANINGS.items():
        if owner == "*":
            continue
        model = models.get(owner) or reports.get(owner) or REQUESTS[owner]
        rows = generate.rows_of(owner, generate.schema_of(model, "validation"), with_default=False)
        known = {row[0].strip("`") for row in rows} | {"<own>"}
        assert set(fields) <= known, owner


def test_sorts_are_those_of_the_stores(notes: ModuleType) -> None:
    """By these fields a page can be sorted, and by no other."""
    listings = {
        "zone.query": ("viaduct_manager.store.zones", "_LISTING"),
        "cluster.query": ("viaduct_manager.store.clusters", "_LISTING"),
        "host.query": ("viaduct_manager.store.hosts", "_LISTING"),
        "l2.query": ("viaduct_manager.store.l2_networks", "_LISTING"),
        "l3.query": ("viaduct_manager.store.l3_networks", "_LISTING"),
        "nic.query": ("viaduct_manager.store.nics", "_LISTING"),
        "serviceProvider.query": ("viaduct_manager.store.l3_services", "_LISTING"),
        "service.query": ("viaduct_manager.store.services", "_LISTING"),
        "vip.query": ("viaduct_manager.store.vips", "_LISTING"),
        "eip.query": ("viaduct_manager.store.eips", "_LISTING"),
        "portForwarding.query": ("viaduct_manager.store.port_forwardings", "_LISTING"),
        "securityGroup.query": ("viaduct_manager.store.security_groups", "_LISTING"),
        "operation.query": ("viaduct_manager.store.operations", "_LISTING"),
        "realization.query": ("viaduct_manager.store.realizations", "_LISTING"),
        "scope.query": ("viaduct_ipam.store.listings", "SCOPES"),
        "range.query": ("viaduct_ipam.store.listings", "RANGES"),
        "reservation.query": ("viaduct_ipam.store.listings", "RESERVATIONS"),
        "ip.query": ("viaduct_ipam.store.listings", "USED_IPS"),
        "ip.history": ("viaduct_ipam.store.holdings", "_HOLDINGS"),
    }
    assert set(notes.SORTS) == set(listings) == {name for name in REQUESTS if issubclass(REQUESTS[name], QueryBody)}
    for name, (module, attribute) in listings.items():
        listing = getattr(importlib.import_module(module), attribute)
        first, *others = notes.SORTS[name]
        # A filter with a condition of its own alone (attached to a cluster, held at some time) is nothing to sort by.
        filters = {
            "l2.query": {"clusterUuid"},
            "ip.history": {"heldWithin"},
            "securityGroup.query": {"l3NetworkUuid", "nicUuid"},
        }
        sortable = set(listing.columns) - filters.get(name, set())
        assert {first.lstrip("-"), *others} == sortable, name
        assert first == listing.default_sort, name


def test_events_are_those_that_the_code_announces(notes: ModuleType) -> None:
    """Each `announce("...")` of the services is in the table, and each type of a message that goes to the events."""
    announced = {"operation.finished"}
    for path in (ROOT / "services").rglob("*.py"):
        tree = ast.parse(path.read_text())
        types = {"type"} if "topology.EVENTS" in path.read_text() else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in {"event", "event_of", "announce"}:
                    announced |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
            elif isinstance(node, ast.keyword) and node.arg in types and isinstance(node.value, ast.Constant):
                announced.add(str(node.value.value))
            elif isinstance(node, ast.Assign) and types and ast.unparse(node.targets[0]) == "event_type":
                announced |= set(re.findall(r"'([a-z]+\.[a-z]+)'", ast.unparse(node.value)))
    assert set(notes.EVENTS) == announced


def test_every_command_and_report_is_described(generate: ModuleType) -> None:
    """What the agent's dispatchers take and what the manager's ear hears."""
    assert {command.message_type for command in generate.COMMANDS} == set(COMMANDS) | set(SERVICE_COMMANDS)
    text = (DOCS / "contract.md").read_text()
    for report in generate.REPORTS:
        assert f"#### `{report.message_type}`" in text


# ---- links and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(generate: ModuleType, path: Path) -> None:
    """Each relative link and image is a file of the project; each fragment a heading in it."""
    text = prose(path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = unquote(target).partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{name_of(path)}: {target}"
        if fragment:
            anchors = [generate.anchor(heading.replace("`", "")) for heading in headings(linked.read_text())]
            assert fragment in anchors, f"{name_of(path)}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_headings_of_a_document_have_different_anchors(generate: ModuleType, path: Path) -> None:
    """Else a link would lead to the first of them."""
    if path.name == "CHANGELOG.md":
        return
    anchors = [generate.anchor(heading.replace("`", "")) for heading in headings(path.read_text())]
    assert sorted(anchors) == sorted(set(anchors))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_files_exist(path: Path) -> None:
    """A path of the project in backticks is there."""
    tops = "|".join((*CODE, "docs"))
    for named in re.findall(rf"`((?:{tops})/[\w./-]+)`", path.read_text()):
        assert (ROOT / named).exists(), f"{name_of(path)}: {named}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_make_targets_and_queues_exist(path: Path) -> None:
    """`make x` is a target, `viaduct.x` an exchange, a queue or an entry-point group."""
    text = path.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    known = {*topology.EXCHANGE_TYPES, *topology.SERVICE_QUEUES, "viaduct.agent"}
    known |= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"].keys()
    named = {name.rstrip(".") for name in re.findall(r"`(viaduct\.[a-z0-9_.-]+)", text)}
    assert named <= known


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_examples_in_json_are_json(path: Path) -> None:
    """Each block that calls itself JSON parses."""
    for block in blocks(path, "json"):
        json.loads(block)


def test_requests_in_network_services_are_requests() -> None:
    """Each block is a type and a body that its model takes."""
    examples = [json.loads(block) for block in blocks(DOCS / "network-services.md", "json")]
    assert examples
    for example in examples:
        REQUESTS[example["type"]].model_validate_json(json.dumps(example["body"]))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_examples_in_python_compile(path: Path) -> None:
    """Each block that calls itself Python is."""
    for block in blocks(path, "python"):
        compile(block, name_of(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_readmes_sample_is_the_one_that_can_be_run() -> None:
    """It stands whole in docs/examples/attach.py."""
    [sample] = blocks(ROOT / "README.md", "python")
    assert textwrap.indent(sample, "    ") in (DOCS / "examples" / "attach.py").read_text()


def test_settings_in_operations_are_settings(notes: ModuleType) -> None:
    """Each VIADUCT_... of the documents is a setting of a service, or of the local stack."""
    local_stack = set()
    for file in (ROOT / "deploy" / "local_stack").glob("*.py"):
        local_stack |= set(re.findall(r"VIADUCT_[A-Z_]+", file.read_text()))
    known = {f"VIADUCT_{name.upper()}" for name in notes.SETTINGS} | local_stack
    for path in DOCUMENTS:
        assert set(re.findall(r"VIADUCT_[A-Z_]+", path.read_text())) <= known, name_of(path)


def test_the_agents_file_in_operations_is_read_by_the_agent(tmp_path: Path) -> None:
    """The example of agent.toml."""
    [block] = blocks(DOCS / "operations.md", "toml")
    (tmp_path / "agent.toml").write_text(block)
    assert load_settings(tmp_path / "agent.toml").interface_map == {"data": "ens1f0"}


# ---- the example plugin --------------------------------------------------------------------------------------------

FIND_ALL_ENDS = """
from viaduct_agent.backends.api import GROUP, Registry
from viaduct_agent.links.host import HostLinks
from viaduct_agent.testing import FakeKernel
from viaduct_common.plugins import load_plugins

backend = Registry(load_plugins(GROUP), HostLinks(FakeKernel())).get("L2MacvtapNetwork")
import sys
print(backend.name, [name for name in sys.modules if name.startswith("viaduct_manager")])

from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.vm_hooks.registry import VmHooks
print(L2Types.from_entry_points().get("L2MacvtapNetwork").backends, VmHooks.from_entry_points().names)
"""


def test_example_plugin_is_found(installed_plugin: Path) -> None:
    """Installed beside Viaduct, its type and hook are known to a manager and its backend to an agent."""
    program = f"import sys; sys.path.insert(0, {str(installed_plugin)!r})\n{FIND_ALL_ENDS}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    hooks = ["account-networks", "macvtap-room", "public-addresses", "security-groups"]
    assert done.stdout == f"macvtap []\n('macvtap',) {hooks}\n", done.stderr
