"""Valid bytes and words made wrong: the same seed gives the same case, so that a finding can be replayed."""

import random
import struct
from collections.abc import Sequence

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    *("null", "true", "nan", "inf", "-inf", "-1", "0", "1", "0.5", "1e999", "1e-999", "9" * 40, "0x10", "1_000", "???"),
    *("[]", "{}", "[1,2]", "{a: 1}", "[[[[1]]]]", "[" * 300 + "]" * 300, "{a: " * 200 + "1" + "}" * 200, "," * 50),
    *("${", "${}", "${seed}", "${oc.env:NOWHERE}", "${oc.env:HOME}", "${dataset}", "${nothing:1}", "${a.b.c}"),
    *(
        "../x",
        "./",
        "a/b",
        "%s%n",
        "\\",
        '"',
        "'",
        "''",
        "=",
        ":",
        ",",
        "+",
        "~",
        "++",
        "@",
        "#",
        " ",
        "\t",
        "\n",
        "\r\n",
    ),
    *(
        "\0",
        "\ufeff",
        "\u202e",
        "\u2028",
        "é",
        "e\u0301",
        "💥",
        "\ud7ff",
        "١٢",
        "½",
        "a" * 300,
        "&a [*a]",
        "*a",
        "!!python/name:os.system",
    ),
)


def spoilt(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """`content` with 1 to 4 things done to it: mostly bits and numbers, sometimes whole stretches.

    Args:
        other: another valid file, of which stretches are put in.
    """
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice(DEEDS)(data, rng, other)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere; half of them near the beginning, where headers are."""
    return rng.randrange(max(1, min(len(data), rng.choice([64, 600, len(data), len(data)]))))


def _flip(data: bytearray, rng: random.Random, other: bytes) -> None:
    for _ in range(rng.choice([1, 1, 8])):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random, other: bytes) -> None:
    """A number where perhaps another one was: a size, an offset, a count."""
    width, order = rng.choice([("B", ""), ("H", "<"), ("H", ">"), ("I", "<"), ("I", ">")])
    value = rng.choice([*NUMBERS, rng.getrandbits(32)])
    packed = struct.pack(order + width, value % (1 << 8 * struct.calcsize(width)))
    at = _place(data, rng)
    data[at : at + (len(packed) if rng.random() < 0.8 else 0)] = packed


def _cut(data: bytearray, rng: random.Random, other: bytes) -> None:
    del data[_place(data, rng) :]


def _leave_out(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice([1, 4, 64, 1000])]


def _splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    at, start = _place(data, rng), rng.randrange(max(1, len(other)))
    data[at:at] = other[start : start + rng.choice([4, 100, 5000])]


def _swap(data: bytearray, rng: random.Random, other: bytes) -> None:
    """Two neighbouring stretches change places."""
    first, second, third = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    data[first:third] = data[second:third] + data[first:second]


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice([1, 12, 500])] * rng.choice([1, 2, 50])


def _blank(data: bytearray, rng: random.Random, other: bytes) -> None:
    at, length = _place(data, rng), rng.choice([4, 100, 5000])
    data[at : at + length] = rng.choice([b"\0", b"\xff"]) * len(data[at : at + length])


DEEDS = (_flip, _flip, _number, _number, _number, _cut, _leave_out, _splice, _swap, _repeat, _blank)


def misspelt(text: str, rng: random.Random, words: Sequence[str] = WORDS) -> str:
    """`text` with odd words in it, in place of some of its own, or with its own in another order."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([0, 1, 1, 3, 10]))
        kind = rng.random()
        if kind < 0.45:
            text = text[:at] + rng.choice(words) + text[end:]
        elif kind < 0.6 and "=" in text:
            text = text.partition("=")[0] + "=" + rng.choice(words)
        elif kind < 0.7:
            text = text[:at]
        elif kind < 0.8:
            text = text[:at] + text[end:]
        elif kind < 0.9:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[other : other + rng.choice([1, 5, 30])] + text[at:]
        else:
            text = text[:at] + chr(rng.choice([rng.randrange(1, 128), rng.randrange(0x10FFFF)])) + text[at:]
    return text.encode("utf-8", "replace").decode()  # without halves of pairs
