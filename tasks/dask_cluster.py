"""The stage of blocks on a Dask cluster, whose workers come and go.

A run ends whatever the cluster does: a block that loses its worker goes to another one, a cluster
without any worker is waited for a while, and a scheduler that is gone is an error of the machine.
Rows stay in the cache folder, which driver and workers must share: that is looked at first.
"""

from __future__ import annotations

import logging
import shutil
import socket
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arraycal.config.settings import Settings

__all__ = ["Cluster", "dask_cluster"]

log = logging.getLogger("arraycal.tasks")

#: Time to reach the scheduler, at first and after the connection was lost, s.
CONNECT_S = 20.0
#: A cluster may be without any worker for so long: batch systems take their time to start one, s.
WITHOUT_WORKERS_S = 120.0
#: How often a block that is waited for is asked after, s.
POLL_S = 1.0
#: Kinds of addresses that a plain connection can try.
CONNECTABLE = ("tcp", "tls")


@contextmanager
def dask_cluster(
    settings: Settings, workers: int, tell: Callable[[str], None]
) -> Iterator[Cluster]:
    """Connect to the scheduler of the settings, or start a cluster on this machine.

    Parameters
    ----------
    settings : Settings
        Its ``dask_address`` and ``cache_root`` are used.
    workers : int
        Number of workers to start, where no scheduler is named.
    tell : callable
        Hears of workers that are lost.

    Yields
    ------
    Cluster
        Its workers have been seen to share the cache folder.

    Raises
    ------
    ConfigurationError
        If Dask is not installed, the address is none, or the workers do not share the cache.
    ConnectionError
        If there is no scheduler, or no worker.
    """
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise ConfigurationError(
            "ARRAYCAL_RUNNER is dask, but dask is not installed here; "
            "install arraycal[dask], or use threads or processes"
        ) from None
    where: dict[str, Any] = {"host": "127.0.0.1", "n_workers": workers, "threads_per_worker": 1}
    where["dashboard_address"] = "127.0.0.1:0"  # any free port: several runs may start one
    if settings.dask_address:
        _try_address(settings.dask_address)
        where = {"address": settings.dask_address, "timeout": CONNECT_S}
    with _quiet(), client_of(**where) as client:
        cluster = Cluster(client, settings.dask_address or "this machine", tell)
        with _hearing(cluster):
            _check_cache(cluster, settings.cache_root.absolute())
            yield cluster


@dataclass
class Cluster:
    """A connection to a scheduler.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    name : str
        What messages call it.
    tell : callable
        Hears of workers that are lost.
    """

    client: Any
    name: str
    tell: Callable[[str], None]
    _lost: deque[str] = field(default_factory=deque)

    @property
    def n_threads(self) -> int:
        """Blocks that the workers can read at a time, at least 1."""
        return max(int(sum(self.client.nthreads().values())), 1)

    def hear(self, event: tuple[float, Any]) -> None:
        """Note from what the scheduler says that a worker died."""
        _, what = event
        if isinstance(what, dict) and what.get("action") == "remove-worker":
            n_blocks = len(what["processing-tasks"])
            if not what.get("expected") and n_blocks:
                # Told by those who wait, in whose context the log of a flow is.
                self._lost.append(
                    f"the Dask worker {what['worker']} died; its blocks go to others "
                    f"({n_blocks} under way or next)"
                )

    def call(self, work: Callable[[Any], Any], item: Any) -> Any:  # noqa: ANN401
        """Do work on an item, a block or the rows of one, on a worker.

        Raises
        ------
        ConnectionError
            If the scheduler is gone, there is no worker for too long, or every worker dies of
            something else than a block.
        ConfigurationError
            If the rows are in a folder that is not here.
        """
        killed = import_module("distributed").KilledWorker
        try:
            found = self.run(work, item)
        except killed as error:
            reason = (
                f"{item}: every Dask worker that read it died, the last one "
                f"{error.last_worker.address}; out of memory? See the logs of the workers."
            )
            if not isinstance(item, Path):
                raise ConnectionError(reason) from None
            return BlockPairs(item, "failed", reason=reason)
        entry = found.entry if isinstance(found, BlockPairs) else None
        if entry is not None and not entry.folder.exists():
            raise ConfigurationError(_not_shared(entry.folder, [f"a worker of {self.name}"]))
        return found

    def run(self, function: Callable[..., Any], *arguments: Any, **how: Any) -> Any:  # noqa: ANN401
        """Return what a function returns on a worker, however long that takes."""
        future = self.client.submit(function, *arguments, pure=False, **how)
        alone_since = None
        try:
            while not self._is_done(future):
                alone_since = None if self._has_workers() else alone_since or monotonic()
                if alone_since and monotonic() - alone_since > WITHOUT_WORKERS_S:
                    raise ConnectionError(
                        f"the Dask cluster of {self.name} has had no worker for "
                        f"{WITHOUT_WORKERS_S:g} s. Start workers there and run again."
                    )
            return future.result()
        except CancelledError:
            raise self._gone() from None
        finally:
            self._tell_losses()
            if self.client.status == "running" and not future.done():
                future.cancel()

    def _has_workers(self) -> bool:
        if self.client.status == "closed":  # after the time for another connection
            raise self._gone()
        try:
            return bool(self.client.scheduler_info(n_workers=-1).get("workers"))
        except OSError:
            raise self._gone() from None

    def _is_done(self, future: Any) -> bool:  # noqa: ANN401
        """Wait a little; not by the result, whose own error may be a time that has run out."""
        self._tell_losses()
        try:
            import_module("distributed").wait(future, timeout=POLL_S)
        except TimeoutError:
            return False
        return True

    def _gone(self) -> ConnectionError:
        return ConnectionError(
            f"the Dask scheduler at {self.name} is gone. Start it and its workers and run again; "
            "blocks that are done are in the cache."
        )

    def _tell_losses(self) -> None:
        with suppress(IndexError):  # all told, maybe by another thread
            while True:
                text = self._lost.popleft()
                log.warning("%s", text)
                self.tell(text)


@contextmanager
def _hearing(cluster: Cluster) -> Iterator[None]:
    """Let the cluster hear of its workers.

    A scheduler that goes on telling who has left writes a traceback into its log.
    """
    cluster.client.subscribe_topic("all", cluster.hear)
    try:
        yield
    finally:
        with suppress(import_module("distributed.client").ClosedClientError):
            cluster.client.unsubscribe_topic("all")


def _try_address(address: str) -> None:
    """Refuse an address that is none, and one where nobody answers: Dask says it with tracebacks.

    Raises
    ------
    ConfigurationError
        If it is no address.
    ConnectionError
        If nobody answers.
    """
    addressing = import_module("distributed.comm.addressing")
    kind = addressing.parse_address(address)[0]
    try:
        import_module("distributed.comm.registry").get_backend(kind)
        host, port = addressing.get_address_host_port(address, strict=True)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"ARRAYCAL_DASK_ADDRESS is {address!r}: {error}; expected the address that the "
            "scheduler shows when it starts, such as tcp://host:8786"
        ) from None
    if kind in CONNECTABLE:
        try:
            socket.create_connection((host, port), timeout=CONNECT_S).close()
        except OSError as error:
            raise ConnectionError(
                f"no Dask scheduler answers at {address} (ARRAYCAL_DASK_ADDRESS): "
                f"{error.strerror or error}. Start it, or correct the address."
            ) from None


def _check_cache(cluster: Cluster, root: Path) -> None:
    """Let every worker read what is written here, and the other way round.

    Raises
    ------
    ConfigurationError
        If they have not the same folder, or not the same arraycal.
    """
    folder = root / f"dask-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        (folder / "driver").touch()
        cluster.run(_meet, folder, "first")  # a cluster that grows with the work gets a worker
        apart = [
            f"worker {address}"
            for address in cluster.client.nthreads()
            if not cluster.run(_meet, folder, name := uuid4().hex, workers=[address])
            or not (folder / name).exists()
        ]
    except ImportError as error:
        raise ConfigurationError(
            f"the Dask workers of {cluster.name} cannot run arraycal: {error}. Install the same "
            "version there."
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if apart:
        raise ConfigurationError(_not_shared(root, apart))


def _meet(folder: Path, name: str) -> bool:
    """Whether a worker sees what the driver wrote; it leaves a file of its own."""
    if not (folder / "driver").exists():
        return False
    try:
        (folder / name).touch()
    except OSError:
        return False
    return True


def _not_shared(folder: Path, apart: list[str]) -> str:
    return (
        f"the cache folder {folder} is not shared with {', '.join(apart)}, or cannot be written "
        "there: rows made on one machine would be missing on the other. Let ARRAYCAL_CACHE_ROOT "
        "name a folder that the driver and all workers have under this name."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that the client itself writes about a lost connection: we say it."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
