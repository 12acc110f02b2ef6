"""scripts/write_keys.py: keys, values and comments of a small configuration."""

from pathlib import Path

from tests.prepared import script

write_keys = script("write_keys")
TEXT = """# a file
defaults: [x, _self_]

name: a            # its name
text: 'a # b'      # not within quotes;
                   # and more
outer:             # a mapping
  inner: 1
  # a comment between
  _target_: a.B
  passed: ${data.root}
hydra:
  run: {dir: .}    # hidden
last: ${oc.env:HOME}/x
"""


def test_keys_with_values_and_comments() -> None:
    found = {key.name: (key.value, key.comment) for key in write_keys.keys(TEXT)}
    assert found == {
        "name": ("a", "its name"),
        "text": ("'a # b'", "not within quotes; and more"),
        "outer": ("", "a mapping"),
        "outer.inner": ("1", "a comment between"),
        "last": ("${oc.env:HOME}/x", ""),
    }


def test_page_has_commands_and_groups(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    for command in write_keys.COMMANDS:
        (tmp_path / f"{command}.yaml").write_text(f"# {command}\nseed: 0  # of {command}\n", encoding="utf-8")
    train = "# train\ndefaults:\n  - _self_\n  - loss: dice\n\nseed: 0  # one * two\n"
    (tmp_path / "train.yaml").write_text(train, encoding="utf-8")
    (tmp_path / "loss/dice.yaml").write_text("# Dice.\nsmooth: 1  # pixels | voxels\n", encoding="utf-8")
    lines = write_keys.page(tmp_path).splitlines()
    assert "| `seed` | `0` | one \\* two |" in lines
    assert "## loss" in lines
    assert "**loss=dice**: Dice" in lines
    assert "| `smooth` | `1` | pixels \\| voxels |" in lines
