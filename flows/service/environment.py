"""The environment of the processes that `arraycal up` starts."""

import os
from collections.abc import Mapping

__all__ = ["service_environment"]

#: Of the user's own Prefect: another server, which is not meant here.
FOREIGN = ("PREFECT_API_", "PREFECT_PROFILE", "PREFECT_SERVER_API_", "PREFECT_CLOUD_")

ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"
#: Unless they are set already.
DEFAULTS = {
    # Kept in memory, the slot of a run that is under way when the server dies is lost.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": ON_DISK,
    # Runs of the last 90 days; results and their history are not in this database.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # The shortest there is: how soon a run that has died is noticed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


def service_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Environment of this process without the user's own Prefect, with some changes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # Meant for a terminal; a log file should say more.
    kept.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)
    return DEFAULTS | kept | dict(changes)
