"""Reads all hostile files in a process that may take 1 GiB; prints what came of each, as JSON.

python read_hostile.py FOLDER
"""

import json
import resource
import sys
import time
from pathlib import Path

import hostile_files

from retinue.checkpoint.reader import list_checkpoint, read_checkpoint

ROOM = 1 << 30


def virtual_size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def outcome(read, path):
    start = time.perf_counter()
    try:
        read(str(path))
        return ["nothing", "", time.perf_counter() - start]
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return [kinds, str(error), time.perf_counter() - start]


def main():
    folder = Path(sys.argv[1])
    names = hostile_files.make_all(folder)
    read_checkpoint(str(folder / "good.safetensors"))  # imports what it takes
    limit = virtual_size() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = {}
    for name in names:
        found[name] = {
            "read": outcome(read_checkpoint, folder / name),
            "list": outcome(list_checkpoint, folder / name),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
