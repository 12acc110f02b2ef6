import json

import httpx
import pytest
from huggingface_hub import errors

from medseg.errors import InputError
from medseg.weights.hub import fetch


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one repository in a folder, which counts what is asked of it."""
    asked = []

    def download(repository, file, *, revision):
        asked.append((repository, file, revision))
        if not (tmp_path / file).exists():
            raise errors.EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: None)
    return tmp_path, asked


def raising(monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: None)


def http(kind):
    return kind("no", response=httpx.Response(404, request=httpx.Request("GET", "https://example.org")))


def test_the_safer_file_first(hub):
    folder, asked = hub
    (folder / "pytorch_model.bin").touch()
    assert fetch("hf-hub:owner/name").name == "pytorch_model.bin"
    (folder / "model.safetensors").touch()
    asked.clear()
    assert fetch("hf-hub:owner/name") == folder / "model.safetensors"
    assert asked[0] == ("owner/name", "model.safetensors", None)
    assert ("owner/name", "preprocessor_config.json", None) in asked, "tells how images were prepared"


def test_a_file_and_a_revision(hub):
    folder, asked = hub
    (folder / "sub").mkdir()
    (folder / "sub" / "vit.pth").touch()
    assert fetch("hf-hub:owner/name@v2/sub/vit.pth") == folder / "sub" / "vit.pth"
    assert asked[0] == ("owner/name", "sub/vit.pth", "v2")


def test_parts(hub):
    folder, asked = hub
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "1.st", "b": "2.st"}}))
    for part in ("1.st", "2.st"):
        (folder / part).touch()
    fetch("hf-hub:owner/name")
    assert {file for _, file, _ in asked} >= {"1.st", "2.st"}


def test_no_such_file(hub):
    with pytest.raises(InputError, match=r"has no vit.pth; name its file"):
        fetch("hf-hub:owner/name/vit.pth")
    with pytest.raises(InputError, match=r"has no model.safetensors, "):
        fetch("hf-hub:owner/name")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:name", "hf-hub:/name", "hf-hub:owner/"])
def test_other_forms(name):
    with pytest.raises(InputError, match="expected hf-hub:owner/name or"):
        fetch(name)


@pytest.mark.parametrize(
    "error, words",
    [
        (errors.LocalEntryNotFoundError("offline"), "can't be reached; fetch the file where there is a network"),
        (errors.OfflineModeIsEnabled("offline"), "can't be reached"),
        (http(errors.HfHubHTTPError), "can't be reached"),
        (http(errors.GatedRepoError), "accept its terms"),
        (http(errors.RepositoryNotFoundError), "no such repository or revision"),
        (http(errors.RevisionNotFoundError), "no such repository or revision"),
        (errors.HFValidationError("bad"), "no such repository or revision"),
    ],
)
def test_each_failure_is_a_line_that_names_the_way_out(monkeypatch, error, words):
    raising(monkeypatch, error)
    with pytest.raises(InputError, match=words) as caught:
        fetch("hf-hub:owner/name")
    assert "model.encoder.weights=FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_network_and_cache(monkeypatch, tmp_path):
    """The real client, offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"model.encoder.weights=FILE"):
        fetch("hf-hub:owner/name")


def test_a_dead_line_is_tried_once(monkeypatch, tmp_path):
    """The real client, and nobody at the other end; asked to download, it would try again for half a minute."""

    def wait(seconds):
        raise AssertionError(f"waits for {seconds} s")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", wait)
    with pytest.raises(InputError, match=r"not in the cache, and owner/name can't be reached; fetch .*weights=FILE"):
        fetch("hf-hub:owner/name")


def test_what_is_in_the_cache_needs_no_line(monkeypatch, tmp_path):
    """The real client again, offline."""
    snapshot = tmp_path / "models--owner--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    for file in ("vit.pth", "preprocessor_config.json", "config.json"):
        (snapshot / file).touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch("hf-hub:owner/name/vit.pth") == snapshot / "vit.pth"
