"""Where a model's folder is: on this disk, in the package, or on the Hugging Face hub. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import CheckpointError, InputError

ASSETS = Path(__file__).parent / "assets"
DEFAULT_MODEL = ASSETS / "default"
PACKAGED = {"default": DEFAULT_MODEL, "default-vision": ASSETS / "default-vision"}  # names no hub id can have
HUB_TIMEOUT_S = 10.0
# Never *.py: this library runs nothing that comes with a checkpoint. Weights by the names that are read, so that
# neither adapters nor optimizer states come along.
TEXT_FILES = ["*.json", "*.model", "*.jinja"]
SAFETENSORS_FILES = ["model*.safetensors"]
BIN_FILES = ["pytorch_model*.bin"]


def resolve_folder(
    model: str | os.PathLike[str] | None = None, revision: str | None = None, *, weights: bool = True
) -> Path:
    """The folder that holds the checkpoint `model`: itself if it is one, otherwise a download from the hub.

    Args:
        model: a folder, or a hub id such as "THUDM/glm-4-9b-chat"; None or "default" for the default model in the
            package, "default-vision" for its twin that can see.
        revision: branch, tag or commit on the hub; None for its default.
        weights: whether the weights are needed too, or only configuration and tokenizer.

    Raises:
        CheckpointError: neither a folder nor an id, or the hub has no such thing or cannot be reached.
        InputError: a revision was given together with a folder, or an empty name.
    """
    if not isinstance(model, (str, os.PathLike, type(None))):
        raise InputError(f"model is {model!r}; pass a folder or a hub id, or None for the default model")
    name = os.fsdecode(DEFAULT_MODEL if model is None else model)
    if not name.strip():
        raise InputError(f"model is {name!r}; pass a folder or a hub id, or None for the default model")
    # os.path, as pathlib raises for a name that is too long, or in an unknown user's home.
    folder = Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        if revision is not None:
            raise InputError(f"revision={revision!r} only means something for a hub id, and {folder} is a folder")
        return folder
    if name in PACKAGED:
        return PACKAGED[name]
    if os.path.exists(folder):
        raise CheckpointError(f"{name} is a file; pass the folder that holds config.json and the weights")
    if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") != 1:
        raise CheckpointError(
            f"there is no folder {name}, and it is not a hub id of the form owner/name (THUDM/glm-4-9b-chat) either; "
            "check the spelling"
        )
    return _download(name, revision, weights)


def _download(repo: str, revision: str | None, weights: bool) -> Path:
    # Imported here: it is slow to import, and a local folder must work where it is broken or offline.
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        # Not list_repo_files, which tries for half a minute before it believes that there is no connection.
        siblings = model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).siblings or []
    except HFValidationError as error:
        raise CheckpointError(f"{repo!r} is neither a folder nor a valid hub id: {error}") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{repo} has no revision {revision!r} on the hub; pass a branch, a tag or a commit that it has"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder {repo} here, and no model of that name that you may read on the hub; "
            "check the spelling, or log in with `hf auth login` if it is private"
        ) from error
    except Exception as error:  # whatever the HTTP client of the day raises when it cannot reach the hub
        return _cached(repo, revision, weights, error)
    names = {file.rfilename for file in siblings}
    has_safetensors = bool(names & {"model.safetensors", "model.safetensors.index.json"})
    patterns = TEXT_FILES + (SAFETENSORS_FILES if has_safetensors else BIN_FILES) * weights
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the connection broke half-way; what arrived is kept and resumed
        raise CheckpointError(f"downloading {repo} broke off ({error}); run it again to go on from there") from error


def _cached(repo: str, revision: str | None, weights: bool, cause: Exception) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for weight_files in (SAFETENSORS_FILES, BIN_FILES) if weights else ([],):
        try:
            patterns = TEXT_FILES + weight_files
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
        has_weights = any(any(folder.glob(pattern)) for pattern in weight_files)
        if (folder / "config.json").is_file() and (has_weights or not weights):
            return folder
    offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub cannot be reached ({cause})"
    raise CheckpointError(
        f"cannot get {repo}: {offline}, and it is not in the local cache. Where there is a connection, run "
        f"`hf download {repo} --local-dir FOLDER`, copy the folder here and pass its path; to use a mirror, "
        "set HF_ENDPOINT"
    ) from cause
