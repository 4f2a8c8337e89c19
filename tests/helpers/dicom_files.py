"""DICOM files made for a test, and the reading of one pixel after the other."""

import math
from io import BytesIO

import numpy as np

SECRET_NAME, SECRET_ID = "Miller^Josephine", "MRN-4711"


def film(pixels, **elements):
    """A CR data set of 16-bit unsigned pixels; `elements` change or add to it, None removes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = np.asarray(pixels)
    bits = pixels.dtype.itemsize * 8
    signed = int(pixels.dtype.kind == "i")
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    usual = {
        "Modality": "CR",
        "PatientName": SECRET_NAME,
        "PatientID": SECRET_ID,
        "PatientSex": "F",
        "PatientAge": "061Y",
        "ViewPosition": "PA",
        "ImagerPixelSpacing": [0.143, 0.143],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": elements.get("BitsStored", bits) - 1,
        "PixelRepresentation": signed,
    }
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OW"
    for name, value in (usual | elements).items():
        if value is not None:
            setattr(made, name, value)
    return made


def lookup(entries, first, bits, *, word=True):
    """A one-item LUT sequence; `bits` is what its descriptor says."""
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    item = Dataset()
    item.add(
        DataElement(0x00283002, "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    )
    data = np.asarray(entries, "<u2" if word else "u1").tobytes()
    item.add(DataElement(0x00283006, "OW", data))
    return [item]


def written(dataset, path, **options):
    """The data set as a file, by default with preamble and header; its path."""
    dataset.save_as(path, **({"enforce_file_format": True} | options))
    return path


def as_bytes(dataset):
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def encode_by_gdcm(source, target, kind):
    """The file in a transfer syntax that GDCM writes, such as "JPEGLosslessProcess14_1"."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(target))
    assert writer.Write()


def shown_slowly(stored, *, slope=1, intercept=0, window=None, function="LINEAR", invert=False):
    """What PS3.3 C.11.2.1.2 and C.11.2.1.3 make of one pixel after the other, in 0…255."""
    values = [[slope * int(v) + intercept for v in row] for row in stored]
    every = [v for row in values for v in row]

    def bright(x):
        if window is None:
            return (x - min(every)) / (max(every) - min(every))
        c, w = window
        if function == "SIGMOID":
            return 1 / (1 + math.exp(-4 * (x - c) / w))
        if function == "LINEAR_EXACT":
            if x <= c - w / 2:
                return 0
            return 1 if x > c + w / 2 else (x - c) / w + 0.5
        if x <= c - 0.5 - (w - 1) / 2:
            return 0
        if x > c - 0.5 + (w - 1) / 2:
            return 1
        return (x - (c - 0.5)) / (w - 1) + 0.5

    return np.array(
        [[255 * ((1 - bright(x)) if invert else bright(x)) for x in row] for row in values]
    )
