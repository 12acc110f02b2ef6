"""Weights and exports from the hub of Hugging Face, kept in its own cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError
from medseg.weights.exported import CHECKPOINTS, SELECTION, SETTINGS
from medseg.weights.metadata import SIDECARS
from medseg.weights.resolve import INDEX, NAMES, listed

PREFIX = "hf-hub:"


@dataclass(frozen=True)
class _Repository:
    """A repository of the hub.

    Attributes:
        name: As the user writes it, for messages.
        path: ``owner/name``.
        revision: None for the newest.
    """

    name: str
    path: str
    revision: str | None


def fetch(name: str) -> Path:
    """Download weights, or find them in the cache.

    Args:
        name: ``hf-hub:owner/name``, with ``@revision`` after the name and ``/file`` after both, if wanted.

    Returns:
        The file, with those next to it that describe its images.

    Raises:
        InputError: Another form; no network; no such repository or file, or one that needs a licence.
    """
    repository, file = _parsed(name)
    files = (file,) if file else NAMES
    found = next((path for path in (_download(repository, f) for f in files) if path), None)
    if found is None:
        expected = file or ", ".join(NAMES[:3])
        raise InputError(f"model.encoder.weights={name}: that repository has no {expected}; name its file after it")
    for part in listed(found) if found.name.endswith(INDEX) else ():
        _download(repository, part)
    for part in SIDECARS:
        if not _offline_without(repository, part):
            _download(repository, part)
    return found


def _offline_without(repository: _Repository, file: str) -> bool:
    """Whether the hub is switched off, and a file is not in the cache, perhaps as there is none."""
    import huggingface_hub
    from huggingface_hub import constants

    cached = huggingface_hub.try_to_load_from_cache(repository.path, file, revision=repository.revision)
    return constants.HF_HUB_OFFLINE and cached is None


def snapshot(name: str) -> Path:
    """Download the checkpoints and descriptions of an export, or find them in the cache.

    Args:
        name: ``hf-hub:owner/name``, with ``@revision`` after it, if wanted.

    Returns:
        A folder of the cache.

    Raises:
        InputError: Another form; no network; no such repository, one that needs a licence, or one of something else.
    """
    import huggingface_hub

    repository, file = _parsed(name)
    if file:
        raise InputError(f"model.encoder.weights={name}: expected hf-hub:owner/name or hf-hub:owner/name@revision")
    with _in_one_line(repository):
        patterns = [SETTINGS, SELECTION, CHECKPOINTS]
        path = huggingface_hub.snapshot_download(repository.path, revision=repository.revision, allow_patterns=patterns)
    if not (Path(path) / SETTINGS).is_file():
        raise InputError(
            f"model.encoder.weights={name}: that repository has no {SETTINGS}; expected one that medseg-export "
            "hub=OWNER/NAME wrote"
        )
    return Path(path)


def _parsed(name: str) -> tuple[_Repository, str]:
    """Repository and file; no file if none is named."""
    owner, _, rest = name.removeprefix(PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise InputError(f"model.encoder.weights={name}: expected hf-hub:owner/name or hf-hub:owner/name/file")
    return _Repository(name, f"{owner}/{repository}", revision or None), file


def _download(repository: _Repository, file: str) -> Path | None:
    """One file of a repository; None if it has no such file."""
    import huggingface_hub
    from huggingface_hub import errors

    with _in_one_line(repository):
        try:
            _reach(repository, file)
            return Path(huggingface_hub.hf_hub_download(repository.path, file, revision=repository.revision))
        except errors.LocalEntryNotFoundError:
            raise
        except errors.EntryNotFoundError:
            return None


@contextmanager
def _in_one_line(repository: _Repository) -> Iterator[None]:
    """Around what asks the hub; its errors as one line.

    Raises:
        InputError: What went wrong, and how to fix it.
    """
    from huggingface_hub import errors

    name, path = repository.name, repository.path
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise _out_of_reach(repository) from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"model.encoder.weights={name}: {path} asks you to accept its terms first; do so on its page and log "
            "in with 'hf auth login', or give a file by model.encoder.weights=FILE"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"model.encoder.weights={name}: no such repository or revision ({type(error).__name__}); check the name, "
            "or give a file by model.encoder.weights=FILE"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model.encoder.weights={name}: {path} can't be reached ({type(error).__name__}); fetch the file "
            "where there is a network, and give it by model.encoder.weights=FILE"
        ) from error


def _reach(repository: _Repository, file: str) -> None:
    """Ask once for a file that is not in the cache; the download itself would try a dead line for half a minute.

    Raises:
        InputError: The hub can't be reached.
        huggingface_hub.errors.HfHubHTTPError: It answers, and has not got the file, or does not give it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    path, revision = repository.path, repository.revision
    if huggingface_hub.try_to_load_from_cache(path, file, revision=revision) is not None:
        return  # there, or known to be missing
    url = huggingface_hub.hf_hub_url(path, file, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except Exception as error:  # the errors of the client's own client, which is another in each version
        raise _out_of_reach(repository) from error


def _out_of_reach(repository: _Repository) -> InputError:
    from huggingface_hub import constants

    cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{repository.path} can't be reached"
    return InputError(
        f"model.encoder.weights={repository.name}: not in the cache, and {cause}; "
        "fetch the file where there is a network, and give it by model.encoder.weights=FILE"
    )
