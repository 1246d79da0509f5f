"""A real nginx on loopback, with its own configuration and directories."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """\
daemon off;
{main}
pid {home}/pid;
error_log {home}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


@contextmanager
def nginx(home: Path, server: str, main: str = "") -> Iterator[str]:
    """Run nginx and yield its URL; `server` is the content of its server block, without `listen`.

    `main` are directives beside its blocks.
    """
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = home / "nginx.conf"
    config.write_text(_CONFIG.format(home=home, port=port, server=server, main=main))
    process = subprocess.Popen(["nginx", "-p", str(home), "-c", str(config)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (home / "error.log").read_text()
                assert time.monotonic() < deadline, "nginx did not start in time"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()
