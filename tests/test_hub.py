"""Hub ids, against a small hub of our own on this machine: what is asked for, downloaded, cached and said."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from random_models import random_checkpoint

import glm4
from glm4.hub import resolve_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys, glm4
llm = glm4.load_model("owner/tiny", revision=sys.argv[1] if len(sys.argv) > 1 else None)
print(llm.generate([1, 2, 3], max_tokens=4, temperature=0).token_ids)
"""


class Hub(ThreadingHTTPServer):
    """Serves one repository, `owner/tiny`, in the hub's protocol, and keeps what it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        files = sorted(self.server.folder.iterdir())
        if path in (f"/api/models/owner/tiny/revision/{r}" for r in ("main", "v1", COMMIT)):
            siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in files]
            self.send({"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": siblings}, body)
        elif path == "/api/models/owner/tiny":
            siblings = [{"rfilename": file.name} for file in files]
            self.send({"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": siblings}, body)
        elif path.startswith("/api/models/owner/tiny/tree/") and path.split("/")[6] in ("main", "v1", COMMIT):
            entries = [
                {
                    "type": "file",
                    "path": f.name,
                    "size": f.stat().st_size,
                    "oid": hashlib.sha1(f.name.encode()).hexdigest(),
                }
                for f in files
            ]
            self.send(entries, body)
        elif path.startswith("/owner/tiny/resolve/") and path.split("/")[4] in ("main", "v1", COMMIT):
            file = self.server.folder / path.split("/")[-1]
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)
        else:
            known = "/owner/tiny/" in path + "/"
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, value: object, body: bool) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's screen."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = random_checkpoint(tmp_path / "repository")
    (folder / "modeling_chatglm.py").write_text("raise SystemExit('this must not even be downloaded')\n")
    server = Hub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def load(hub_url: str, home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Load `owner/tiny` in a process with a cache of its own."""
    return subprocess.run(
        [sys.executable, "-c", LOAD, *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **env},
    )


def test_a_hub_id_downloads_once_and_then_works_offline(hub: Hub, tmp_path: Path) -> None:
    first = load(hub.url, tmp_path / "home")
    assert first.returncode == 0, first.stderr
    assert any(path.endswith("/model.safetensors") for path in hub.asked)
    assert not any(path.endswith(".py") for path in hub.asked)  # no code is fetched, let alone run
    for env in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        again = load(hub.url, tmp_path / "home", **env)
        assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr


def test_a_revision_is_passed_on(hub: Hub, tmp_path: Path) -> None:
    assert load(hub.url, tmp_path / "home", "v1").returncode == 0
    assert any("/v1" in path for path in hub.asked)
    missing = load(hub.url, tmp_path / "home", "v2")
    assert "owner/tiny has no revision 'v2' on the hub" in missing.stderr


def test_a_hub_without_the_model_is_named(hub: Hub, tmp_path: Path) -> None:
    script = LOAD.replace("owner/tiny", "owner/absent")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
    )
    assert "there is no folder owner/absent here, and no model of that name" in done.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_out_of_reach_says_what_to_do(env: dict[str, str], said: str, tmp_path: Path) -> None:
    done = load("http://127.0.0.1:9", tmp_path / "home", **env)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("glm4.errors.CheckpointError: cannot get owner/tiny: " + said)
    assert "hf download owner/tiny --local-dir FOLDER" in last


def test_the_packaged_models_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name in the current directory comes first, as any folder does."""
    for name in ("default", "default-vision"):
        assert resolve_folder(name) == Path(glm4.__file__).parent / "assets" / name
    assert resolve_folder(None) == resolve_folder("default")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    assert resolve_folder("default") == Path("default")
