"""nginx before the nodes: HTTP, and DIMSE as a stream of bytes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.local_cluster.process import Process, StartFailed

_TEMPLATE = Path(__file__).resolve().parent.parent.parent / "config" / "nginx.conf"
_START_S = 10.0


@dataclass(frozen=True)
class Nginx:
    """stream_module: to be loaded for DIMSE; None when it is built in."""

    binary: Path
    stream_module: Path | None


def find_nginx() -> Nginx | str:
    """An nginx that can do both, or why there is none."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or shutil.which("nginx")
    if found is None:
        return "nginx is not installed (Debian: nginx-light libnginx-mod-stream)"
    binary = Path(found).resolve()
    options = subprocess.run([binary, "-V"], capture_output=True, text=True, check=False).stderr.split()
    if "--with-stream" in options:
        return Nginx(binary, None)
    places = [
        Path("/usr/lib/nginx/modules"),
        Path("/usr/lib64/nginx/modules"),
        binary.parent.parent / "lib/nginx/modules",
    ]
    for place in places:
        if (module := place / "ngx_stream_module.so").exists():
            return Nginx(binary, module)
    return "this nginx has no stream module, which DIMSE needs (Debian: libnginx-mod-stream)"


def configuration(
    nginx: Nginx, folder: Path, http_port: int, dimse_port: int, http: Sequence[int], dimse: Sequence[int]
) -> str:
    """config/nginx.conf, which Docker uses as it is, for nodes on ports of this machine."""
    lines = []
    for line in _TEMPLATE.read_text().splitlines():
        match line.split():
            case ["server", "pacs1:8081;"]:
                lines += [f"        server 127.0.0.1:{port};" for port in http]
            case ["server", "pacs1:11112;"]:
                lines += [f"        server 127.0.0.1:{port};" for port in dimse]
            case ["server", "pacs2:8081;" | "pacs2:11112;"]:
                pass
            case ["listen", "8081;"]:
                lines.append(f"        listen 127.0.0.1:{http_port};")
            case ["listen", "11112;"]:
                lines.append(f"        listen 127.0.0.1:{dimse_port};")
            case ["error_log", *_]:
                lines.append("error_log stderr warn;")
            case _:
                lines.append(line)
    head = [f"load_module {nginx.stream_module};"] if nginx.stream_module else []
    head += ["daemon off;", f"pid {folder}/nginx.pid;"]
    text = "\n".join([*head, *lines]) + "\n"
    # What nginx would else put in folders of the system.
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return text.replace("http {\n", "http {\n" + temporary, 1)


def start(nginx: Nginx, folder: Path, text: str, port: int) -> Process:
    """Returns when it listens. Raises StartFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    path.write_text(text)
    process = Process([nginx.binary, "-p", folder, "-e", "stderr", "-c", path], folder / "nginx.log")
    deadline = time.monotonic() + _START_S
    while True:
        with socket.socket() as probe:
            if process.is_running and probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        if not process.is_running or time.monotonic() > deadline:
            process.kill()
            raise StartFailed("nginx", process)
        time.sleep(0.05)
