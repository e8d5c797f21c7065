"""A host says that it can serve only what its kernel can."""

import sys
from pathlib import Path
from uuid import uuid4

import pytest
from lab import Lab

from viaduct_agent.services.flat import FlatBackend
from viaduct_agent.services.router import VirtualRouterBackend
from viaduct_agent.services.tools import ServiceTools

pytestmark = pytest.mark.lab
ASK = """
import asyncio
from viaduct_agent.services import nft, translation
print(asyncio.run(nft.refusal(translation.table(translation.Rules(inside=())), None)))
"""


async def test_a_kernel_that_translates_addresses_can_have_routers(tools: ServiceTools) -> None:
    """Asking leaves no table behind."""
    assert [await kind(tools).unavailable() for kind in (VirtualRouterBackend, FlatBackend)] == [None, None]


@pytest.mark.slow
def test_a_kernel_without_nftables_for_ip_says_so(tmp_path: Path) -> None:
    """Debian's for User-Mode Linux has the bridge family alone."""
    with Lab(f"p{uuid4().hex[:6]}", tmp_path / "lab") as lab:
        (host,) = lab.start_hosts(["a"], kind="uml")
        said = host.run([sys.executable, "-c", ASK]).stdout
        assert "Operation not supported" in said
