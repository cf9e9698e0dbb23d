"""Files that would run code, exhaust the machine, or are simply broken; made in a folder.

``make_all(folder)`` writes them and returns their names. A file that ran its code would leave
``folder/EXECUTED``.
"""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch

from retinue.checkpoint.sharded import write_alone

MARK = "EXECUTED"


class Call:
    """An object that a pickle makes by calling ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def pickles(mark):
    """Name -> bytes of a pickle."""
    touch = f"open({mark!r}, 'w').close()"
    command = f"touch {mark}"
    state = {"model": {"w": np.zeros(2)}, "__author__": "x"}
    good = pickle.dumps(state, protocol=4)
    yield "reduce_system", pickle.dumps(Call(os.system, command))
    yield "reduce_eval", pickle.dumps(Call(eval, touch))
    yield "reduce_exec", pickle.dumps({"model": {"w": Call(exec, touch)}, "__author__": "x"})
    yield "reduce_getattr", b"c__builtin__\ngetattr\n(cposix\nsystem\nS'x'\ntR."
    yield "reduce_import", pickle.dumps(Call(__import__, "antigravity"))
    yield "reduce_torch_load", pickle.dumps(Call(torch.load, "x.pth"))
    yield "reduce_numpy_load", pickle.dumps(Call(np.load, "x.npy"))
    yield "reduce_partial", b"cfunctools\npartial\n(cos\nsystem\n" + _text(command) + b"tR."
    yield "global_posix", b"cposix\nsystem\n(" + _text(command) + b"tR."
    yield "stack_global", b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + _text(command) + b"tR."
    yield "inst", b"(" + _text(command) + b"ios\nsystem\n."
    yield "obj", b"(cos\nsystem\n" + _text(command) + b"o."
    yield "newobj", b"\x80\x02cos\nsystem\n" + _text(command) + b"\x85\x81."
    yield "newobj_ex", b"\x80\x04cos\nsystem\n" + _text(command) + b"\x85}\x92."
    yield "build_setstate", b"\x80\x02cos\n_wrap_close\n)\x81}" + _text("x") + b"K\x01sb."
    yield "extension", b"\x80\x02\x82\x01."
    yield "extension_four", b"\x80\x02\x84\x01\x00\x00\x00."
    yield "persistent_id", b"Psomewhere\n."
    yield "binary_persistent_id", b"\x80\x02K\x01Q."
    yield "dotted_name", b"\x80\x04\x8c\x05numpy\x8c\x0ff2py.os.system.x\x93."
    yield "class_itself", b"cnumpy\nndarray\n."
    yield "ten_gigabytes_of_bytes", b"\x80\x04\x8e" + struct.pack("<Q", 10 << 30) + b"abc."
    yield "ten_gigabytes_of_text", b"\x80\x04\x8d" + struct.pack("<Q", 10 << 30) + b"abc."
    yield "ten_gigabyte_frame", b"\x80\x04\x95" + struct.pack("<Q", 10 << 30) + b"N."
    yield "negative_length", b"T" + struct.pack("<i", -5) + b"abc."
    yield "memo_at_four_billion", b"\x80\x02Nr\xff\xff\xff\xff."
    yield "text_memo_at_four_billion", b"Np4294967295\n."
    yield "bytearray_of_ten_gigabytes", b"c__builtin__\nbytearray\n(L10737418240L\ntR."
    yield "list_of_a_number", b"c__builtin__\nlist\n(I5\ntR."
    yield "tuples_that_double", b"\x80\x02}" + b")" + b"2\x86" * 100 + b"Ns."
    yield "tuples_in_tuples", b"\x80\x02})" + b"\x85" * 100_000 + b"Ns."
    yield "lists_in_lists", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    doubling = b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(100)
    )
    yield "lists_that_double", doubling + b"."
    yield "huge_number", b"I" + b"9" * 100_000 + b"\n."
    array = pickle.dumps(np.zeros(4, np.uint8), protocol=2)
    huge = array.replace(b"K\x04\x85", b"\x8a\x05\x00\x00\x00\x80\x02\x85")
    assert huge != array
    yield "array_that_claims_ten_gigabytes", huge
    yield "array_of_objects", pickle.dumps(np.array([Call(os.system, command)], dtype=object))
    yield "array_of_records", pickle.dumps({"w": np.zeros(2, dtype=[("a", "f4")])})
    nested = pickle.dumps(Call(os.system, command))
    load_from_bytes = b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(nested))
    yield "pickle_in_a_storage", load_from_bytes + nested + b"tR."
    yield "truncated", good[: len(good) // 2]
    yield "empty", b""
    yield "only_stop", b"."
    yield "unknown_opcode", b"\x80\x04\xff."
    yield "a_list_of_numbers", pickle.dumps([1, 2, 3])
    yield "names_that_are_numbers", pickle.dumps({"blobs": {1: np.zeros(2)}})
    yield "weights_that_are_strings", pickle.dumps({"model": {"w": "abc"}, "__author__": "x"})
    yield "weights_that_are_a_list", pickle.dumps({"model": [np.zeros(2)], "__author__": "x"})
    boxes = b"\x80\x02cdetectron2.structures.boxes\nBoxes\n)\x81}" + _text("tensor")
    yield "boxes_of_a_string", boxes + _text("abc") + b"sb."
    yield "boxes_with_another_field", boxes.replace(b"tensor", b"__init") + b"Nsb."
    config = b"\x80\x02cdetectron2.config.config\nCfgNode\n)\x81}b."
    yield "config_node_alone", config
    yield "flipped", bytes([*good[:40], good[40] ^ 0xFF, *good[41:]])
    yield "html", b"<!doctype html><title>Sign in</title>"
    for end in (b"0", b"1", b"h\x07", b"j\x00\x00\x00\x01", b"e", b"R", b"\x93", b"b"):
        yield f"stack_underflow_{end.hex()}", b"\x80\x04" + end + b"."


def _zip(pickled, *, storages=(), compress=False, root="archive", names=()):
    file = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        for key, content in storages:
            archive.writestr(f"{root}/data/{key}", content)
        for name in names:
            archive.writestr(name, b"x")
        archive.writestr(f"{root}/version", b"3\n")
    return file.getvalue()


def _tensor(numel, size, stride, *, offset=0, storage="FloatStorage"):
    """Pickle of ``{"w": tensor}`` as ``torch.save`` writes it, with claims of one's own."""

    def number(n):
        return b"\x8a\x08" + struct.pack("<q", n)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    pid = b"(" + _text("storage") + f"ctorch\n{storage}\n".encode() + _text("0") + _text("cpu")
    return (
        b"\x80\x02}"
        + _text("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + pid[1:]
        + number(numel)
        + b"tQ"
        + number(offset)
        + numbers(size)
        + numbers(stride)
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def torch_files(mark):
    """Name -> bytes of something like a file of ``torch.save``."""
    command = f"touch {mark}"
    good = io.BytesIO()
    torch.save({"model": {"w": torch.zeros(300)}}, good)
    good = good.getvalue()
    legacy = io.BytesIO()
    torch.save({"w": torch.zeros(300)}, legacy, _use_new_zipfile_serialization=False)
    legacy = legacy.getvalue()
    whole = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), whole)
    four = b"\0" * 16
    yield "torch_reduce", _zip(pickle.dumps(Call(os.system, command)))
    yield "torch_module", whole.getvalue()
    yield "torch_legacy_reduce", legacy[: legacy.index(b"}")] + b"cos\nsystem\n(X\x01\0\0\0xtR."
    yield (
        "torch_claims_ten_gigabytes",
        _zip(_tensor(10 << 28, [10 << 28], [1]), storages=[("0", four)]),
    )
    yield (
        "torch_tensor_larger_than_storage",
        _zip(_tensor(4, [10 << 28], [1]), storages=[("0", four)]),
    )
    yield "torch_stride_out_of_storage", _zip(_tensor(4, [4, 4], [9, 9]), storages=[("0", four)])
    yield "torch_negative_size", _zip(_tensor(4, [-4, -1], [1, 1]), storages=[("0", four)])
    yield "torch_negative_offset", _zip(_tensor(4, [2], [1], offset=-8), storages=[("0", four)])
    yield "torch_no_storage", _zip(_tensor(4, [4], [1]))
    yield "torch_unknown_storage", _zip(_tensor(4, [4], [1], storage="EvilStorage"))
    yield "torch_negative_storage", _zip(_tensor(-4, [0], [1]), storages=[("0", four)])
    yield (
        "torch_overflowing_shape",
        _zip(_tensor(4, [2**40, 2**40], [1, 1]), storages=[("0", four)]),
    )
    bomb = b"\0" * (64 << 20)
    yield (
        "torch_zip_bomb",
        _zip(_tensor(16 << 20, [16 << 20], [1]), storages=[("0", bomb)], compress=True),
    )
    yield "torch_path_traversal", _zip(pickle.dumps({}), names=["archive/../../evil"])
    yield "torch_absolute_path", _zip(pickle.dumps({}), names=["/etc/evil"])
    yield "torch_two_roots", _zip(pickle.dumps({}), names=["other/data.pkl"])
    yield "torch_script", _zip(pickle.dumps({}), names=["archive/constants.pkl"])
    yield "torch_no_pickle", _zip(b"")
    yield "torch_cut", good[:-200]
    yield "torch_cut_in_half", good[: len(good) // 2]
    yield "torch_legacy_cut", legacy[:-500]
    at = good.index(b"data.pkl") + 100
    yield "torch_flipped", bytes([*good[:at], good[at] ^ 0x55, *good[at + 1 :]])
    yield "torch_not_a_dict", _zip(pickle.dumps([1], protocol=2))
    yield "torch_no_weights", _zip(pickle.dumps({"epoch": 3}, protocol=2))
    yield "torch_empty", b""
    yield "torch_html", b"<html>404</html>"
    lists = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "torch_nested_lists", _zip(lists)


def _safetensors(header, body=b"", length=None):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + body


def safetensors_files(_):
    row = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    yield "safetensors_ten_gigabyte_header", _safetensors({}, length=10 << 30)
    yield "safetensors_cut", _safetensors({"w": row}, b"\0" * 8)
    yield "safetensors_long", _safetensors({"w": row}, b"\0" * 99)
    yield "safetensors_shape", _safetensors({"w": row | {"shape": [10 << 28]}}, b"\0" * 16)
    yield "safetensors_negative", _safetensors({"w": row | {"data_offsets": [16, 0]}}, b"\0" * 16)
    yield "safetensors_overlap", _safetensors({"v": row, "w": row}, b"\0" * 16)
    yield "safetensors_type", _safetensors({"w": row | {"dtype": "PY"}}, b"\0" * 16)
    yield "safetensors_no_json", _safetensors(b"{" * 100)
    yield "safetensors_nested_json", _safetensors(b"[" * 100_000 + b"]" * 100_000)
    yield "safetensors_empty", b""
    yield "safetensors_strings", _safetensors({"w": "abc"})


def indexes(_):
    yield "index_traversal", json.dumps({"weight_map": {"w": "../../etc/passwd"}}).encode()
    yield "index_absolute", json.dumps({"weight_map": {"w": "/etc/passwd"}}).encode()
    yield "index_backslash", json.dumps({"weight_map": {"w": "..\\x.safetensors"}}).encode()
    yield "index_missing_shard", json.dumps({"weight_map": {"w": "absent.safetensors"}}).encode()
    yield "index_itself", json.dumps({"weight_map": {"w": "index_itself.index.json"}}).encode()
    yield "index_list", b"[1]"
    yield "index_nested", b"[" * 100_000
    yield "index_no_json", b"\xff\xfe{"


def _distributed(folder, mark):
    """Folders of torch.distributed.checkpoint, from a good one."""
    good = folder / "good"
    write_alone(str(good), {"w": torch.zeros(10), "n": 3})
    metadata = (good / ".metadata").read_bytes()
    name = "__0_0.distcp"
    chunks = (good / name).read_bytes()
    variants = {
        "reduce": (pickle.dumps(Call(os.system, f"touch {mark}")), chunks),
        "traversal": (metadata.replace(name.encode(), b"../0_0.distc"), chunks),
        "cut": (metadata, chunks[: len(chunks) // 2]),
        "no_chunks": (metadata, None),
        "cut_metadata": (metadata[:-50], chunks),
        "flipped_chunks": (metadata, bytes(b ^ 0x55 for b in chunks)),
        "large": (metadata.replace(b"K\n\x85", b"J\x00\x00\x00\x7f\x85"), chunks),
    }
    for label, (meta, content) in variants.items():
        target = folder / f"distributed_{label}"
        target.mkdir()
        (target / ".metadata").write_bytes(meta)
        if content is not None:
            (target / name).write_bytes(content)
        yield target.name
    for path in good.iterdir():
        path.unlink()
    good.rmdir()
    (folder / "distributed_empty").mkdir()
    yield "distributed_empty"


def make_all(folder: Path) -> list[str]:
    """Write all files and folders; return their names."""
    mark = str(folder / MARK)
    names = list(_distributed(folder, mark))
    for make, ending in (
        (pickles, ".pkl"),
        (torch_files, ".pth"),
        (safetensors_files, ".safetensors"),
        (indexes, ".index.json"),
    ):
        for name, content in make(mark):
            (folder / (name + ending)).write_bytes(content)
            names.append(name + ending)
    return names


def yaml_texts():
    """Name -> text that no config is."""
    doubling = "a0: &a0 [1, 1]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    return {
        "doubling": doubling,
        "merging": doubling.replace("[1, 1]", "{x: 1}").replace("[*", "{<<: [*").replace("]", "]}"),
        "inside_itself": "&a [*a]",
        "deep_lists": "[" * 100_000,
        "deep_mappings": "{a: " * 100_000,
        "long_number": "a: " + "9" * 100_000,
        "no_date": "a: 2020-99-99",
        "apply": "!!python/object/apply:os.system ['touch EXECUTED']",
        "new_call": "!!python/object/new:os.system ['touch EXECUTED']",
        "unknown_tag": "!evil {a: 1}",
        "large": "a: '" + "x" * (33 << 20) + "'",
        "control_character": "a: \x00",
    }
