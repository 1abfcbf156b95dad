"""What an operator sees on the terminal: status, top, log, and completion in a real shell."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.builders import ct
from tests.server import Server, free_port
from tests.wire.clients import stow
from tests.wire.receivers import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    with Server(folder, {"SERVER_WORKERS": "2", "LOG_FILE": str(folder / "pacs.log")}) as server:
        assert stow(server, [ct(), ct()]).status_code == 200
        yield server


def test_status_tells_of_a_running_and_of_a_stopped_archive(tmp_path):
    server = Server(tmp_path)
    away = free_port()
    server.add_peer("AWAY", away)
    with server:
        assert stow(server, [ct()]).status_code == 200
        running = json.loads(server.pacs("status", "--json").stdout)
        assert running["server"] == {"url": server.http_url, "isRunning": True, "isReady": True, "problems": []}
        assert running["totals"]["instances"] == 1
        assert running["disk"]["freeBytes"] > 0
        assert [peer["name"] for peer in running["peers"]] == ["AWAY"]
        assert running["problems"] == []
        shown = server.pacs("status")
        assert shown.returncode == 0
        assert f"{server.http_url}  ready" in shown.stdout
        assert "1 patient, 1 study, 1 series, 1 instance" in shown.stdout
    stopped = server.pacs("status")
    assert stopped.returncode == 0
    assert f"{server.http_url}  not running" in stopped.stdout
    asked = server.pacs("status", "--echo")
    assert asked.returncode == 1
    assert "AWAY does not answer" in asked.stdout


def test_status_says_when_the_disk_is_full(tmp_path):
    server = Server(tmp_path, {"MIN_FREE_BYTES": "900TiB"})
    with server:
        found = server.pacs("status", "--json")
    assert found.returncode == 1
    assert any("disk is full" in problem for problem in json.loads(found.stdout)["problems"])
    assert json.loads(found.stdout)["server"]["isReady"] is False


def test_status_of_what_cannot_be_opened_ends_with_3(tmp_path):
    server = Server(tmp_path)
    (tmp_path / "data").write_text("a file")
    assert server.pacs("status").returncode == 3


def test_top_shows_the_rates_of_an_interval(server):
    stop = threading.Event()

    def ask():
        with requests.Session() as session:
            while not stop.wait(0.02):
                session.get(f"{server.dicomweb_url}/studies?limit=1", timeout=20)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        eventually(lambda: b"QIDO-RS" in requests.get(f"{server.http_url}/metrics", timeout=20).content, "a request")
        look = json.loads(server.pacs("top", "--once", "--json", "--interval", "1").stdout)
        page = server.pacs("top", "--once", "--interval", "0.5")
    finally:
        stop.set()
        asking.join()
    (qido,) = [one for one in look["services"] if one["service"] == "QIDO-RS"]
    assert qido["requestsPerSecond"] > 1
    assert 0 < qido["medianMs"] <= qido["p95Ms"]
    assert look["stored"]["instances"] == 2
    assert look["isUp"]
    assert page.returncode == 0
    assert "QIDO-RS" in page.stdout
    assert "2 instances" in page.stdout


def test_top_says_what_to_do_where_nobody_answers(server):
    found = server.pacs("top", "--once", "--url", f"http://127.0.0.1:{free_port()}")
    assert found.returncode == 3
    assert "pacs serve" in found.stderr
    assert server.pacs("top", "--interval", "0").returncode == 2


def test_log_shows_what_one_request_did(server):
    answer = stow(server, [ct()])
    request_id = answer.headers["X-Request-ID"]
    found = server.pacs("log", "--id", request_id, "-n", "0")
    assert found.returncode == 0
    lines = found.stdout.splitlines()
    assert len(lines) >= 2
    assert all(line.endswith(f"id={request_id}") for line in lines)
    as_json = [json.loads(line) for line in server.pacs("log", "--id", request_id, "--json").stdout.splitlines()]
    assert {line["id"] for line in as_json} == {request_id}
    assert server.pacs("log", "--text", "NOBODY SAYS THIS").stdout == ""
    assert "stored sop=" in server.pacs("log", "--text", "STORED SOP", "-n", "1").stdout
    assert server.pacs("log", "--level", "error").stdout == ""


def test_log_without_a_log_file_shows_what_is_kept_for_the_web_page(tmp_path):
    with Server(tmp_path, {"SERVER_WORKERS": "2"}) as server:
        request_id = stow(server, [ct()]).headers["X-Request-ID"]
        lines = server.pacs("log", "--id", request_id, "-n", "0").stdout.splitlines()
        assert len(lines) >= 2
        assert all(line.endswith(f"id={request_id}") for line in lines)
        as_json = [json.loads(line) for line in server.pacs("log", "--id", request_id, "--json").stdout.splitlines()]
        assert [line["message"] in text for line, text in zip(as_json, lines, strict=True)] == [True] * len(lines)
        assert server.pacs("log", "--text", "NOBODY SAYS THIS").stdout == ""
        assert len(server.pacs("log", "-n", "3").stdout.splitlines()) == 3
        with subprocess.Popen(
            [sys.executable, "-m", "pacs", "log", "-f", "-n", "1", "--text", "stored sop="],
            env={**server.env, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            try:
                assert request_id in following.stdout.readline()
                later = stow(server, [ct()]).headers["X-Request-ID"]
                assert later in following.stdout.readline()
            finally:
                following.terminate()


def test_log_follows_also_over_a_rotation(server, tmp_path):
    path = tmp_path / "own.log"
    line = "2026-01-31T12:00:00.123Z {} pacs.test said number={}\n"
    path.write_text(line.format("INFO", 0))
    following = subprocess.Popen(
        [sys.executable, "-m", "pacs", "log", "-f", "--level", "warning", "--file", str(path)],
        env={**server.env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with path.open("a") as log:
            log.write(line.format("WARNING", 1))
        assert following.stdout.readline().endswith("number=1\n")
        with path.open("a") as log:
            log.write(line.format("INFO", 2) + line.format("ERROR", 3) + "Traceback of 3\n" + line.format("INFO", 4))
        assert following.stdout.readline().endswith("number=3\n")
        assert following.stdout.readline() == "Traceback of 3\n"
        path.rename(tmp_path / "own.log.1")
        path.write_text(line.format("ERROR", 5))
        assert following.stdout.readline().endswith("number=5\n")
    finally:
        following.terminate()
        following.wait(10)
        following.stdout.close()


def test_log_without_a_log_file_says_which_setting_is_missing(tmp_path):
    server = Server(tmp_path, {"LOG_KEPT_BYTES": "0"})
    found = server.pacs("log")
    assert found.returncode == 2
    assert "LOG_FILE" in found.stderr


def test_bash_completes_commands_options_and_their_values(server, tmp_path):
    command = tmp_path / "bin" / "pacs"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pacs "$@"\n')
    command.chmod(0o755)
    env = {**server.env, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    script = """
        source <(pacs completion bash)
        COMP_LINE="$WORDS"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
        read -ra COMP_WORDS <<< "$COMP_LINE"; COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
        function=$(complete -p pacs | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function pacs "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    for words, offered in (
        ("pacs sta", {"status"}),
        ("pacs log --lev", {"--level"}),
        ("pacs completion z", {"zsh"}),
        ("pacs jobs --state d", {"dead"}),
    ):
        found = subprocess.run(
            ["bash", "--norc", "-c", script],
            env={**env, "WORDS": words},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert set(found.stdout.split()) == offered, (words, found.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_all_shells_can_be_read_by_them(server, shell, tmp_path):
    script = server.pacs("completion", shell)
    assert script.returncode == 0
    assert "pacs" in script.stdout
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script.stdout)
        subprocess.run([shell, "-n", str(path)], check=True, timeout=20)


def test_following_ends_quietly_when_it_is_interrupted(server):
    following = subprocess.Popen(
        [sys.executable, "-m", "pacs", "log", "-f"],
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has it ignored, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    following.stdout.readline()
    time.sleep(0.2)
    following.send_signal(2)
    _, said = following.communicate(timeout=20)
    assert following.returncode == 130
    assert "Traceback" not in said
