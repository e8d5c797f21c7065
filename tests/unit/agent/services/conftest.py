"""Values that tests of services share."""

from pathlib import Path

import pytest
from unit.agent.services.memory import Host

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.tools import ServiceTools


@pytest.fixture
def tools(tmp_path: Path) -> ServiceTools:
    return ServiceTools(Netlink(), tmp_path)


@pytest.fixture
def host(tools: ServiceTools) -> Host:
    return Host(tools)
