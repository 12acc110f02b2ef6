import errno
import os
from pathlib import Path

import pytest

from medseg.runtime.disk import cause, naming


@pytest.mark.parametrize(
    "number, told",
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.ENAMETOOLONG, "name is too long"),
    ],
)
def test_errors_of_the_disk_name_file_and_cause(number: int, told: str) -> None:
    line = cause(OSError(number, os.strerror(number), "a/b.csv"))
    assert line is not None
    assert line.startswith("a/b.csv: ")
    assert told in line


def test_where_the_system_names_no_file_the_writer_does(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as raised, naming(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (cause(raised.value) or "").startswith(f"{tmp_path / 'a'}: no space is left")


def test_what_led_to_another_error_counts_and_what_was_handled_does_not() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    raised, handled = RuntimeError("write failed"), RuntimeError("a defect")
    raised.__cause__ = full
    handled.__context__, handled.__suppress_context__ = full, True
    assert (cause(raised) or "").startswith("a file: no space is left")
    assert cause(handled) is None
