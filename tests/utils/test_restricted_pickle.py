"""What is read from pickles, and what is refused."""

import io
import os
import pickle
import struct
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch

from retinue.utils.restricted_pickle import RestrictedPickleError, load, loads


class Danger:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(protocol):
    data = OrderedDict(
        numbers=[1, 2.5, True, None, 10**20, 3 + 4j],
        text=("a", b"bytes", bytearray(b"more")),
        sets={frozenset({1, 2})},
        scalar=np.float32(0.5),
    )
    assert loads(pickle.dumps(data, protocol=protocol)) == data


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array(7, dtype=np.uint8),
        np.zeros((0, 4), dtype=np.float16),
        np.array([True, False]),
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_come_back(array, protocol):
    got = loads(pickle.dumps({"a": array, "b": [array]}, protocol=protocol))

    assert got["a"] is got["b"][0]
    assert got["a"].dtype == array.dtype.newbyteorder("=")
    assert got["a"].flags.writeable
    np.testing.assert_array_equal(got["a"], array)


def test_tensors_come_back():
    tensor = torch.arange(6.0).reshape(2, 3)
    got = loads(
        pickle.dumps({"t": tensor, "p": torch.nn.Parameter(tensor), "h": tensor.bfloat16()})
    )

    torch.testing.assert_close(got["t"], tensor)
    torch.testing.assert_close(got["p"].data, tensor)
    torch.testing.assert_close(got["h"], tensor.bfloat16())


def test_containers_that_hold_themselves():
    ring = [np.zeros(2)]
    ring.append(ring)
    got = loads(pickle.dumps(ring))

    assert got[1] is got
    assert isinstance(got[0], np.ndarray)


def test_a_file_of_python_2():
    """Written by hand in protocol 0: {'w': 'caf\\xe9'}; Python 2 strings are bytes."""
    assert load(io.BytesIO(b"(dp0\nS'w'\np1\nS'caf\\xe9'\np2\ns.")) == {"w": "caf\xe9"}


@pytest.mark.parametrize(
    ("danger", "name"),
    [
        (Danger(os.system, "true"), f"{os.system.__module__}.system"),
        (Danger(eval, "1"), "builtins.eval"),
        (Danger(getattr, "a", "b"), "builtins.getattr"),
        (Danger(np.load, "x"), "numpy.load"),
        (Danger(torch.load, "x"), "torch.serialization.load"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (torch.float32, "torch.float32"),
    ],
)
def test_every_other_name_is_refused(danger, name):
    with pytest.raises(RestrictedPickleError, match=rf"x\.pkl: names '(builtins\.getattr|{name})'"):
        loads(pickle.dumps([danger]), name="x.pkl")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object, None], dtype=object), "refused|names|not plain data"),
        (np.zeros(2, dtype=[("a", "f4")]), "records are not plain data"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "not plain data"),
        (Danger(pickle.loads(b"c_codecs\nencode\n."), "a", "zip"), "text encoded as 'zip'"),
    ],
)
def test_arrays_that_are_not_plain_numbers_are_refused(value, message):
    with pytest.raises(RestrictedPickleError, match=message):
        loads(pickle.dumps(value))


def test_an_array_of_objects_is_a_list_of_plain_data():
    objects = np.empty(3, dtype=object)
    objects[:] = [np.arange(3.0), "a", None]
    array, *others = loads(pickle.dumps(objects))
    assert array.tolist() == [0, 1, 2]
    assert others == ["a", None]
    objects[0] = objects  # holds itself
    around = loads(pickle.dumps(objects))
    assert around[0] is around
    objects[0] = Danger(eval, "1")
    with pytest.raises(RestrictedPickleError, match=r"builtins\.eval"):
        loads(pickle.dumps(objects))


def test_a_bare_function_is_not_data():
    with pytest.raises(RestrictedPickleError, match="is not plain data"):
        loads(b"c_codecs\nencode\n.")


def test_an_array_with_too_few_bytes_is_refused():
    data = pickle.dumps(np.arange(4, dtype=np.uint8), protocol=2)
    wrong = data.replace(struct.pack("<B", 4) + b"\x85", struct.pack("<B", 9) + b"\x85")
    assert wrong != data
    with pytest.raises(RestrictedPickleError, match=r"array of shape \(9,\) and type uint8 with 4"):
        loads(wrong)


def test_data_outside_the_file_is_refused():
    with pytest.raises(RestrictedPickleError, match=r"outside the file \('elsewhere'\)"):
        loads(b"Pelsewhere\n.")


@pytest.mark.parametrize("length", [0, 1, 30, 200])
def test_a_truncated_file_is_named(tmp_path, length):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"w": np.zeros(100)})[:length])
    with path.open("rb") as file, pytest.raises(RestrictedPickleError, match=r"weights\.pkl"):
        load(file)


class Call:
    """Pickled as a call of ``kind`` with ``content``, as old protocols write sets and dicts."""

    def __init__(self, kind, content):
        self.call = kind, (content,)

    def __reduce__(self):
        return self.call


MULTIPLES = [(i + 1) * sys.hash_info.modulus for i in range(1001)]  # all of hash 0


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("make", [dict.fromkeys, set, frozenset, list])
def test_integers_of_one_hash_are_refused(protocol, make):
    with pytest.raises(RestrictedPickleError, match="1,000 integers have the same hash"):
        loads(pickle.dumps(make(MULTIPLES), protocol=protocol))
    assert len(loads(pickle.dumps(make(MULTIPLES[1:]), protocol=protocol))) == 1000


@pytest.mark.parametrize("kind", [set, frozenset, dict, OrderedDict])
def test_keys_of_one_hash_are_refused(kind):
    """Tuples of equal hash: an element may be 0 or any multiple of the modulus."""
    keys = [(i, j) for i in MULTIPLES[:40] for j in MULTIPLES[:40]]
    content = keys if kind in (set, frozenset) else [(key, 0) for key in keys]
    with pytest.raises(RestrictedPickleError, match="1,000 keys have the same hash"):
        loads(pickle.dumps(Call(kind, content), protocol=2))
    assert len(loads(pickle.dumps(Call(kind, content[:1000]), protocol=2))) == 1000


@pytest.mark.parametrize("make", [dict.fromkeys, set, frozenset])
def test_many_keys_that_are_tuples_are_refused(make):
    """Their hashes can't be told before they are looked up."""
    keys = [(i, 0) for i in range(10_001)]
    with pytest.raises(RestrictedPickleError, match="10,000 keys are neither numbers nor strings"):
        loads(pickle.dumps(make(keys), protocol=4))
    assert len(loads(pickle.dumps(make(keys[1:]), protocol=4))) == 10_000
    assert len(loads(pickle.dumps(keys, protocol=4))) == 10_001  # a list looks nothing up


def test_large_integers_that_repeat_are_no_attack():
    assert loads(pickle.dumps([2**70] * 2000)) == [2**70] * 2000
