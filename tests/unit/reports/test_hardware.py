"""Which machine and which code made a model."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from services.trainer.reports import hardware
from services.trainer.reports.hardware import code_version, describe_hardware

VERSION = version("overtile-platform")


def run_git(folder: Path, *command: str) -> str:
    known = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *known, *command], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    run_git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1\n")
    run_git(tmp_path, "add", ".")
    run_git(tmp_path, "commit", "--message", "first")
    return tmp_path


def test_the_description_is_of_this_machine_and_fits_into_a_card():
    description = describe_hardware()
    assert description["cpu"]
    assert 1 <= description["cores"] <= len(os.sched_getaffinity(0))
    assert 0 < description["memory_gb"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9 + 0.1
    assert len(description["gpus"]) == torch.cuda.device_count()
    assert description["torch"] == torch.__version__
    assert json.loads(json.dumps(description)) == description


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_containers_share_of_time_limits_its_cores(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert hardware._count_cores(tmp_path) == cores


def test_a_containers_limit_is_its_memory(tmp_path):
    whole = hardware._measure_memory(tmp_path / "none")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert hardware._measure_memory(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware._measure_memory(tmp_path) == whole > 1_000_000


def test_a_processor_without_a_name_is_called_by_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert hardware._read_cpu_name(tmp_path / "cpuinfo") == "aarch64"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000 @ 3: GHz\n")
    assert hardware._read_cpu_name(tmp_path / "cpuinfo") == "Fast 9000 @ 3: GHz"


def test_the_version_begins_with_that_of_the_package():
    assert code_version().split("+")[0] == VERSION


def test_a_checkout_is_named_by_its_commit_and_told_if_it_was_edited(checkout):
    commit = run_git(checkout, "rev-parse", "--short=12", "HEAD")
    assert hardware._find_version(checkout) == f"{VERSION}+g{commit}"
    (checkout / "code.py").write_text("2\n")
    assert hardware._find_version(checkout) == f"{VERSION}+g{commit}.changed"


def test_a_folder_inside_somebody_elses_checkout_is_none(checkout):
    (checkout / "site-packages").mkdir()
    assert hardware._find_version(checkout / "site-packages") == VERSION


def test_without_git_or_with_a_broken_checkout_the_version_is_the_packages(checkout, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert hardware._find_version(checkout) == VERSION
    (checkout / ".git" / "HEAD").unlink()
    assert hardware._find_version(checkout) == VERSION
