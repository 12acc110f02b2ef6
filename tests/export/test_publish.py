"""Exports go to the hub of Hugging Face and come back; the hub is a server of this machine, the client the real one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import medseg
from medseg.errors import InputError
from medseg.export import contents, publish
from medseg.export.export import export
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.prediction import restore
from medseg.weights.pretrained import read
from tests import tiny_checkpoint
from tests.hub_server import Hub, served

NAME = "owner/tiny"
IMAGE = np.random.default_rng(0).normal(2, 1, (2, 21, 18)).astype(np.float32)
GRID = Grid.regular((21, 18), (1.0, 1.0), PIXEL)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with served(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.write(tmp_path_factory.mktemp("run") / "best.ckpt", tiny_checkpoint.contents())


@pytest.fixture(scope="module")
def exported(path: Path) -> Path:
    """An export that was not uploaded."""
    return export(compose("export", [f"checkpoint={path}", f"output={path.parent}/exported", "format=pt2"]))


@pytest.fixture
def repository(hub: Hub, exported: Path) -> Hub:
    hub.files[NAME] = {file.name: file.read_bytes() for file in exported.iterdir()}
    return hub


def run(path: Path, target: Path, *more: str) -> Path:
    return export(compose("export", [f"checkpoint={path}", f"output={target}", "format=pt2", f"hub={NAME}", *more]))


def test_an_export_goes_to_the_hub_and_comes_back(hub: Hub, path: Path, tmp_path: Path) -> None:
    target = run(path, tmp_path / "out.zip", "licence=CC-BY-4.0", "hub_datasets=[owner/images]")
    assert target.is_file()
    assert hub.created[NAME]["visibility"] == "private"
    assert sorted(hub.files[NAME]) == [
        "README.md", "model.ckpt", "model_card.md", "network.pt2", "parity.json", "predictor.json", "runner.py",
        "selection.yaml",
    ]  # fmt: skip
    _, head, text = hub.files[NAME]["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "medseg",
        "pipeline_tag": "image-segmentation",
        "license": "cc-by-4.0",
        "tags": ["medseg", "segmentation", "2d"],
        "datasets": ["owner/images"],
    }
    assert text == hub.files[NAME]["model_card.md"].decode()
    same(f"hf-hub:{NAME}", path)


def same(name: str, path: Path) -> None:
    own, ours = (medseg.load(one, device="cpu")(IMAGE, GRID) for one in (name, str(path)))
    assert len(np.unique(own)) > 1
    np.testing.assert_array_equal(own, ours)


def test_the_command_predicts_from_a_repository_without_the_rest_of_it(
    repository: Hub, path: Path, tmp_path: Path
) -> None:
    medseg.formats.write_image(tmp_path / "in.tif", IMAGE, GRID, names=["R", "G"])
    revision = repository.revision(NAME)
    medseg.predict(
        f"checkpoint=hf-hub:{NAME}@{revision}", f"input={tmp_path}/in.tif", f"output={tmp_path}/out", "device=cpu"
    )
    assert (tmp_path / "out/in.tif").is_file()
    fetched = {name.rpartition("/")[2] for name in repository.asked if "/resolve/" in name}
    assert fetched == {"model.ckpt", "predictor.json", "selection.yaml"}


def test_a_repository_is_a_start_for_a_training(repository: Hub, exported: Path) -> None:
    found = read(f"hf-hub:{NAME}/model.ckpt")
    assert found.state.keys() == read(exported / "model.ckpt").state.keys()


def test_what_is_in_the_cache_needs_no_network(
    repository: Hub, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    same(f"hf-hub:{NAME}", path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(repository.asked)
    same(f"hf-hub:{NAME}", path)
    assert len(repository.asked) == asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    line = f"^checkpoint=hf-hub:{NAME}: not in the cache, and HF_HUB_OFFLINE is set; .* give it by checkpoint=FILE$"
    with pytest.raises(InputError, match=line):
        restore.predictor(f"hf-hub:{NAME}")


# Bad input


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/other", r"no such repository or revision \(RepositoryNotFoundError\); check the name"),
        (f"{NAME}@v9", r"no such repository or revision \(RevisionNotFoundError\)"),
        (f"{NAME}/model.ckpt", "expected hf-hub:owner/name or hf-hub:owner/name@revision"),
        ("tiny", "expected hf-hub:owner/name"),
    ],
)
def test_repositories_that_are_not_there(name: str, message: str, repository: Hub) -> None:
    with pytest.raises(InputError, match=rf"^checkpoint=hf-hub:{name}: {message}") as caught:
        restore.predictor(f"hf-hub:{name}")
    assert "\n" not in str(caught.value)


def test_a_repository_of_something_else_is_one_line(repository: Hub) -> None:
    repository.files[NAME] = {"config.json": b"{}", "model.safetensors": b""}
    with pytest.raises(InputError, match=rf"hf-hub:{NAME}: that repository has no predictor.json; expected one that"):
        restore.predictor(f"hf-hub:{NAME}")
    repository.files[NAME] = {"predictor.json": b"{}"}
    with pytest.raises(InputError, match=rf"^checkpoint=hf-hub:{NAME}: an export without selection.yaml"):
        restore.predictor(f"hf-hub:{NAME}")


def test_pickled_code_of_a_repository_is_never_executed(repository: Hub) -> None:
    repository.files[NAME]["model.ckpt"] = b"cos\nsystem\n(S'touch /tmp/evil'\ntR."
    with pytest.raises(InputError, match=rf"checkpoint=hf-hub:{NAME}/model.ckpt: can't be read as tensors"):
        restore.predictor(f"hf-hub:{NAME}")


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be computed."""
    monkeypatch.setattr(contents, "read", lambda cfg: pytest.fail("read before the login was checked"))


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("a/b/c", "hf_token", "expected OWNER/NAME"),
        (NAME, None, "not logged in; log in with 'hf auth login', or set HF_TOKEN"),
        (NAME, "hf_old", r"the token is not valid \(any more\)"),
    ],
)
def test_logins_are_checked_before_anything_is_computed(
    name: str, token: str | None, message: str, hub: Hub, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=f"^hub={name}: {message}"):
        run(path, tmp_path / "out", f"hub={name}")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("never")
def test_no_network_is_one_line(hub: Hub, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=rf"^hub={NAME}: the hub can't be reached \(ConnectError\); repeat it later"):
        run(path, tmp_path / "out")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=rf"^hub={NAME}: HF_HUB_OFFLINE is set, so that nothing is uploaded"):
        run(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("status", "message"), [(403, "you have no permission to write there"), (500, r"the hub refuses it \(HTTP 500\)")]
)
def test_a_failed_upload_keeps_the_export(
    status: int, message: str, hub: Hub, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refused["/api/repos/create"] = status
    monkeypatch.setattr(contents, "write", lambda folder, *rest: [])
    monkeypatch.setattr("medseg.export.export._print_end", lambda *rest, **more: None)
    again = rf"{message}.*; the export is written: upload it by medseg-export checkpoint={tmp_path}/out output=DIR hub="
    with pytest.raises(InputError, match=again):
        run(exported, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_other_owners_and_cards_that_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^hub=elsewhere/tiny: you have no permission to write there; take a token"):
        publish.upload(tmp_path, "elsewhere/tiny", private=True)
    (tmp_path / "README.md").write_text(
        publish.metadata({"ndim": 3}, licence="no-such-licence", datasets=[], onnx=False)
    )
    with pytest.raises(
        InputError, match=r"the hub refuses the card \(.*must be one of .*change licence or hub_datasets"
    ):
        publish.upload(tmp_path, NAME, private=False)
    assert hub.created[NAME]["visibility"] == "public"


def test_licences_in_words_have_a_key_of_their_own() -> None:
    text = publish.metadata({"ndim": 3}, licence="Research use, ask us", datasets=[], onnx=True)
    stored = yaml.safe_load(text.split("---\n")[1])
    assert (stored["license"], stored["license_name"]) == ("other", "research-use-ask-us")
    assert (
        yaml.safe_load(publish.metadata({"ndim": 3}, licence=None, datasets=[], onnx=True).split("---\n")[1])["license"]
        == "unknown"
    )
