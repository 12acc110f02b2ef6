"""Commands are taken out of a page as they stand there."""

from tests.prepared import script

PAGE = """## One
```sh
medseg-train a=1 \\
    'b={c: "#"}'  # why

medseg-plan
```
```text
medseg-train no
```
so `medseg-train
-m` and `medseg` and `data.root`
## Two
| `make demo` | x |
```
wandb sync a
```
"""


def test_commands_are_found_in_blocks_and_in_text() -> None:
    found = [(c.text, c.line, c.path) for c in script("page_commands").commands(PAGE)]
    assert found == [
        ("medseg-train a=1 'b={c: \"#\"}'", 3, True),
        ("medseg-plan", 6, True),
        ("wandb sync a", 16, False),
        ("medseg-train -m", 11, False),
        ("make demo", 14, False),
    ]
