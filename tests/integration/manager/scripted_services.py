"""What a scripted agent does about service commands: it holds what it is told, and fails where a test says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from viaduct_common.digest import holdings_digest
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import HeldService
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    CheckServicesCommand,
    RemoveServicesCommand,
    ServiceCompletion,
    ServiceDesired,
    ServiceResult,
    SyncServicesCommand,
)

ServiceCommand = ApplyServicesCommand | RemoveServicesCommand | CheckServicesCommand | SyncServicesCommand
SERVICE_COMMANDS: dict[str, type[ServiceCommand]] = {
    kind.message_type: kind
    for kind in (ApplyServicesCommand, RemoveServicesCommand, CheckServicesCommand, SyncServicesCommand)
}
APPLY, REMOVE, CHECK_SERVICES, SYNC_SERVICES = "service.apply", "service.remove", "service.check", "service.sync"


@dataclass
class ScriptedServices:
    """`held` by instance as it was told last."""

    held: dict[UUID, ServiceDesired] = field(default_factory=dict)

    def holds(self) -> list[HeldService]:
        return [HeldService(service_uuid=uuid, generation=one.generation) for uuid, one in self.held.items()]

    def digest(self) -> str:
        return holdings_digest((uuid, one.generation) for uuid, one in self.held.items())

    def do(
        self, host_uuid: UUID, command_id: UUID, command: ServiceCommand, errors: Mapping[str, ViaductError]
    ) -> ServiceCompletion:
        removed: list[UUID] = []
        if isinstance(command, SyncServicesCommand):
            listed = {item.service_uuid for item in command.items} | set(command.listed)
            removed = sorted(set(self.held) - listed)
            for uuid in removed:
                del self.held[uuid]
        items = [self._item(command.message_type, item, errors) for item in command.items]
        return ServiceCompletion(
            host_uuid=host_uuid, command=command.message_type, command_id=command_id, items=items, removed=removed
        )

    def _item(self, command: str, item: ServiceDesired, errors: Mapping[str, ViaductError]) -> ServiceResult:
        same = {"service_uuid": item.service_uuid, "generation": item.generation}
        error = errors.get(APPLY if command == SYNC_SERVICES else command)
        former = self.held.get(item.service_uuid)
        if error is not None:
            return ServiceResult.model_validate({**same, "outcome": "failed", "error": error.to_body()})
        if command == CHECK_SERVICES:
            status = "missing" if former is None else "ok" if former.spec == item.spec else "drifted"
            steps = [] if status == "ok" else [f"apply {item.kind}"]
            return ServiceResult.model_validate({**same, "outcome": "done", "status": status, "steps": steps})
        if former is not None and former.generation > item.generation:
            return ServiceResult.model_validate({**same, "outcome": "superseded"})
        if command == REMOVE:
            self.held.pop(item.service_uuid, None)
        else:
            self.held[item.service_uuid] = item
        return ServiceResult.model_validate({**same, "outcome": "done", "changes": [f"{command} done"]})
