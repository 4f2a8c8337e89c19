"""DICOM files as images: each trap of the standard, and files that are no radiograph."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_files import (
    SECRET_ID,
    SECRET_NAME,
    as_bytes,
    encode_by_gdcm,
    film,
    lookup,
    shown_slowly,
    written,
)
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.data.dicom import (
    BURNED_IN,
    FOR_PROCESSING,
    files_of_directory,
    is_dicom,
    read_dicom,
)
from cxr_keras.data.images import find_image_files, read_image, read_radiograph
from cxr_keras.errors import DataError, ImageError

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")

RAMP = (np.arange(24 * 20).reshape(24, 20) * 8 + 37).astype("uint16")  # 37 … 3869


LARGE = np.tile(RAMP, (4, 5))  # encoders of JPEG 2000 ask for some size


def shown(dataset, tmp_path):
    return read_dicom(written(dataset, tmp_path / "film")).pixels


def assert_like(pixels, expected, levels=0.51):
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(float), expected, atol=levels)


WINDOWS = [
    ({}, {}),
    ({"WindowCenter": 2000, "WindowWidth": 1500}, {"window": (2000, 1500)}),
    ({"WindowCenter": [2000, 100], "WindowWidth": [1500, 50]}, {"window": (2000, 1500)}),
    (
        {"WindowCenter": 900.5, "WindowWidth": 700.25, "VOILUTFunction": "LINEAR_EXACT"},
        {"window": (900.5, 700.25), "function": "LINEAR_EXACT"},
    ),
    (
        {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"window": (1800, 900), "function": "SIGMOID"},
    ),
    ({"WindowCenter": 2000, "WindowWidth": 1}, {"window": (2000, 1.0000001)}),
    ({"WindowCenter": 2000, "WindowWidth": 0}, {}),  # no window at all
    ({"WindowCenter": 2000}, {}),
    ({"RescaleSlope": 0.5, "RescaleIntercept": -1000}, {"slope": 0.5, "intercept": -1000}),
    ({"RescaleSlope": "", "RescaleIntercept": ""}, {}),
    ({"RescaleIntercept": -1000}, {"intercept": -1000}),
    ({"PixelRepresentation": None}, {}),
    (
        {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 500, "WindowWidth": 3000},
        {"slope": 2, "intercept": -1024, "window": (500, 3000)},
    ),
]


@pytest.mark.parametrize(("elements", "expected"), WINDOWS, ids=str)
@pytest.mark.parametrize(
    ("inversion", "inverted"),
    [
        ({}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "IDENTITY"}, False),
    ],
    ids=["plain", "MONOCHROME1", "INVERSE", "both", "IDENTITY"],
)
def test_windows_and_inversion(elements, expected, inversion, inverted, tmp_path):
    found = shown(film(RAMP, **elements, **inversion), tmp_path)
    assert_like(found, shown_slowly(RAMP, **expected, invert=inverted))


def test_signed_values(tmp_path):
    values = RAMP.astype("int16") - 2000
    window = {"WindowCenter": -200, "WindowWidth": 2600}
    assert_like(shown(film(values, **window), tmp_path), shown_slowly(values, window=(-200, 2600)))
    few = film(values & 0x1FFF, BitsStored=13, PixelRepresentation=1, **window)  # 13 bits, signed
    assert_like(shown(few, tmp_path), shown_slowly(values, window=(-200, 2600)))


def test_bits_that_are_not_the_image_s(tmp_path):
    overlay = np.where(RAMP % 3 == 0, 0xA000, 0x5000).astype("uint16")
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    expected = shown_slowly(RAMP, window=(2048, 4096))
    assert_like(shown(film(RAMP | overlay, BitsStored=12, **window), tmp_path), expected)
    shifted = film((RAMP << 4) | 0x000B, BitsStored=12, HighBit=15, **window)
    assert_like(shown(shifted, tmp_path), expected)


def test_eight_bits_and_thirty_two(tmp_path):
    small = (RAMP >> 4).astype("uint8")
    assert_like(shown(film(small), tmp_path), shown_slowly(small))
    large = RAMP.astype("uint32") * 70_000
    assert_like(shown(film(large), tmp_path), shown_slowly(large))


def test_a_modality_lut(tmp_path):
    table = np.arange(4096) ** 2 // 4096
    made = film(RAMP, ModalityLUTSequence=lookup(table, 0, 16))
    made.ModalityLUTSequence[0].ModalityLUTType = "US"
    assert_like(shown(made, tmp_path), shown_slowly(table[RAMP]))


@pytest.mark.parametrize(
    ("entries", "said", "true"),
    [
        (np.arange(4096), 12, 4095),
        (np.arange(4096), 16, 4095),  # says 16, holds 12
        (np.arange(4096), 8, 4095),  # says 8, holds 12
        (np.arange(4096) // 4, 16, 1023),
        (np.arange(4096) * 16, 16, 65535),
        (np.arange(4096) * 3 // 4, 12, 4095),  # uses the last bit, if not all of it
    ],
    ids=["true", "16 for 12", "8 for 12", "16 for 10", "16", "most of 12"],
)
def test_a_voi_lut_whose_descriptor_may_lie(entries, said, true, tmp_path):
    made = film(RAMP, VOILUTSequence=lookup(entries, 0, said), WindowCenter=1, WindowWidth=2)
    assert_like(shown(made, tmp_path), entries[RAMP] / true * 255)


def test_a_voi_lut_begins_somewhere_and_ends(tmp_path):
    entries = np.arange(256)
    made = film(RAMP.astype("int16") - 2000, VOILUTSequence=lookup(entries, -100, 8))
    expected = np.clip(RAMP.astype(int) - 2000 + 100, 0, 255)
    assert_like(shown(made, tmp_path), expected)
    packed = film(RAMP, VOILUTSequence=lookup(entries, 1000, 8, word=False))
    assert_like(shown(packed, tmp_path), np.clip(RAMP.astype(int) - 1000, 0, 255))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(photometric, tmp_path):
    values = RAMP.copy()
    values[:, :3] = 65535
    made = film(values, PixelPaddingValue=65535, PhotometricInterpretation=photometric)
    found = shown(made, tmp_path)
    assert not found[:, :3].any()
    expected = shown_slowly(RAMP[:, 3:], invert=photometric == "MONOCHROME1")
    assert_like(found[:, 3:], expected)


def test_an_image_of_one_value(tmp_path):
    assert not shown(film(np.full((9, 9), 700, "uint16")), tmp_path).any()


def compressed(dataset, name):
    """The bytes of the data set in another transfer syntax."""
    if name == "DeflatedExplicitVRLittleEndian":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    else:
        dataset.compress(getattr(pydicom.uid, name))
    return as_bytes(dataset)


@pytest.mark.parametrize(
    "name",
    ["JPEG2000Lossless", "RLELossless", "JPEGLSLossless", "DeflatedExplicitVRLittleEndian"],
)
def test_compressed_without_loss(name, tmp_path):
    elements = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 3000}
    plain = shown(film(LARGE, **elements), tmp_path)
    (tmp_path / "small").write_bytes(compressed(film(LARGE, **elements), name))
    np.testing.assert_array_equal(read_dicom(tmp_path / "small").pixels, plain)


def test_high_throughput_jpeg_2000(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs", reason="nothing here writes HTJ2K")
    plain = film(LARGE, BitsStored=12, WindowCenter=2000, WindowWidth=3000)
    expected = shown(plain, tmp_path)
    stream = imagecodecs.htj2k_encode(LARGE, reversible=True)
    plain.PixelData = pydicom.encaps.encapsulate([bytes(stream)])
    plain["PixelData"].VR = "OB"
    plain.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
    np.testing.assert_array_equal(shown(plain, tmp_path), expected)


def test_jpeg_by_an_independent_encoder(tmp_path):
    for kind, values, levels in (
        ("JPEGLosslessProcess14_1", RAMP >> 4 << 4, 0),
        ("JPEGExtendedProcess2_4", (LARGE >> 4).astype("uint8"), 6),
        ("JPEGBaselineProcess1", (LARGE >> 4).astype("uint8"), 6),
    ):
        bits = 8 if values.dtype == np.uint8 else 12
        plain = written(film(values, BitsStored=bits), tmp_path / "plain")
        encode_by_gdcm(plain, tmp_path / "small", kind)
        found = read_dicom(tmp_path / "small").pixels
        assert_like(found, read_dicom(plain).pixels.astype(float), levels)


def test_jpeg_of_12_bits_is_not_read(tmp_path):
    plain = written(film(LARGE, BitsStored=12), tmp_path / "plain")
    encode_by_gdcm(plain, tmp_path / "small", "JPEGExtendedProcess2_4")
    assert "compressed in a way that is not read" in refusal(read_dicom, tmp_path / "small")


def test_a_damaged_image_that_ends_its_decoder_ends_no_more(tmp_path):
    """GDCM aborts at some files; the next file is read all the same."""
    plain = written(film(RAMP), tmp_path / "plain")
    encode_by_gdcm(plain, tmp_path / "good", "JPEGLosslessProcess14_1")
    content = (tmp_path / "good").read_bytes()
    start = content.rindex(b"\xff\xda")
    for at in range(start, start + 12, 3):
        (tmp_path / "bad").write_bytes(content[:at] + b"\xff\xff\x00\x01" + content[at + 4 :])
        with contextlib.suppress(ImageError):
            read_dicom(tmp_path / "bad")
    (tmp_path / "bad").write_bytes(content[:start])
    assert "damaged" in refusal(read_dicom, tmp_path / "bad")
    assert_like(read_dicom(tmp_path / "good").pixels, shown_slowly(RAMP))


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("preamble", [True, False])
def test_every_byte_order_with_and_without_preamble(implicit, little, preamble, tmp_path):
    from pydicom import uid

    made = film(RAMP.astype("<u2" if little else ">u2"))
    made.file_meta.TransferSyntaxUID = (
        uid.ImplicitVRLittleEndian
        if implicit
        else uid.ExplicitVRLittleEndian
        if little
        else uid.ExplicitVRBigEndian
    )
    if not preamble:
        if not little:
            pytest.skip("a file of the retired byte order without a header is no file of today")
        del made.file_meta
        options = {"enforce_file_format": False, "implicit_vr": implicit, "little_endian": True}
    else:
        options = {}
    path = written(made, tmp_path / "film", **options)
    assert is_dicom(path)
    assert_like(read_dicom(path).pixels, shown_slowly(RAMP))


def test_the_header_s_identifiers(tmp_path):
    found = read_dicom(written(film(RAMP), tmp_path / "film"))
    assert found.header == {
        "patient_id": SECRET_ID,
        "sex": "F",
        "age": "61",
        "view": "PA",
        "pixel_spacing_mm": "0.143",
    }
    bare = film(RAMP, **dict.fromkeys(("PatientID", "PatientSex", "ViewPosition"), None))
    bare.PatientAge, bare.ImagerPixelSpacing = "006M", None
    assert read_dicom(written(bare, tmp_path / "film")).header == {"age": "0.5"}


@pytest.mark.parametrize(
    ("elements", "warnings"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, (FOR_PROCESSING,)),
        ({"PresentationIntentType": "FOR PRESENTATION", "BurnedInAnnotation": "NO"}, ()),
        ({"BurnedInAnnotation": "YES"}, (BURNED_IN,)),
        ({"ViewPosition": "LL"}, ("a lateral view",)),
    ],
    ids=["processing", "presentation", "burned in", "lateral"],
)
def test_what_a_film_warns_of(elements, warnings, tmp_path):
    found = read_radiograph(written(film(RAMP, **elements), tmp_path / "film"))
    assert found.warnings == warnings


COLOUR = np.zeros((24, 20, 3), "uint8")


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, "its modality is CT"),
        ({"Modality": "MRN4711"}, "its modality is another"),
        ({"NumberOfFrames": 3}, "several frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image"),
        ({"Rows": 0}, "has no pixels"),
        ({"Rows": 65535, "Columns": 65535}, "megapixels"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "neither 8, 16 nor 32 bits"),
        ({"Rows": 48}, "cannot be decoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_radiograph_says_why(elements, reason, tmp_path):
    text = refusal(read_dicom, written(film(RAMP, **elements), tmp_path / "film"))
    assert reason in text
    assert text.startswith(str(tmp_path / "film"))
    report = film(RAMP)
    del report.PixelData
    assert "holds no image" in refusal(read_dicom, written(report, tmp_path / "report"))


def test_a_compressed_image_of_another_size_is_not_decoded(tmp_path):
    """A decoder believes the compressed image: a small file may ask for gigabytes."""
    for name in ("JPEG2000Lossless", "JPEGLSLossless"):
        made = film(LARGE)
        made.compress(getattr(pydicom.uid, name))
        made.Rows = 12
        text = refusal(read_dicom, written(made, tmp_path / "film"))
        assert "of another size than its header says" in text


def test_header_values_are_one_short_line(tmp_path):
    made = film(RAMP, PatientID="MRN\r\n=1+1 " + "x" * 500, PatientAge="9" * 400 + "Y")
    found = read_dicom(written(made, tmp_path / "film")).header
    assert found["patient_id"].startswith("MRN =1+1 x")
    assert len(found["patient_id"]) == 64
    assert "age" not in found


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = written(film(RAMP), tmp_path / "film")
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: (_ for _ in ()).throw(OSError(5, "bad sector"))
    )
    assert refusal(read_dicom, path) == f"{path}: bad sector."


@pytest.mark.parametrize("name", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"])
def test_bits_above_those_of_a_compressed_image_do_not_count(name, tmp_path):
    plain = film(LARGE, BitsStored=12, WindowCenter=2000, WindowWidth=3000)
    expected = shown(plain, tmp_path)
    made = film(LARGE | 0x4000)  # 16 bits are encoded, of which 12 are the image's
    made.WindowCenter, made.WindowWidth = 2000, 3000
    made.compress(getattr(pydicom.uid, name))
    made.BitsStored, made.HighBit = 12, 11
    np.testing.assert_array_equal(shown(made, tmp_path), expected)
    made.BitsStored, made.HighBit = 12, 15
    if name == "RLELossless":
        made = film(LARGE << 4, WindowCenter=2000, WindowWidth=3000)
        made.compress(pydicom.uid.RLELossless)
        made.BitsStored, made.HighBit = 12, 15
        np.testing.assert_array_equal(shown(made, tmp_path), expected)
    else:
        assert "its bits lie where" in refusal(shown, made, tmp_path)


def test_a_compressed_image_that_hides_its_size(tmp_path):
    made = film(LARGE)
    made.compress(pydicom.uid.JPEG2000Lossless)
    frame = next(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=1))
    for hidden in (
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + frame,
        frame[2:],
        frame[:40] + b"\0\3" + frame[42:],
    ):
        made.PixelData = pydicom.encaps.encapsulate([hidden])
        text = refusal(read_dicom, written(made, tmp_path / "film"))
        assert "of another size than its header says" in text


def test_an_offset_table_does_not_lead_elsewhere(tmp_path):
    made = film(LARGE)
    made.compress(pydicom.uid.JPEG2000Lossless)
    expected = shown(made, tmp_path)
    made.ExtendedOffsetTable = (10**6).to_bytes(8, "little")
    made.ExtendedOffsetTableLengths = (10**6).to_bytes(8, "little")
    np.testing.assert_array_equal(shown(made, tmp_path), expected)


def test_fill_bytes_in_a_compressed_image(tmp_path):
    made = film(LARGE)
    made.compress(pydicom.uid.JPEGLSLossless)
    frame = next(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=1))
    expected = shown(made, tmp_path)
    made.PixelData = pydicom.encaps.encapsulate([frame[:2] + b"\xff" + frame[2:]])
    np.testing.assert_array_equal(shown(made, tmp_path), expected)
    made.Rows = 12
    assert "another size" in refusal(read_dicom, written(made, tmp_path / "film"))


def test_a_file_that_inflates_without_end(tmp_path, monkeypatch):
    from cxr_keras.data import codestream

    monkeypatch.setattr(codestream, "MAX_INFLATED_BYTES", 500)
    content = compressed(film(np.zeros((99, 99), "uint16")), "DeflatedExplicitVRLittleEndian")
    (tmp_path / "film").write_bytes(content)
    assert "inflates to more than" in refusal(read_dicom, tmp_path / "film")
    # a wrong length of the file meta information does not hide it
    (tmp_path / "film").write_bytes(content[:140] + bytes(4) + content[144:])
    assert "inflates to more than" in refusal(read_dicom, tmp_path / "film")


def test_a_read_that_was_interrupted_does_not_shift_the_next(tmp_path, monkeypatch):
    paths = []
    for number in (1, 2):
        plain = written(film(RAMP // number), tmp_path / f"plain{number}")
        encode_by_gdcm(plain, tmp_path / f"film{number}", "JPEGLosslessProcess14_1")
        paths.append(tmp_path / f"film{number}")
    expected = [read_dicom(path).pixels for path in paths]
    with monkeypatch.context() as patch:

        def interrupted(stream):
            raise KeyboardInterrupt

        patch.setattr("cxr_keras.data.gdcm_process.received", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_dicom(paths[0])
    np.testing.assert_array_equal(read_dicom(paths[1]).pixels, expected[1])


def test_nothing_is_imported_from_the_folder_of_the_films(tmp_path):
    plain = written(film(RAMP), tmp_path / "plain")
    encode_by_gdcm(plain, tmp_path / "film", "JPEGLosslessProcess14_1")
    (tmp_path / "pydicom.py").write_text("open('was_run', 'w')")
    code = "from cxr_keras.data.dicom import read_dicom; print(read_dicom('film').pixels.shape)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(24, 20)"
    assert not (tmp_path / "was_run").exists()


def test_sequences_in_sequences(tmp_path):
    from pydicom.dataset import Dataset

    inner = Dataset()
    for _ in range(400):
        outer = Dataset()
        outer.RequestAttributesSequence = [inner]
        inner = outer
    made = film(RAMP, RequestAttributesSequence=[inner])
    sys.setrecursionlimit(20_000)
    try:
        path = written(made, tmp_path / "film")
    finally:
        sys.setrecursionlimit(1000)
    try:
        assert_like(read_dicom(path).pixels, shown_slowly(RAMP))
    except Exception as error:
        assert "cannot be read as DICOM (RecursionError)" in str(error)  # noqa: PT017


def test_a_folder_of_studies_is_searched_by_content(tmp_path):
    (tmp_path / "study" / "series").mkdir(parents=True)
    for name in ("study/series/IM0001", "study/IM0002.dcm", "study/film.weird"):
        written(film(RAMP), tmp_path / name)
    Image.fromarray(np.zeros((9, 9), "uint8")).save(tmp_path / "study" / "plain.png")
    (tmp_path / "study" / "notes.txt").write_text("no image")
    (tmp_path / "study" / ".hidden").write_bytes(as_bytes(film(RAMP)))
    written(film(RAMP), tmp_path / "DICOMDIR")
    found = [path.relative_to(tmp_path).as_posix() for path in find_image_files(tmp_path)]
    assert found == [
        "study/IM0002.dcm",
        "study/film.weird",
        "study/plain.png",
        "study/series/IM0001",
    ]


def directory(tmp_path, *names):
    from pydicom.dataset import Dataset, FileMetaDataset

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    records = []
    for name in names:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        if name:
            record.ReferencedFileID = name
        records.append(record)
    made.DirectoryRecordSequence = records
    return written(made, tmp_path / "DICOMDIR")


def test_a_dicomdir_names_its_films(tmp_path):
    (tmp_path / "A").mkdir()
    written(film(RAMP), tmp_path / "A" / "IM2")
    written(film(RAMP), tmp_path / "IM1")
    path = directory(tmp_path, None, ["A", "IM2"], "IM1", "GONE")
    assert files_of_directory(path) == [tmp_path / name for name in ("A/IM2", "IM1", "GONE")]


@pytest.mark.parametrize("name", ["A\0B", "x" * 5000, ["A", "\0"]], ids=["nul", "long", "part"])
def test_a_dicomdir_of_nonsense_is_a_sentence_or_names_nothing(name, tmp_path):
    path = directory(tmp_path, name)
    try:
        assert not [file for file in files_of_directory(path) if file.exists()]
    except DataError as error:
        assert "cannot be read as a DICOMDIR" in str(error)  # noqa: PT017


def test_a_pipe_is_no_film(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")
    assert find_image_files(tmp_path) == []


@pytest.mark.parametrize("name", [["..", "..", "secret"], "/etc/passwd", ["A", "..", "..", "x"]])
def test_a_dicomdir_does_not_lead_out_of_its_folder(name, tmp_path):
    (tmp_path / "disc").mkdir()
    path = directory(tmp_path / "disc", name)
    assert "files outside its folder" in refusal(files_of_directory, path)


def test_no_error_names_the_patient(tmp_path):
    content = as_bytes(film(RAMP))
    for at in range(132, len(content), 7):
        damaged = content[:at] + b"\xff" + content[at + 1 :]
        (tmp_path / "film").write_bytes(damaged)
        try:
            read_image(tmp_path / "film")
        except Exception as error:
            text = str(error)
            assert not any(part in text for part in (*SECRET_NAME.split("^"), SECRET_ID)), text


@pytest.fixture(scope="module")
def chest():
    """pydicom-data's real chest radiograph: {"UNCR", "UNCI", "J2KR", "J2KI": its file}."""
    store = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    folder = store.__path__[0]
    return {name: f"{folder}/data/RG1_{name}.dcm" for name in ("UNCR", "UNCI", "J2KR", "J2KI")}


@pytest.mark.slow
def test_a_real_chest_radiograph_against_a_slow_reading(chest):
    dataset = pydicom.dcmread(chest["UNCR"])
    found = read_dicom(chest["UNCR"])
    assert found.header == {"patient_id": "9RG1", "sex": "F", "view": "PA"}
    part = (slice(600, 1000, 3), slice(500, 1200, 3))
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(1955, 1841)[part]
    assert_like(found.pixels[part], shown_slowly(stored, window=(15000, 30000), invert=True))
    np.testing.assert_array_equal(read_dicom(chest["J2KR"]).pixels, found.pixels)
    np.testing.assert_array_equal(
        read_dicom(chest["J2KI"]).pixels, read_dicom(chest["UNCI"]).pixels
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="dcmtk is not installed")
def test_a_real_chest_radiograph_against_dcmtk(chest, tmp_path):
    subprocess.run(["dcm2pnm", "+on", "+Wi", "1", chest["UNCR"], tmp_path / "film.png"], check=True)
    reference = np.asarray(Image.open(tmp_path / "film.png").convert("L"))
    assert_like(read_dicom(chest["UNCR"]).pixels, reference.astype(float), 1)
    as_png, as_dicom = (read_image(path) for path in (tmp_path / "film.png", chest["UNCR"]))
    assert_like(as_dicom, as_png.astype(float), 1)
