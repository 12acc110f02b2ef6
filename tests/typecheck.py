"""The run-time type checker of the tests: beartype that takes ints for floats, as YAML writes ``0``."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
