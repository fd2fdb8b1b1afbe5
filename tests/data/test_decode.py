"""Pictures as people see them: turned, on a background, of any depth and palette, first frames, and damaged ones."""

import warnings

import numpy as np
import pytest
from PIL import Image

from condense.data import sources
from condense.data.decode import Unreadable, decode, look
from condense.errors import UserError

SIGN = np.zeros((6, 8, 3), dtype=np.uint8)  # an asymmetric picture: red at the left of the top row
SIGN[0, :3] = (255, 0, 0)
SIGN[5, 7] = (0, 0, 255)


def pixels(file, background: int = 255, white: int = 65535, grey: bool = False) -> np.ndarray:
    return np.asarray(decode(file, grey, background, white))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_pictures_are_turned_by_their_exif_orientation(tmp_path, orientation, ending):
    """Case 4: EXIF orientation was ignored, so pictures were upside down or of another size."""
    back = {
        1: (0, False),
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (3, True),
        6: (1, False),
        7: (1, True),
        8: (3, False),
    }
    quarters, mirrored = back[orientation]
    stored = np.rot90(SIGN, quarters)
    stored = stored[:, ::-1] if mirrored else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored)).save(
        file, exif=exif, **({"lossless": True} if ending == "webp" else {})
    )
    np.testing.assert_array_equal(pixels(file), SIGN)
    found = look(file)
    assert found.size == (8, 6) and found.turned == (orientation != 1)


def test_turned_pictures_have_the_displayed_size(tmp_path):
    """Case 4: of one camera, held upright and across, were "2 different sizes"."""
    for name, shape, orientation in (("a", (4, 6), 6), ("b", (6, 4), 1)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        (tmp_path / name).mkdir()
        Image.new("L", shape[::-1]).save(tmp_path / name / "1.png", exif=exif)
    reading = sources.load(str(tmp_path)).reading
    assert dict(reading.sizes) == {(4, 6): 2} and reading.changed["turned as EXIF says"] == 1


def draw_rgba(file) -> None:
    alpha = np.zeros((4, 4, 4), dtype=np.uint8)
    alpha[:2, :, 3] = 255
    Image.fromarray(alpha, "RGBA").save(file)


def draw_la(file) -> None:
    alpha = np.zeros((4, 4, 2), dtype=np.uint8)
    alpha[:2, :, 1] = 255
    Image.fromarray(alpha, "LA").save(file)


def draw_palette(file) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 4, 2))
    image.putpalette([0, 0, 0, 40, 50, 60])
    image.save(file, transparency=1)


def draw_key_colour(file) -> None:
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.paste((0, 0, 0), (0, 0, 4, 2))
    image.save(file, transparency=(1, 2, 3))


def draw_grey_key(file) -> None:
    image = Image.new("L", (4, 4), 7)
    image.paste(0, (0, 0, 4, 2))
    image.save(file, transparency=7)


@pytest.mark.parametrize("draw", [draw_rgba, draw_la, draw_palette, draw_key_colour, draw_grey_key])
def test_a_shape_in_the_alpha_channel_is_seen(tmp_path, draw):
    """Case 4: a picture whose shape is in its transparency came out black."""
    file = tmp_path / "a.png"
    draw(file)
    assert look(file).transparent
    for level in (255, 0, 128):
        found = pixels(file, background=level)
        assert (found[:2] == 0).all() and (found[2:] == level).all()


def test_the_background_is_stated_and_can_be_another(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        draw_la(tmp_path / name / "1.png")
    source = sources.load(str(tmp_path))
    assert source.train.images[0, 3].max() == 255 and source.reading.changed == {"transparent, laid on white": 2}
    source = sources.load(str(tmp_path), background="black")
    assert source.train.images.max() == 0 and source.reading.changed == {"transparent, laid on black": 2}


def test_opaque_pictures_stay_what_they_are(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    noise[..., 3] = 255
    Image.fromarray(noise, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png", 0), noise[..., :3])


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(("largest", "white"), [(65535, 65535), (4095, 4095), (900, 1023)])
def test_16_bits_are_scaled(tmp_path, ending, largest, white):
    """Case 35: one 16-bit PNG stopped everything. As many bits as are used count: 12-bit cameras are not black."""
    levels = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(levels).save(tmp_path / name / f"1.{ending}")
    source = sources.load(str(tmp_path))
    np.testing.assert_array_equal(source.train.images[0, ..., 0], np.rint(levels * (255 / white)).astype(np.uint8))
    assert source.reading.changed == {f"16 bits per channel, scaled from 0..{white}": 2}


def test_cmyk_palettes_and_first_frames(tmp_path):
    """Case 4's kind: no colours inverted, of animations the first frame."""
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 12
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "a.gif")
    assert (pixels(tmp_path / "a.gif") == (200, 100, 50)).all()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for ending in ("gif", "png", "webp", "tif"):
        kind = {"lossless": True} if ending == "webp" else {}
        frames[0].save(tmp_path / f"b.{ending}", save_all=True, append_images=frames[1:], **kind)
        assert look(tmp_path / f"b.{ending}").frames and (pixels(tmp_path / f"b.{ending}") == (255, 0, 0)).all()
    assert not look(tmp_path / "a.gif").frames


def test_broken_exif_is_ignored(tmp_path):
    Image.fromarray(SIGN).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), SIGN)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_file_is_only_tried_as_a_picture(tmp_path, ending, monkeypatch):
    """Case 25's kind: an EPS called .png started Ghostscript from PATH."""
    file, mark = tmp_path / f"a.{ending}", tmp_path / "ghostscript ran"
    file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(Unreadable, match="none of the formats read"):
        decode(file, False, 255, 65535)
    assert not mark.exists()


def write_float(file) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(file.with_suffix(".tif"))
    file.with_suffix(".tif").rename(file)


def write_deep(file) -> None:
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(file.with_suffix(".tif"))
    file.with_suffix(".tif").rename(file)


@pytest.mark.parametrize(
    ("name", "write", "why"),
    [
        ("a.heic", lambda file: file.write_bytes(b"ftypheic"), r"\.heic pictures are not read; save it as \.jpg"),
        ("a.png", lambda file: file.write_bytes(b""), "it is empty"),
        ("a.png", lambda file: file.symlink_to("nowhere.png"), "a link to a file that does not exist"),
        ("a.png", lambda file: file.mkdir(), "no file"),
        ("a.tif", write_float, "floating-point"),
        ("a.tif", write_deep, "70000, need more than 16 bits"),
    ],
)
def test_why_a_file_cannot_be_read(tmp_path, name, write, why):
    write(tmp_path / name)
    with pytest.raises(Unreadable, match=why):
        look(tmp_path / name)


def test_oddities_of_headers_are_no_warnings(tmp_path):
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "a.png", transparency=b"\x00")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(tmp_path / "a.png") == 255).all()


def test_all_unreadable_files_are_reported_at_once_and_can_be_left_out(tmp_path):
    """Case 35: one unreadable file stopped everything, one file per run."""
    for number in range(6):
        place = tmp_path / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(noise).save(place)
    good = sources.load(str(tmp_path))
    cut = (tmp_path / "a/2.png").read_bytes()
    (tmp_path / "a/2.png").write_bytes(cut[: len(cut) - 30])  # its header is whole
    (tmp_path / "b/1.png").write_text("no picture")
    (tmp_path / "b/9.heic").write_bytes(b"a photo of a phone")
    told = r"3 of the 7 files in .* cannot be read.*: b/1\.png \(.*\), b/9\.heic \(.*\), a/2\.png \(.*\).*--skip-unr"
    with pytest.raises(UserError, match=told):
        sources.load(str(tmp_path))
    source = sources.load(str(tmp_path), skip_unreadable=True)
    assert source.files == ("a/0.png", "a/4.png", "b/3.png", "b/5.png")
    np.testing.assert_array_equal(source.train.images, good.train.images[[0, 2, 4, 5]])
    assert source.supervision.observed.tolist() == [0, 0, 1, 1]
    (why,) = source.reading.skipped
    assert why == "cannot be read" and len(source.reading.skipped[why]) == 3
    assert "3 files are left out (cannot be read): " in source.reading.notes[-1]


def test_an_unreadable_class_or_folder_is_refused_even_so(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no picture")
    with pytest.raises(UserError, match="2 of the 2 files"):
        sources.load(str(tmp_path), skip_unreadable=True)
    Image.new("L", (4, 4)).save(tmp_path / "a/1.png")
    with pytest.raises(UserError, match="no image is labelled 'b'"):
        sources.load(str(tmp_path), skip_unreadable=True)


def test_crop_pad_and_squash(tmp_path):
    """Case 41: of a 40x200 picture the centre crop loses most; pad and squash were missing."""
    tall = np.zeros((200, 40), dtype=np.uint8)
    tall[:100] = 200
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(tall).save(tmp_path / name / "1.png")
    crop, pad, squash = (
        sources.load(str(tmp_path), image_size=20, fit=fit).train.images[0, ..., 0] for fit in ("crop", "pad", "squash")
    )
    assert abs(int(crop[0, 0]) - 200) < 3 and crop[-1, 0] < 3, "the central square"
    assert (pad[:, :8] == 255).all() and (pad[:, 12:] == 255).all() and abs(int(pad[2, 10]) - 200) < 3
    assert pad[17, 10] < 3 and abs(int(squash[2, 10]) - 200) < 3 and squash[17, 10] < 3
    assert sources.load(str(tmp_path), image_size=20).reading.changed == {"brought to 20x20 (crop)": 2}
