"""Label files as other readers see them, and the damage that some of them let pass."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segmenter_pl.data.dataset import UnreadableError
from segmenter_pl.data.pairs import read_label, read_picture


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", [0, 3])  # grey, palette
def test_every_depth_keeps_its_values(tmp_path, bits, kind):
    """Pillow stretches grey values of 2 and 4 bits to 0…255."""
    ids = np.random.default_rng(bits).integers(0, 2**bits, (5, 16), dtype=np.uint8)
    digits = np.unpackbits(ids[..., None], axis=2)[..., -bits:]
    rows = np.packbits(digits.reshape(5, -1), axis=1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 5, bits, kind, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(range(3)) * 2**bits) if kind == 3 else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    path = tmp_path / "label.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + palette + data + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_label(path), ids)


@pytest.mark.parametrize("reader", [read_label, read_picture])
def test_no_flipped_bit_of_a_grey_png_gives_other_pixels(tmp_path, reader, capfd):
    """Pillow lets some of them pass."""
    path = tmp_path / "label.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 5, (12, 17), dtype=np.uint8)).save(path)
    good, whole = path.read_bytes(), reader(path)
    found = 0
    for at in range(8, len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            np.testing.assert_array_equal(reader(path), whole)
        except UnreadableError:
            found += 1
    assert found > 0.9 * (len(good) - 8)
    capfd.readouterr()  # libpng writes its own complaints


def test_a_damaged_palette_header_is_damage(tmp_path):
    path = tmp_path / "label.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P").save(path)
    data = bytearray(path.read_bytes())
    data[11] ^= 1  # the length of the header, at which Pillow raises a ValueError of its own
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"label.png is damaged"):
        read_label(path)


def test_sizes_beyond_what_is_read_are_told(tmp_path):
    """A header that claims 100000x100000 pixels: neither library reads it, and neither's own error gets out."""
    size = (100000).to_bytes(4, "big")
    for kind, name in ((0, "grey"), (3, "palette"), (2, "rgb")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + bytes([8, kind, 0, 0, 0])) + bytes(50))
        with pytest.raises(UnreadableError, match=rf"{name}\.png"):
            (read_picture if kind == 2 else read_label)(path)


def test_tiffs_of_more_than_three_channels(tmp_path):
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "CMYK").save(tmp_path / "four.tif")
    with pytest.raises(UnreadableError, match=r"four\.tif has 4 channels of 8 bits: only grey and RGB pictures"):
        read_picture(tmp_path / "four.tif")
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    for mode, array in (("RGB", values[..., :3]), ("RGBA", values), ("I;16", values[..., 0].astype(np.uint16) << 8)):
        Image.fromarray(array).save(tmp_path / f"{mode[0]}.tif")
        expected = values[..., :3] if mode.startswith("RGB") else np.repeat(values[..., :1], 3, axis=2)
        np.testing.assert_array_equal(read_picture(tmp_path / f"{mode[0]}.tif"), expected)
