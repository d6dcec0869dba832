"""Downloads."""

from pathlib import Path

import overtile
import pytest
from overtile import Client
from overtile.downloads import place

from tests.unit.sdk.scripted_server import JOB_ID, JOB_PATH, PIXELS, Reply, Server, artifact, script_download


def test_artifacts_are_fetched_under_their_names(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server), artifact(server, "manifest.json", b"{}", "manifest"))
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    server.answer("GET", "/store/manifest", Reply(body=b"{}"))
    paths = client.jobs.download(JOB_ID, tmp_path / "out", progress=False)
    assert paths == [tmp_path / "out/a.png/mask.tif", tmp_path / "out/manifest.json"]
    assert paths[0].read_bytes() == PIXELS
    assert server.requests("GET", "/store/mask")[0].headers["Authorization"] is None


def test_only_the_kinds_asked_for_are_fetched(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server), artifact(server, "manifest.json", b"{}", "manifest"))
    server.answer("GET", "/store/manifest", Reply(body=b"{}"))
    assert client.jobs.download(JOB_ID, tmp_path, kinds="manifest", progress=False) == [tmp_path / "manifest.json"]


def test_a_file_that_is_there_and_right_is_not_fetched_again(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server))
    (tmp_path / "a.png").mkdir()
    (tmp_path / "a.png/mask.tif").write_bytes(PIXELS)
    assert client.jobs.download(JOB_ID, tmp_path, progress=False) == [tmp_path / "a.png/mask.tif"]
    assert not server.requests("GET", "/store/mask")


def test_a_file_that_is_there_and_wrong_is_replaced(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server, "mask.tif"))
    (tmp_path / "mask.tif").write_bytes(PIXELS.upper())
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert (tmp_path / "mask.tif").read_bytes() == PIXELS


@pytest.mark.parametrize("sent", [PIXELS.upper(), PIXELS + b"more", PIXELS[:-1], b""])
def test_wrong_bytes_are_never_kept(server: Server, client: Client, tmp_path: Path, sent: bytes) -> None:
    script_download(server, artifact(server, "mask.tif"))
    server.answer("GET", "/store/mask", Reply(body=sent))
    with pytest.raises(overtile.ChecksumMismatch, match=r"mask\.tif"):
        client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests("GET", "/store/mask")) == 5


def test_a_download_that_breaks_off_is_started_again(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server, "mask.tif"))
    torn = Reply(body=PIXELS[:1000], announced=len(PIXELS))
    server.answer("GET", "/store/mask", torn, Reply(body=PIXELS.upper()), Reply(body=PIXELS))
    [path] = client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert path.read_bytes() == PIXELS
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.tif"]


def test_an_expired_artifact_url_is_renewed(server: Server, client: Client, tmp_path: Path) -> None:
    old, new = artifact(server, "mask.tif"), artifact(server, "mask.tif")
    new["url"] = f"{server.url}/store/fresh"
    first, second = (Reply(body={"items": [entry], "next_cursor": None}) for entry in (old, new))
    server.answer("GET", f"{JOB_PATH}/artifacts", first, second)
    server.answer("GET", "/store/mask", Reply(403))
    server.answer("GET", "/store/fresh", Reply(body=PIXELS))
    assert client.jobs.download(JOB_ID, tmp_path, progress=False) == [tmp_path / "mask.tif"]


@pytest.mark.parametrize(
    "name", ["../a", "/etc/a", "a/../../b", "a/../b", "..", "", ".", "a\\..\\b", "C:/a", "C:a", "a\nb", "a\0b"]
)
def test_a_name_that_leaves_the_folder_is_refused(server: Server, client: Client, tmp_path: Path, name: str) -> None:
    script_download(server, artifact(server, name))
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    with pytest.raises(overtile.UnsafeName):
        client.jobs.download(JOB_ID, tmp_path / "out", progress=False)
    assert list(tmp_path.rglob("*")) == []


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(overtile.UnsafeName, match="link"):
        place("link/a", tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    script_download(server, artifact(server))
    with pytest.raises(overtile.LocalFileError, match=r"cannot write .*out"):
        client.jobs.download(JOB_ID, tmp_path / "out", progress=False)
