"""The backend that docs/plugins.md shows does what the document says of backends."""

import re
from uuid import uuid4

import pytest

from local_stack.run_dir import CHECKOUT
from viaduct_agent.services.api import ServiceBackend, ServiceOnHost
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import InvalidRequest


async def test_the_example_is_a_backend(tools: ServiceTools) -> None:
    """Applied, compared, mended, found by another agent, removed; nothing is done twice."""
    text = (CHECKOUT / "docs" / "plugins.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class MotdBackend" in block]
    names: dict[str, type[ServiceBackend]] = {}
    exec(code, names)
    backend = ServiceRegistry([names["MotdBackend"]], tools).of("motd")
    want = ServiceOnHost(uuid4(), "motd", 3, {"text": "hello"})

    assert await backend.unavailable() is None
    assert await backend.found() == {}
    assert not (await backend.check(want)).present
    assert len(await backend.apply(want)) == 1
    assert await backend.apply(want) == ()
    (tools.state_dir / "motd" / str(want.uuid)).write_text("3\nother")
    checked = await backend.check(want)
    assert (checked.present, len(checked.differences)) == (True, 1)
    assert len(await backend.apply(want)) == 1
    assert await ServiceRegistry([names["MotdBackend"]], tools).of("motd").found() == {want.uuid: 3}
    with pytest.raises(InvalidRequest):
        await backend.apply(ServiceOnHost(want.uuid, "motd", 4, {}))
    assert len(await backend.remove(want.uuid)) == 1
    assert await backend.remove(want.uuid) == ()
    await backend.aclose()
