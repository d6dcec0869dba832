"""The local servers, and above all their ends: every fault here is made for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import redis
import sqlalchemy
from botocore.config import Config
from tritonclient import grpc

from deploy.local import ServerDidNotStart, ServerNotInstalled, Stack, StackInUse, erase, lock, ports, proctree
from tests.processes import eventually

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("valkey", "s3", "postgres")

# A program that holds a stack, as `make up` does, until something ends it.
HOLDER = """
import signal, sys, threading
from pathlib import Path
from deploy.local import Stack
signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal, also if our parent ignores it
with Stack(Path(sys.argv[1]), durable=False, servers=sys.argv[2].split(",")) as stack:
    print(stack.environment().get("OVERTILE_TRITON_URL"), flush=True)
    threading.Event().wait()
"""

ADD_ONE = b"""
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("OUT", self.answer(request))]) for request in requests]

    def answer(self, request):
        return triton.get_input_tensor_by_name(request, "IN").as_numpy() + 1
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    erase(tmp_path / "data")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests that leave it running and in order."""
    data = tmp_path_factory.mktemp("stack") / "data"
    with Stack(data, durable=False) as stack:
        yield stack
    erase(data)


def execute(stack: Stack, *statements: str) -> Any:
    """Run the statements in one transaction; the rows of the last."""
    engine = sqlalchemy.create_engine(stack.environment()["OVERTILE_DATABASE_URL"], poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sqlalchemy.text(statement))
        return result.all() if result.returns_rows else None


def broker(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.environment()["OVERTILE_BROKER_URL"])


def store(stack: Stack) -> Any:
    found = stack.environment()
    return boto3.client(
        "s3",
        endpoint_url=found["OVERTILE_S3_ENDPOINT"],
        aws_access_key_id=found["OVERTILE_S3_KEY"],
        aws_secret_access_key=found["OVERTILE_S3_SECRET"],
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def load_add_one(url: str) -> None:
    tensor = {"data_type": "TYPE_UINT8", "dims": [-1]}
    config = {"backend": "python", "input": [{"name": "IN", **tensor}], "output": [{"name": "OUT", **tensor}]}
    with grpc.InferenceServerClient(url) as client:
        client.load_model("add_one", config=json.dumps(config), files={"file:1/model.py": ADD_ONE})


def hold(data: Path, *servers: str) -> tuple[subprocess.Popen[str], str]:
    """Start a program that holds a stack; returns when the stack is up, with the address of Triton."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data), ",".join(servers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that a signal to its group is what Ctrl-C in its terminal would be
    )
    assert holder.stdout is not None
    address = holder.stdout.readline().strip()
    assert address, "the holder ended before its stack was up"
    return holder, address


# --- each server works ---


def test_the_database_answers(stack):
    assert execute(stack, "SELECT 6 * 7") == [(42,)]


def test_the_broker_answers(stack):
    assert broker(stack).ping()


def test_an_object_comes_back_as_it_was_stored(stack):
    store(stack).put_object(Bucket="overtile", Key="a/b", Body=b"pixels")
    assert store(stack).get_object(Bucket="overtile", Key="a/b")["Body"].read() == b"pixels"


def test_the_model_server_loads_a_model_sent_to_it_and_computes(stack):
    url = stack.environment()["OVERTILE_TRITON_URL"]
    load_add_one(url)
    pixels = grpc.InferInput("IN", [3], "UINT8")
    pixels.set_data_from_numpy(np.array([1, 2, 3], np.uint8))
    with grpc.InferenceServerClient(url) as client:
        answer = client.infer("add_one", [pixels]).as_numpy("OUT")
    assert answer.tolist() == [2, 3, 4]  # an empty answer would mean numpy 2 in Triton's environment


def test_an_object_is_on_the_disk_when_its_put_has_answered(stack):
    store(stack).put_object(Bucket="overtile", Key="at/once", Body=b"x" * 3_000_000)
    assert (stack.data / "s3" / "objects" / "overtile" / "at" / "once").stat().st_size == 3_000_000


def test_wrong_passwords_are_refused(stack):
    found = stack.environment()
    database = sqlalchemy.make_url(found["OVERTILE_DATABASE_URL"]).set(password="wrong")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password"):
        sqlalchemy.create_engine(database).connect()
    queue = redis.Redis.from_url("redis://:wrong@" + found["OVERTILE_BROKER_URL"].split("@")[1])
    with pytest.raises(redis.AuthenticationError):
        queue.ping()
    with pytest.raises(Exception, match="403"):
        boto3.client(
            "s3",
            endpoint_url=found["OVERTILE_S3_ENDPOINT"],
            aws_access_key_id=found["OVERTILE_S3_KEY"],
            aws_secret_access_key="wrong",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        ).head_bucket(Bucket="overtile")


def test_secrets_are_private_and_on_no_command_line(stack):
    store = stack.data / "secrets.json"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    secrets = json.loads(store.read_text())
    for name in ("postgres", "valkey", "s3_secret"):
        assert not proctree.anyone_names(secrets[name])


def test_a_second_stack_on_the_same_directory_is_refused_and_told_who_holds_it(stack):
    with pytest.raises(StackInUse, match=rf"process {os.getpid()} "):
        Stack(stack.data).start()
    assert broker(stack).ping()


def test_the_holder_of_a_directory_can_be_found(stack, tmp_path):
    assert lock.find_holder(stack.data / "lock") == os.getpid()
    assert lock.find_holder(tmp_path / "lock") is None


def test_a_directory_in_use_is_not_erased(stack):
    with pytest.raises(StackInUse):
        erase(stack.data)
    assert execute(stack, "SELECT 1") == [(1,)]


# --- data outlives servers ---


def test_rows_and_objects_survive_a_stop_and_a_start_on_the_same_directory(data):
    with Stack(data, servers=LIGHT) as stack:
        before = stack.environment()
        execute(stack, "CREATE TABLE cells (area int)", "INSERT INTO cells VALUES (42)")
        store(stack).put_object(Bucket="overtile", Key="slide", Body=b"pixels")
    with Stack(data, servers=LIGHT) as stack:
        assert stack.environment() == before
        assert execute(stack, "SELECT area FROM cells") == [(42,)]
        assert store(stack).get_object(Bucket="overtile", Key="slide")["Body"].read() == b"pixels"


@pytest.mark.parametrize("name", ["triton", "valkey", "s3", "postgres"])
def test_a_killed_server_comes_back_on_its_address(stack, name):
    process, before = stack.process(name), stack.environment()
    process.kill()
    assert not process.running
    process.restart()
    assert stack.environment() == before


def test_what_was_answered_before_a_kill_is_there_after_it(stack):
    execute(stack, "CREATE TABLE killed (id int)", "INSERT INTO killed VALUES (1)")
    store(stack).put_object(Bucket="overtile", Key="killed", Body=b"x" * 3_000_000)
    for name in ("postgres", "s3"):
        stack.process(name).kill()
        stack.process(name).restart()
    assert execute(stack, "SELECT id FROM killed") == [(1,)]
    assert store(stack).head_object(Bucket="overtile", Key="killed")["ContentLength"] == 3_000_000


def test_a_port_that_was_taken_meanwhile_is_replaced(data):
    with Stack(data, servers=["valkey"]) as stack:
        old = broker(stack).connection_pool.connection_kwargs["port"]
    with socket.create_server(("127.0.0.1", old)), Stack(data, servers=["valkey"]) as stack:
        assert broker(stack).ping()
        assert broker(stack).connection_pool.connection_kwargs["port"] != old


# --- a server that does not start ---


def test_a_broken_server_is_named_with_its_log_and_the_others_are_stopped(data):
    with Stack(data, durable=False, servers=LIGHT):
        pass
    (data / "postgres" / "cluster" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerDidNotStart) as caught:
        Stack(data, servers=LIGHT).start()
    assert caught.value.name == "postgres"
    assert str(data / "logs" / "postgres.log") in str(caught.value)
    assert "incompatible with server" in str(caught.value)
    assert not proctree.anyone_names(str(data))


def test_a_database_whose_making_was_cut_short_is_made_anew(data):
    with Stack(data, durable=False, servers=["postgres"]):
        pass
    (data / "postgres" / "cluster").rename(data / "postgres" / "cluster.new")
    (data / "postgres" / "cluster.new" / "global" / "pg_control").unlink()
    with Stack(data, durable=False, servers=["postgres"]) as stack:
        assert execute(stack, "SELECT 1") == [(1,)]


def test_a_missing_model_server_is_explained(data, monkeypatch):
    monkeypatch.setenv("OVERTILE_TRITON_VENV", "/nowhere")
    with pytest.raises(ServerNotInstalled, match="make setup"):
        Stack(data, servers=["triton"]).start()


# --- nothing is left behind ---


def test_models_that_a_crashed_triton_left_unpacked_are_swept_and_newer_ones_are_not(stack):
    left, fresh = (Path(f"/tmp/folder{name}{os.getpid() % 1000:03}") for name in ("old", "new"))
    try:
        for folder in (left, fresh):
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").touch()
            (folder / "1" / "model.py").touch()
        os.utime(left, (0, 0))
        stack.process("triton").restart()
        assert not left.exists()
        assert fresh.exists()
    finally:
        for folder in (left, fresh):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_the_death_of_the_holder_leaves_no_process(data, sent):
    holder, address = hold(data, "triton", *LIGHT)
    load_add_one(address)  # a model is a process of its own, a grandchild
    servers = proctree.family(holder.pid)
    assert len(servers) > 5
    os.killpg(holder.pid, sent)
    assert holder.wait(20) == -sent
    assert eventually(lambda: not any(proctree.alive(server) for server in servers))
    assert not proctree.anyone_names(str(data))


def test_a_stack_starts_on_the_directory_of_a_holder_killed_a_moment_ago(data):
    holder, address = hold(data, "triton", *LIGHT)
    load_add_one(address)  # which makes Triton take seconds to end
    servers = proctree.family(holder.pid)
    holder.kill()
    holder.wait()
    with Stack(data, durable=False) as stack:
        assert not any(proctree.alive(server) for server in servers)
        assert execute(stack, "SELECT 1") == [(1,)]


def test_a_holder_killed_while_its_stack_comes_up_leaves_no_process(data):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(data), "triton,valkey,s3,postgres"], cwd=ROOT)
    assert eventually(lambda: len(proctree.family(holder.pid)) >= 3)
    servers = proctree.family(holder.pid)
    holder.kill()
    holder.wait()
    assert eventually(lambda: not any(proctree.alive(server) for server in servers))
    assert eventually(lambda: not proctree.anyone_names(str(data)))


def test_a_port_in_use_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not ports.is_free(listener.getsockname()[1])
