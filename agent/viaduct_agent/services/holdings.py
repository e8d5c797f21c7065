"""The service instances that this host holds."""

from viaduct_agent.holdings import HoldingsOf
from viaduct_agent.services.api import ServiceOnHost
from viaduct_common.messages.agent import HeldService


class ServiceHoldings(HoldingsOf[ServiceOnHost]):
    """As `Holdings` of L2 networks: fenced, and unproven after a restart until a sync."""

    def held(self) -> list[HeldService]:
        return [HeldService(service_uuid=uuid, generation=number) for uuid, number in self.generations().items()]
