"""Published: which file is read, and what is said of one that says nothing itself."""

from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.models.encoders import published
from medseg.models.encoders.published import Published
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained

FAMILY = Published({"base": "hf-hub:owner/name/base.pt"}, (Channel("B4"),), (1.0,), (2.0,), 1.0, "standardised")


@pytest.fixture
def sources(monkeypatch):
    """Names that were read."""
    found = []

    def read(source):
        found.append(source)
        return Pretrained({"a": torch.ones(1)}, source)

    monkeypatch.setattr(published, "read", read)
    return found


@pytest.mark.parametrize("source, expected", [("pretrained", "hf-hub:owner/name/base.pt"), ("own.pt", "own.pt")])
def test_files_that_say_nothing_are_of_the_images_of_the_family(sources, source, expected):
    found = FAMILY.fetch(source, "base")
    assert sources == [found.source] == [expected]
    assert (found.channels, found.mean, found.std, found.scale) == ((Channel("B4"),), (1.0,), (2.0,), 1.0)
    assert found.normalisation == "standardised"


def test_files_that_say_what_they_were_trained_on_keep_it(monkeypatch):
    own = Pretrained({}, "own.pt", channels=(Channel("VV"),))
    monkeypatch.setattr(published, "read", lambda source: replace(own, source=source))
    assert FAMILY.fetch("own.pt", "base").channels == (Channel("VV"),)


def test_sizes_without_a_file_are_refused(sources):
    with pytest.raises(InputError, match=r"published of size large; choose model\.encoder\.size=base, or give a"):
        FAMILY.fetch("pretrained", "large")
    assert sources == []
