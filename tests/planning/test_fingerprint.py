"""Fingerprints of datasets: what is printed while they are taken."""

from pathlib import Path

import pytest

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.planning.fingerprint import fingerprint
from tests.tiny import write_nnunet


def test_every_case_of_a_few_is_a_line_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = NnunetDataset(write_nnunet(tmp_path / "raw", n_cases=2))
    fingerprint(source, source.cases(), tmp_path / "store")
    lines = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["looking at cases: 1 of 2", "looking at cases: 2 of 2"]
