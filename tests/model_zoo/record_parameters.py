"""Count the parameters of published models that the zoo's table has not; ``--all`` counts anew.

    python tests/model_zoo/record_parameters.py [--all]

Models are built without values, so this takes a minute and little memory.
"""

import json
import sys
from pathlib import Path

from retinue import model_zoo
from retinue.model_zoo.entries import entries

TABLE = Path(model_zoo.__file__).parent / "parameters.json"


def count(name: str) -> int:
    """Return how many parameters a published model has."""
    return sum(p.numel() for p in model_zoo.build(name, device="meta").parameters())


def main() -> None:
    known = {} if "--all" in sys.argv else json.loads(TABLE.read_text())
    table = {}
    for entry in entries():
        try:
            table[entry.name] = known.get(entry.name) or count(entry.name)
        except ImportError as error:
            print(f"{entry.name}: {error}")
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
