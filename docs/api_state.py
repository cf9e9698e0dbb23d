"""Write ``detectron2_names.md``: every name of detectron2 0.6 and what becomes of it here."""

import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference.api_comparison import ACCEPTED, rows
from retinue import compat

_INTRO = """# Every name of detectron2 and its state

Recorded from detectron2 0.6, its projects, fvcore 0.1.5 and iopath 0.1.10; compared with what the
import hook serves: that the name is there, and that its arguments have the same names, order and
defaults. This page is written by `docs/api_state.py`.

{same} names are the same. {other} differ:

"""


def main(folder: Path) -> None:
    """Write the page into ``folder``."""
    compat.install()
    try:
        found = list(rows())
    finally:
        compat.uninstall()
    other = [row for row in found if row.state]
    parts = [_INTRO.format(same=len(found) - len(other), other=len(other))]
    parts += ["| name | state | why |\n| --- | --- | --- |\n"]
    parts += [
        f"| `{r.module}` {_code(r.name)} | {_cell(r.state)} |"
        f" {_cell(ACCEPTED.get(f'{r.module}:{r.name}', ''))} |\n"
        for r in other
    ]
    by_module = defaultdict(list)
    for row in found:
        if row.name and "." not in row.name:
            by_module[row.module].append(row.name)
    parts += ["\n## All names\n\n| module | names |\n| --- | --- |\n"]
    parts += [
        f"| `{module}` | {', '.join(map(_code, sorted(set(names))))} |\n"
        for module, names in sorted(by_module.items())
    ]
    (folder / "detectron2_names.md").write_text("".join(parts), encoding="utf-8")


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main(Path(__file__).parent)
