"""Walking through a pickle without running it, to find what would exhaust the machine.

A short pickle can claim gigabytes, keep notes at number four billion, or build a tuple of tuples
that takes years to hash, or fill a dict with keys of one hash, which takes time in the square of
their number. ``check_pickle`` follows the opcodes with a stack of plain numbers and
refuses these before any object is made. (Pickles are described in Python's ``pickletools``.)
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import sys
from collections import Counter
from collections.abc import Sequence

__all__ = ["PickleBombError", "check_pickle"]

MAX_WEIGHT = 1e12
"""Of a tuple: 1 for a value, 1.5 times the sum for a tuple. Flat ones of any length are below;
25 doublings, or 68 levels, are not."""

MAX_SAME_HASH = 1000
"""Different integers of one hash, at most. The hashes of strings are nobody's to foresee."""

MAX_ODD_KEYS = 10_000
"""Keys of dicts and elements of sets that are neither numbers nor strings but, say, tuples."""

_FIXED: dict[int, int] = {}  # opcode -> length of its argument, in bytes
_SIZED: dict[int, tuple[int, str]] = {}  # opcode -> length of the length that precedes its argument
_LINES: dict[int, int] = {}  # opcode -> number of lines that follow
for _op in pickletools.opcodes:
    _code, _arg = ord(_op.code), _op.arg
    if _arg is None:
        _FIXED[_code] = 0
    elif _arg.n >= 0:
        _FIXED[_code] = _arg.n
    elif _arg.n == pickletools.UP_TO_NEWLINE:
        _LINES[_code] = 2 if "pair" in _arg.name else 1
    else:
        _SIZED[_code] = {
            pickletools.TAKEN_FROM_ARGUMENT1: (1, "<B"),
            pickletools.TAKEN_FROM_ARGUMENT4: (4, "<i"),
            pickletools.TAKEN_FROM_ARGUMENT4U: (4, "<I"),
            pickletools.TAKEN_FROM_ARGUMENT8U: (8, "<Q"),
        }[_arg.n]

_PUSHES = frozenset(  # one value that no other depends on
    b"NJKMGFSTUVXBC}](" + b"\x88\x89\x8c\x8d\x8e\x8f\x96Pc"
) - {ord("(")}
_LONG1, _LONG4 = 0x8A, 0x8B
_INTEGERS = frozenset(b"IL") | {_LONG1, _LONG4}  # values, too, of any length
_POPS = {  # values taken away; none come back
    ord("a"): 1,  # APPEND
    ord("b"): 1,  # BUILD
    **dict.fromkeys(b"\x80\x95", 0),  # PROTO, FRAME
}
_CALLS = {ord("R"): 2, 0x81: 2, 0x92: 3, 0x93: 2, ord("Q"): 1}  # values that become one
_TO_MARK = frozenset(b"eu\x90")  # APPENDS, SETITEMS, ADDITEMS: all down to the mark
_APPENDS, _SETITEM, _SETITEMS, _DICT = ord("e"), ord("s"), ord("u"), ord("d")
_SETS = frozenset(b"\x90\x91")  # ADDITEMS, FROZENSET
_FROM_MARK = frozenset(b"tldio\x91")  # TUPLE, LIST, DICT, INST, OBJ, FROZENSET: become one
_TUPLES = {ord(")"): 0, 0x85: 1, 0x86: 2, 0x87: 3}
_STOP, _MARK, _POP, _POP_MARK, _DUP = ord("."), ord("("), ord("0"), ord("1"), ord("2")
_PUT, _BINPUT, _LONG_BINPUT, _MEMOIZE = ord("p"), ord("q"), ord("r"), 0x94
_GET, _BINGET, _LONG_BINGET = ord("g"), ord("h"), ord("j")
_FRAME = 0x95
_OUTSIDE = frozenset(b"\x82\x83\x84\x97\x98")  # EXT1, 2, 4: names by number; two for buffers


class PickleBombError(pickle.UnpicklingError, ValueError):
    """A pickle whose reading would take more than it is worth."""


def check_pickle(data: bytes | memoryview) -> int:
    """Follow one pickle to its end without making any object of it.

    Args:
        data: from its first byte on; what comes after its end doesn't matter.

    Returns:
        Its length in bytes.

    Raises:
        PickleBombError: If it claims more bytes than there are, takes notes at numbers out of
            reach, or nests tuples without end.
        pickle.UnpicklingError: If it is no pickle, or is cut off.
    """
    try:
        return _Walk(data).to_the_end()
    except (IndexError, KeyError, ValueError, struct.error) as error:
        if isinstance(error, PickleBombError):
            raise
        is_cut = isinstance(error, IndexError | struct.error)
        raise pickle.UnpicklingError("it is cut off" if is_cut else str(error.args[0])) from error


class _Walk:
    """Where the walk is: the stack (a weight for each value), its marks, and the notes."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data, self.size = data, len(data)
        self.stack: list[float] = []
        self.marks: list[int] = []
        self.memo: dict[int, float] = {}
        self.num_odd_keys = 0
        self.long_integers: set[bytes] = set()
        self.same_hash: Counter[int] = Counter()

    def to_the_end(self) -> int:
        data, stack, at, count = self.data, self.stack, 0, 0
        while True:
            code = data[at]
            start = at + 1
            count += 1
            at = self.end_of_argument(code, start)
            if code in _PUSHES:
                stack.append(1.0)
            elif code == _MEMOIZE:
                self.memo[len(self.memo)] = stack[-1]
            elif code == _BINPUT:
                self.memo[data[start]] = stack[-1]
            elif code == _BINGET:
                stack.append(self.noted(data[start]))
            elif code == _MARK:
                self.marks.append(len(stack))
            elif code in _TO_MARK:
                mark = self.marks.pop()
                if code != _APPENDS:
                    self.check_keys(code, stack[mark:])
                del stack[mark:]
            elif code in _POPS:
                self.take(_POPS[code])
            elif code in _TUPLES:
                self.push_tuple(self.take(_TUPLES[code]))
            elif code in _CALLS:
                self.push_tuple(self.take(_CALLS[code]))
            elif code in _FROM_MARK:
                inside = self.from_mark()
                self.check_keys(code, inside)
                self.push_tuple(inside)
            elif code == _STOP:
                return at
            else:
                self.rarer(code, start, at, count)

    def rarer(self, code: int, start: int, end: int, count: int) -> None:
        """Do what the other opcodes do."""
        if code in _OUTSIDE:
            raise PickleBombError("it refers to things outside the file by number")
        if code in _INTEGERS:
            self.check_integer(code, start, end)
            self.stack.append(1.0)
        elif code == _SETITEM:
            self.check_keys(_SETITEMS, self.take(2))
        elif code == _POP and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        elif code == _POP:
            self.take(1)
        elif code == _POP_MARK:
            self.from_mark()
        elif code == _DUP:
            self.stack.append(self.stack[-1])
        elif code in (_PUT, _LONG_BINPUT):
            number = self.number(code == _PUT, start, end)
            if not 0 <= number <= 2 * count + 1000:
                raise PickleBombError(f"it takes a note at number {number:,} after {count:,} steps")
            self.memo[number] = self.stack[-1]
        elif code in (_GET, _LONG_BINGET):
            self.stack.append(self.noted(self.number(code == _GET, start, end)))
        else:
            raise ValueError(f"0x{code:02x} is no instruction of a pickle")

    def check_keys(self, code: int, weights: Sequence[float]) -> None:
        """Count keys that are made of other values, whose hashes can be made alike."""
        if code not in _SETS:
            weights = weights[::2] if code in (_SETITEMS, _DICT) else ()
        self.num_odd_keys += sum(weight > 1 for weight in weights)
        if self.num_odd_keys > MAX_ODD_KEYS:
            raise PickleBombError(
                f"more than {MAX_ODD_KEYS:,} keys are neither numbers nor strings, which could take"
                " forever to look up"
            )

    def check_integer(self, code: int, start: int, end: int) -> None:
        """Count different integers of one hash; they are all beyond Python's modulus, but one."""
        if end - start < 9:
            return
        skipped = {_LONG1: 1, _LONG4: 4}.get(code, 0)
        argument = bytes(self.data[start + skipped : end])
        if skipped:
            value = int.from_bytes(argument, "little", signed=True)
        else:
            value = int(argument.strip().removesuffix(b"L"))
        if abs(value) < sys.hash_info.modulus or argument in self.long_integers:
            return
        self.long_integers.add(argument)
        self.same_hash[hash(value)] += 1
        if self.same_hash[hash(value)] > MAX_SAME_HASH:
            raise PickleBombError(f"more than {MAX_SAME_HASH:,} integers have the same hash")

    def noted(self, number: int) -> float:
        if number not in self.memo:
            raise ValueError(f"it refers to note {number:,}, which was never taken")
        return self.memo[number]

    def number(self, is_text: bool, start: int, end: int) -> int:
        argument = bytes(self.data[start:end])
        return int(argument[:20]) if is_text else int.from_bytes(argument, "little")

    def end_of_argument(self, code: int, at: int) -> int:
        if code in _FIXED:
            if code == _FRAME:
                self.claimed("<Q", at, 8)
            return at + _FIXED[code]
        if code in _SIZED:
            length, layout = _SIZED[code]
            return at + length + self.claimed(layout, at, length)
        for _ in range(_LINES.get(code, 0)):
            while self.data[at] != 10:
                at += 1
            at += 1
        return at

    def claimed(self, layout: str, at: int, length: int) -> int:
        (claimed,) = struct.unpack_from(layout, self.data, at)
        if not 0 <= claimed <= self.size - at - length:
            raise PickleBombError(
                f"at byte {at:,} it claims {claimed:,} bytes; the file has {self.size:,}"
            )
        return int(claimed)

    def take(self, num: int) -> list[float]:
        if num > len(self.stack):
            raise IndexError(num)
        taken = self.stack[len(self.stack) - num :]
        del self.stack[len(self.stack) - num :]
        return taken

    def from_mark(self) -> list[float]:
        return self.take(len(self.stack) - self.marks.pop())

    def push_tuple(self, weights: list[float]) -> None:
        weight = 1.5 * sum(weights) + 1
        if weight > MAX_WEIGHT:
            raise PickleBombError("its tuples are nested without end")
        self.stack.append(weight)
