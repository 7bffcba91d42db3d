"""A run's adapter on the hub, with its model card: what goes up, and nothing else."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mopref._checked_files import file_digest, regular_file
from mopref._warning import warn
from mopref._write_ahead import finish_pending
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.adapter_description import CONFIG_FILE
from mopref.conditioning.adapter_folder import TENSOR_FILE, is_there
from mopref.conditioning.tensor_files import described_tensors
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.model_card import CARD, CARD_PICTURE, write_model_card
from mopref.recipes.run_facts import hub_id
from mopref.recipes.run_files import read_run_files
from mopref.recipes.run_folder import ADAPTER

__all__ = ["Upload", "check_repository", "push_to_hub", "tell_local_base", "upload"]

# What may be uploaded of the adapter's folder; whatever else lies there stays.
_FILES = (CONFIG_FILE, TENSOR_FILE, CARD, CARD_PICTURE)


class Upload(NamedTuple):
    """What was uploaded.

    Attributes:
        url: where it is.
        files: the names of the files that went up.
    """

    url: str
    files: list[str]


@checks_arguments
def push_to_hub(
    run_folder: str | Path,
    repo_id: str,
    private: bool = True,
    token: str | None = None,
    revision: str | None = None,
) -> Upload:
    """Upload a run's adapter with its model card: two files of the adapter, the card and its picture.

    Data, answers, log and checkpoints stay where they are. A card that is missing is written; one that was not edited
    since is written anew, with code that fetches this adapter.

    Args:
        run_folder: the folder of a run whose training is finished.
        repo_id: ``OWNER/NAME``, or a name alone for an owner's own; it is made where it is missing.
        private: whether only its owner may see it, where it is made; one that is there stays as it is.
        token: the hub's token, by default the one of ``hf auth login``.
        revision: the branch that it goes to, made where it is missing; by default the main one.

    Raises:
        RunFolderError: the folder holds no run, no finished one, or a damaged file.
        ValueError: a name that no repository has; both before anything is asked of the hub. Or the hub refuses.
    """
    check_repository(repo_id)
    folder = Path(run_folder) / ADAPTER
    files = read_run_files(run_folder)
    if files.adapter is None or not is_there(folder, TENSOR_FILE):
        raise RunFolderError(
            f"the run in {run_folder} is not finished: it has no adapter to upload; go on with it "
            "by `mopref train RECIPE --resume`."
        )
    # What is uploaded are the files at their places.
    finish_pending(folder)
    _check_files(folder, files.adapter.get("tensors_sha256"))
    tell_local_base(files.adapter.get("base_model"))
    write_model_card(run_folder, repo_id)
    names = [name for name in _FILES if (folder / name).is_file()]
    return upload(folder, names, repo_id, "Adapter and model card, by mopref", private, token, revision)


def check_repository(repo_id: str) -> None:
    """Refuse a name that no repository of the hub has.

    Raises:
        ValueError: such a name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"repo_id is {repo_id!r}, which no repository of the hub is called ({str(error).rstrip('.')}): give "
            "OWNER/NAME."
        ) from error


def upload(
    folder: Path,
    names: Sequence[str],
    repo_id: str,
    message: str,
    private: bool = True,
    token: str | None = None,
    revision: str | None = None,
) -> Upload:
    """Upload files of a folder, by their names in it, and nothing else; as :func:`push_to_hub` makes the repository.

    Raises:
        ValueError: the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(token=token)
    try:
        # The hub says the owner of a name that is given without one.
        repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[glob.escape(name) for name in names],
            commit_message=message,
            revision=revision,
        )
    except Exception as error:
        if not isinstance(error, HfHubHTTPError | LocalTokenNotFoundError | OSError) and not _is_of_network(error):
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"the hub does not take {repo_id} ({reason}): log in with `hf auth login`, and give a name of your own."
        ) from error
    return Upload(str(commit.commit_url), list(names))


def _is_of_network(error: Exception) -> bool:
    """Whether it comes from the HTTP library under the hub's, which is another one from version to version."""
    return type(error).__module__.startswith(("httpx", "requests"))


def _check_files(folder: Path, digest: str | None) -> None:
    """Refuse files from elsewhere, and tensors that nobody could load or that are not those that were written."""
    try:
        paths = {name: regular_file(folder, name) for name in _FILES}
        path = paths[TENSOR_FILE]
        if path is None:
            return
        described_tensors(path)
    except ValueError as error:
        raise RunFolderError(f"{str(error).rstrip('.')}: the run's folder is damaged.") from error
    if digest is not None and file_digest(path) != digest:
        raise RunFolderError(f"{path} is not as it was written (SHA-256): the run's folder is damaged.")


def tell_local_base(base: object) -> None:
    """Warn where the adapter names a folder of this machine as its base model."""
    if isinstance(base, str) and hub_id(base) is None:
        warn(
            f"the base model is the folder {base}, whose path goes up in {CONFIG_FILE}: others load the base "
            "themselves, as the card says.",
        )
