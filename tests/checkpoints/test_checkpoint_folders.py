"""Which folder a model's name stands for, where no hub is asked: paths, the default model, the hub's cache."""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from random_models import load, random_checkpoint, random_model, reshard

import glm4
from glm4.errors import CheckpointError, InputError
from glm4.hub import DEFAULT_MODEL, resolve_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = Path(glm4.__file__).parent.parent


def test_a_folder_in_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, through `~`, as a string or a path; "owner/name" is a folder where there is one."""
    folder = random_checkpoint(tmp_path / "owner/name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in (folder, str(folder), "owner/name", "./owner/name", "~/owner/name", f"{folder}{os.sep}"):
        assert resolve_folder(spelling).resolve() == folder
        assert glm4.load_model(spelling).generate([1, 2], max_tokens=1).token_ids


def test_no_name_is_the_default_model() -> None:
    """The one in the package, never something downloaded."""
    assert resolve_folder(None) == DEFAULT_MODEL
    assert REPOSITORY in DEFAULT_MODEL.parents


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    """Passing the weights themselves is a natural mistake."""
    random_checkpoint(tmp_path)
    for name in ("model.safetensors", "config.json"):
        with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / name)) + ".* is a file; pass the folder"):
            glm4.load_model(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "/nonexistent/glm-4-9b", "./nowhere", "../nowhere/at/all", "~/no-such-folder-here", "a/b/c", "glm-4-9b",
        "~no-such-user-here/model", "x" * 5000, "owner/" + "x" * 5000, "a\0b/c", "owner/", "/", " / ", "owner/na me",
    ],
    ids=lambda name: repr(name)[:30],
)  # fmt: skip
def test_neither_a_folder_nor_a_hub_id(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent over the network for these, and the message repeats the name."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    if name == "/":
        with pytest.raises(CheckpointError, match=r"config\.json is missing"):
            glm4.load_model(name)
        return
    with pytest.raises(CheckpointError) as caught:
        glm4.load_model(name)
    assert name.strip("~")[:200] in str(caught.value) or repr(name)[1:50] in str(caught.value)


def test_a_revision_of_a_folder(tmp_path: Path) -> None:
    """A folder has no revisions: silently loading whatever lies there would be the wrong weights."""
    with pytest.raises(InputError, match=r"revision='v1.0' only means something for a hub id"):
        glm4.load_model(random_checkpoint(tmp_path), revision="v1.0")


def cached_model(home: Path, kind: str = "safetensors") -> Path:
    """Lay out a hub cache by hand: snapshots of links to blobs, and what `main` is."""
    repository = home / "hub/models--owner--tiny"
    snapshot = random_checkpoint(repository / f"snapshots/{COMMIT}", seed=3)
    if kind == "bin":
        reshard(snapshot, 1, "bin")
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = repository / f"blobs/{number}"
        file.rename(blob)
        file.symlink_to(Path("../..") / "blobs" / blob.name)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    return snapshot


def resolve_offline(home: Path, *revisions: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Print the folder of owner/tiny at each revision ("" for none), in a process with its own environment."""
    code = "import sys; from glm4.hub import resolve_folder\n"
    code += "for revision in sys.argv[1:]: print(resolve_folder('owner/tiny', revision or None))"
    return subprocess.run(
        [sys.executable, "-c", code, *revisions],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HOME": str(home), **env},
    )


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_the_hubs_cache_is_used_offline(kind: str, tmp_path: Path) -> None:
    """Links out of the folder into the cache's blobs are the hub's own doing, and followed."""
    snapshot = cached_model(tmp_path, kind)
    done = resolve_offline(tmp_path, "", "main", COMMIT, HF_HUB_OFFLINE="1")
    assert done.stdout.splitlines() == [str(snapshot)] * 3, done.stderr
    assert torch.equal(load(snapshot).norm.weight, random_model(3).norm.weight)


def test_the_hubs_cache_is_used_when_the_hub_is_down(tmp_path: Path) -> None:
    """After one attempt: huggingface_hub's listing of files tries five times, for half a minute."""
    snapshot = cached_model(tmp_path)
    attempts = []

    class HangsUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            attempts.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = resolve_offline(tmp_path, "", HF_ENDPOINT=f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert done.stdout.splitlines() == [str(snapshot)], done.stderr
    assert 1 <= len(attempts) <= 2


def test_a_revision_that_is_not_in_the_cache(tmp_path: Path) -> None:
    """The cached `main` must not stand in for it."""
    cached_model(tmp_path)
    done = resolve_offline(tmp_path, "v2", HF_HUB_OFFLINE="1")
    assert "CheckpointError: cannot get owner/tiny" in done.stderr.splitlines()[-1]


def test_a_cache_without_the_configuration(tmp_path: Path) -> None:
    """Another tool may have fetched one file of it only: that is not the model."""
    snapshot = cached_model(tmp_path)
    (snapshot / "config.json").unlink()
    done = resolve_offline(tmp_path, "", HF_HUB_OFFLINE="1")
    assert "CheckpointError: cannot get owner/tiny" in done.stderr.splitlines()[-1]
    assert "hf download owner/tiny --local-dir FOLDER" in done.stderr


@pytest.mark.parametrize("model", [5, b"/", ["owner/name"], True])
def test_what_cannot_be_a_name(model: object) -> None:
    """The value and what to pass."""
    with pytest.raises(InputError, match=r"model is .*; pass a folder or a hub id"):
        resolve_folder(model)  # type: ignore[arg-type]
