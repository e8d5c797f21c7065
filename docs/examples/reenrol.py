"""Give every host its queue and its broker user again, after a broker was rebuilt from nothing.

    python docs/examples/reenrol.py

Run it where a manager runs, with the manager's settings in the environment. Passwords are derived from the enrolment
secret, so the agents log in with those they have. Repeating it changes nothing.
"""

import asyncio

from yarl import URL

from viaduct_common.bus import Bus
from viaduct_common.client import ViaductClient
from viaduct_manager.enrolment import Enrolment
from viaduct_manager.settings import ManagerSettings


async def main() -> None:
    settings = ManagerSettings()
    secret = bytes.fromhex(settings.enrolment_secret_file.read_text().strip())
    vhost = URL(settings.amqp_url).path.removeprefix("/") or "/"
    async with (
        Bus(settings.amqp_url, name="reenrol", declares=True) as bus,
        Enrolment(settings.broker_api_url, vhost, secret, bus, settings.host_queue_type) as enrolment,
        ViaductClient(settings.amqp_url, name="reenrol") as net,
    ):
        after = None
        while True:
            page = await net.host.query(after=after, limit=1000)
            for host in page.items:
                await enrolment.enrol(host.uuid)
                print(f"{host.name}: {host.uuid}")
            after = page.after
            if after is None:
                return


if __name__ == "__main__":
    asyncio.run(main())
