import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.pretrained import read
from medseg.weights.report import Report


def test_the_report_names_the_file_by_its_digest(tmp_path: Path) -> None:
    net, path = nn.Conv2d(1, 2, 3), tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    report = load(nn.Conv2d(1, 2, 3), read(path), stem="weight", channels=(Channel("CT"),))
    assert report.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Report.from_dict(report.to_dict()) == report


def test_a_report_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(1, 2, 3).state_dict(), tmp_path / "net.pt")
    report = load(nn.Conv2d(1, 2, 3), read(tmp_path / "net.pt"), stem="weight", channels=(Channel("CT"),))
    stored = report.to_dict()
    del stored["digest"]
    assert Report.from_dict(stored).digest == ""
