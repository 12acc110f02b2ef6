"""What tests need to know of an option, from a file of its own: ``tests/conf/<group>/<option>.yaml``.

Its keys, all of which may be left out, as may the file:

- ``settings``: settings of the option that make it fast enough for a test;
- ``overrides``: words that a training on tiny data needs besides the option;
- ``options``: options of other groups that it goes with;
- ``least_batch``: images in the smallest batch that it trains on (2 where one cell is normalised over the batch);
- ``teacher``: whether it needs a checkpoint of the same data, by ``method.teacher``;
- ``package``: package that it needs and medseg does without;
- ``exempt``: of a term of a loss, the invariants (``tests/losses/test_invariants.py``) that it breaks, with the reason.
"""

from pathlib import Path
from typing import Any

import yaml

from medseg.hydra_app.conf import conf_dir

FOLDER = Path(__file__).parent / "conf"
_DEFAULTS: dict[str, Any] = {
    "settings": {},
    "overrides": [],
    "options": {},
    "least_batch": 1,
    "teacher": False,
    "package": None,
    "exempt": {},
}


def small(group: str, option: str) -> dict[str, Any]:
    """The keys of an option; of a size such as ``unet_small`` those of its network, unless it has a file."""
    path = FOLDER / group / f"{option}.yaml"
    if path.is_file():
        return _DEFAULTS | yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")).get("defaults", [])
    siblings = [
        entry for entry in entries if isinstance(entry, str) and (conf_dir() / group / f"{entry}.yaml").is_file()
    ]
    built_on = [entry for entry in siblings if not entry.endswith("_defaults")]
    return small(group, built_on[0]) if built_on else dict(_DEFAULTS)
