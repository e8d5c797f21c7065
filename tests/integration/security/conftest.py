"""The agents' security is tested on the manager's own fleets."""

from integration.manager.conftest import fleet

__all__ = ["fleet"]
