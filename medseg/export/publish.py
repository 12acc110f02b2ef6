"""An export as a repository on the hub of Hugging Face, with a model card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import InputError

CARD = "README.md"
"""The file that the hub shows; begins with metadata."""
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")


def check_access(repository: str) -> None:
    """Check before anything is computed that the name has a form, and that somebody is logged in.

    Raises:
        InputError: Another form, no token, an invalid one, no network, or ``HF_HUB_OFFLINE``.
    """
    import huggingface_hub
    from huggingface_hub.utils import validate_repo_id

    with _in_one_line(repository):
        validate_repo_id(repository)
        huggingface_hub.HfApi().whoami()


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload every file of a folder; the repository is created if it does not exist.

    Args:
        folder: Of an export.
        repository: ``owner/name``.
        private: Whether a repository that is created is for its owner alone.

    Returns:
        The address of the repository.

    Raises:
        InputError: No permission, no network, or a card that the hub refuses.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    with _in_one_line(repository):
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of medseg")
    return str(url)


def metadata(settings: Mapping[str, Any], *, licence: str | None, datasets: Sequence[str], onnx: bool) -> str:
    """The metadata of a card, between lines of dashes.

    Args:
        settings: Content of ``predictor.json``.
        licence: As the user states it; one that is not written like an identifier of the hub goes under another key.
        datasets: Names of datasets of the hub.
        onnx: Whether there are ONNX files.

    Example:
        >>> print(metadata({"ndim": 2}, licence="CC-BY-4.0", datasets=[], onnx=True), end="")
        ---
        library_name: medseg
        pipeline_tag: image-segmentation
        license: cc-by-4.0
        tags:
        - medseg
        - segmentation
        - 2d
        - onnx
        ---
    """
    identifier = (licence or "unknown").lower()
    licences = {"license": identifier}
    if not _IDENTIFIER.fullmatch(identifier):
        licences = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", identifier).strip("-")}
    stored = {
        "library_name": "medseg",
        "pipeline_tag": "image-segmentation",
        **licences,
        "tags": ["medseg", "segmentation", f"{settings['ndim']}d", *(["onnx"] if onnx else [])],
        **({"datasets": list(datasets)} if datasets else {}),
    }
    return f"---\n{yaml.safe_dump(stored, sort_keys=False)}---\n"


@contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    """Around what asks the hub; its errors as one line.

    Raises:
        InputError: What went wrong, and how to fix it.
    """
    from huggingface_hub import errors

    start = f"hub={repository}"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise InputError(f"{start}: HF_HUB_OFFLINE is set, so that nothing is uploaded; unset it, or hub") from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{start}: not logged in; log in with 'hf auth login', or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        raise InputError(f"{start}: {_answer(error.response.status_code)}") from error
    except errors.HFValidationError as error:
        raise InputError(f"{start}: expected OWNER/NAME of letters, digits, '-', '_' and '.'") from error
    except ValueError as error:  # of metadata
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{start}: the hub refuses the card ({line}); change licence or hub_datasets") from error
    except Exception as error:  # the errors of the client's own client, which is another in each version
        raise InputError(f"{start}: the hub can't be reached ({type(error).__name__}); repeat it later") from error


def _answer(status: int) -> str:
    if status == 401:
        return "the token is not valid (any more); log in with 'hf auth login', or set HF_TOKEN"
    if status in (403, 404):
        return "you have no permission to write there; take a token that may write, or an owner that you belong to"
    return f"the hub refuses it (HTTP {status}); repeat it later"
