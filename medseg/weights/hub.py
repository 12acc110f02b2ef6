"""Weights from the hub of Hugging Face, kept in its own cache."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import InputError
from medseg.weights.metadata import SIDECARS
from medseg.weights.resolve import INDEX, NAMES, listed

PREFIX = "hf-hub:"


def fetch(name: str) -> Path:
    """Download weights, or find them in the cache.

    Args:
        name: ``hf-hub:owner/name``, with ``@revision`` after the name and ``/file`` after both, if wanted.

    Returns:
        The file, with those that tell of its images beside it.

    Raises:
        InputError: Another form; no network; no such repository or file, or one that needs a licence.
    """
    owner, _, rest = name.removeprefix(PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise InputError(f"model.encoder.weights={name}: expected hf-hub:owner/name or hf-hub:owner/name/file")
    files = (file,) if file else NAMES
    found = next((p for p in (_download(name, f"{owner}/{repository}", f, revision) for f in files) if p), None)
    if found is None:
        told = file or ", ".join(NAMES[:3])
        raise InputError(f"model.encoder.weights={name}: that repository has no {told}; name its file after it")
    if found.name.endswith(INDEX):
        for part in listed(found):
            _download(name, f"{owner}/{repository}", part, revision)
    for sidecar in SIDECARS:
        _download(name, f"{owner}/{repository}", sidecar, revision)
    return found


def _download(name: str, repository: str, file: str, revision: str) -> Path | None:
    """One file of a repository; None if it has no such file."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        _reach(name, repository, file, revision)
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision or None))
    except errors.LocalEntryNotFoundError as error:
        raise _out_of_reach(name, repository) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise InputError(
            f"model.encoder.weights={name}: {repository} asks you to accept its terms first; do so on its page and log "
            "in with 'hf auth login', or give a file by model.encoder.weights=FILE"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"model.encoder.weights={name}: no such repository or revision ({type(error).__name__}); check the name, "
            "or give a file by model.encoder.weights=FILE"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model.encoder.weights={name}: {repository} can't be reached ({type(error).__name__}); fetch the file "
            "where there is a network, and give it by model.encoder.weights=FILE"
        ) from error


def _reach(name: str, repository: str, file: str, revision: str) -> None:
    """Ask once for a file that is not in the cache; the download itself would try a dead line for half a minute.

    Raises:
        InputError: The hub can't be reached.
        huggingface_hub.errors.HfHubHTTPError: It answers, and has not got the file, or does not give it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    if huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None) is not None:
        return  # there, or known to be missing
    url = huggingface_hub.hf_hub_url(repository, file, revision=revision or None)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except Exception as error:  # the errors of the client's own client, which is another in each version
        raise _out_of_reach(name, repository) from error


def _out_of_reach(name: str, repository: str) -> InputError:
    return InputError(
        f"model.encoder.weights={name}: not in the cache, and {repository} can't be reached; fetch the file where "
        "there is a network, and give it by model.encoder.weights=FILE"
    )
