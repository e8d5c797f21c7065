"""Our tables in the kernel: read when somebody else changed something, changed in one transaction."""

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.programs import run
from viaduct_agent.services.security import conntrack
from viaduct_agent.services.security.compiling import BRIDGE, INET
from viaduct_agent.services.security.listing import parse_listing
from viaduct_agent.services.security.ruleset import TABLE, Ruleset, plan
from viaduct_common.errors import BackendFailed


class Tables:
    """nftables counts its transactions. While the number is that of our last one, the tables are as we left them."""

    def __init__(self, netlink: Netlink, netns: str | None) -> None:
        self._netlink = netlink
        self._netns = netns
        self._have = Ruleset()
        self._generation: int | None = None

    @property
    def seen(self) -> Ruleset:
        """What was there when it was looked at last, or as we left it since."""
        return self._have

    async def look(self) -> Ruleset:
        """What is there now."""
        generation = await self._count()
        while generation != self._generation:
            self._have = parse_listing(
                {family: text for family in (BRIDGE, INET) if (text := await self._list(family))}
            )
            self._generation, generation = generation, await self._count()
        return self._have

    async def change(self, want: Ruleset) -> tuple[str, ...]:
        """Make it so; the lines of the transaction, none if there was nothing to do. Read first by `look`.

        Raises:
            BackendFailed: refused, also after another look.
        """
        lines = plan(want, await self.look())
        try:
            await self._commit(lines, want)
        except BackendFailed:
            # Somebody else was quicker, between the look and the transaction.
            self._generation = None
            lines = plan(want, await self.look())
            await self._commit(lines, want)
        return lines

    async def _commit(self, lines: tuple[str, ...], want: Ruleset) -> None:
        if not lines:
            return
        before, self._generation = self._generation, None
        await run(["nft", "-f", "-"], netns=self._netns, stdin="\n".join(lines) + "\n")
        after = await self._count()
        if before is not None and after == (before + 1) & 0xFFFFFFFF:
            self._have, self._generation = want, after

    async def _count(self) -> int:
        try:
            return await self._netlink.run(conntrack.ruleset_generation)
        except OSError as exc:
            raise BackendFailed(f"nf_tables does not answer: {exc}", errno=exc.errno) from exc

    async def _list(self, family: str) -> str:
        """Empty, if there is no such table."""
        ran = await run(["nft", "-j", "list", "table", family, TABLE], netns=self._netns, ok=None)
        if ran.code and "No such file or directory" not in ran.stderr:
            raise BackendFailed(f"nft: {ran.stderr.strip()}", step=f"nft -j list table {family} {TABLE}")
        return "" if ran.code else ran.stdout
