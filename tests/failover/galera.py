"""MariaDB servers that are one cluster, in which everybody writes to one of them, as behind a proxy that says which."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers import MariaDbServer, NoServerError, free_port

INSTALL_GALERA = "Galera's library was not found: install it (Debian: `apt install galera-4`)"
LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so", "/usr/lib/libgalera_smm.so")


class Node(MariaDbServer):
    """A node that begins with the data of another one, which is not running, and so needs nothing transferred."""

    def __init__(self, *, first: Node | None = None) -> None:
        library = next((path for path in LIBRARIES if Path(path).exists()), None)
        if library is None:
            raise NoServerError(INSTALL_GALERA)
        self.first = first
        self.cluster_port = free_port()
        # The second one weighs more: it goes on when the first one dies, without a third one to ask.
        options = {
            "gmcast.listen_addr": f"tcp://127.0.0.1:{self.cluster_port}",
            "base_host": "127.0.0.1",
            "base_port": str(self.cluster_port),
            "ist.recv_addr": f"127.0.0.1:{free_port()}",
            "pc.weight": "1" if first is None else "2",
            "gcache.size": "16M",
            "evs.inactive_check_period": "PT0.2S",
            "evs.keepalive_period": "PT0.3S",
            "evs.suspect_timeout": "PT1S",
            "evs.inactive_timeout": "PT3S",
        }
        super().__init__(
            settings={
                "binlog-format": "ROW",
                "innodb-autoinc-lock-mode": "2",
                "wsrep-provider": library,
                "wsrep-cluster-name": "perdure",
                "wsrep-node-address": "127.0.0.1",
                "wsrep-provider-options": ";".join(f"{name}={value}" for name, value in options.items()),
            }
        )

    def _make_data(self) -> None:
        if self.first is None:
            super()._make_data()
            return
        shutil.copytree(self.first._data, self._data)
        if self._as:
            for path in (Path(self._data), *Path(self._data).rglob("*")):
                os.chown(path, self._as["user"], self._as["group"])  # type: ignore[arg-type]

    def join(self, *others: Node) -> None:
        """Start as a node of the cluster; without others, as its first."""
        settings: Mapping[str, str] = {
            "wsrep-on": "ON",
            "wsrep-cluster-address": "gcomm://" + ",".join(f"127.0.0.1:{node.cluster_port}" for node in others),
        }
        self.settings = {**self.settings, **settings}
        self.start()


@contextmanager
def cluster() -> Iterator[tuple[Node, Node]]:
    """Two nodes; of which the second one outlives the first."""
    with Node() as first:
        first.stop()
        first.join()  # now its data are those of a cluster
        first.execute("select 1")
        first.stop()
        with Node(first=first) as second:
            second.stop()
            first.join()
            second.join(first)
            yield first, second
