"""Predictions as DICOM objects that refer to the image they are of.

A Structured Report (Measurement Report, TID 1500) holds every label's probability and threshold; a
secondary capture shows a heat map. Both belong to the image's patient and study, in a series of
their own, and say in words that they are for research. highdicom writes them.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_keras import __version__
from cxr_keras.data.dicom import is_dicom, pydicom
from cxr_keras.data.readers.harmonised import same_finding
from cxr_keras.errors import CxrError
from cxr_keras.inference.files import Prediction
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.files import atomic_file, make_parent, part_of_file_name

if TYPE_CHECKING:
    from pydicom import Dataset

RESEARCH = "For research use only. No medical device. Not for diagnosis."
SERIES = "cxr-keras (research use only)"
SCHEME = "99CXRKERAS"  # of concepts that DICOM's own dictionary has no code for
_REPORTS, _CAPTURES = 9001, 9002  # series numbers
# What DICOM's dictionary (PS3.16) has of SNOMED CT for NIH's findings
_SNOMED = {
    "Effusion": ("60046008", "Pleural effusion"),
    "Pneumothorax": ("36118008", "Pneumothorax"),
    "Edema": ("19242006", "Pulmonary edema"),
    "Mass": ("4147007", "Mass"),
    "Nodule": ("27925004", "Nodule"),
    "Fibrosis": ("112674009", "Fibrosis"),
}
_CODE_LETTERS = 16  # of a code value, which is a short string (SH)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


@dataclass(frozen=True)
class Algorithm:
    """What made an answer.

    Attributes:
        network: the name of the architecture, such as "resnet18".
        digest: SHA-256 of the model file, in hexadecimal digits.
    """

    network: str
    digest: str

    @classmethod
    def of(cls, file: Path, card: Card) -> Algorithm:
        """That of a model file."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return cls(str(card.settings.get("model", "network")), digest)


def highdicom() -> Any:
    """The package highdicom.

    Raises:
        CxrError: it is not installed.
    """
    pydicom()
    try:
        import highdicom as package
    except ImportError as error:
        raise CxrError(
            'DICOM reports need highdicom, of the extra dicom: pip install "cxr-keras[dicom]".'
        ) from error
    return package


def source_of(row: Prediction) -> Dataset | None:
    """The header of the DICOM file that a row is of; None for a file that is none."""
    if not is_dicom(row.path):
        return None
    dicom = pydicom()
    source: Dataset = dicom.dcmread(row.path, stop_before_pixels=True, force=True)
    for name in _EMPTY:
        setattr(source, name, _usable(name, source.get(name)))
    sets = source.get("SpecificCharacterSet")
    if sets:  # a first one that is empty stands for plain ASCII
        several = [sets] if isinstance(sets, str) else list(sets)
        plain = "ISO 2022 IR 6" if len(several) > 1 else "ISO_IR 6"
        source.SpecificCharacterSet = [name or plain for name in several]
    return source


def _usable(name: str, value: Any) -> Any:
    """An element's value, or nothing where a report could not repeat it."""
    if value is None or (name == "PatientSex" and value not in ("M", "F", "O")):
        return ""
    forms = {"DA": r"\d{8}", "TM": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"}
    form = forms.get(pydicom().datadict.dictionary_VR(name))
    if form and not re.fullmatch(form, str(value)):
        return ""
    return value


def structured_report(
    row: Prediction,
    source: Dataset,
    card: Card,
    algorithm: Algorithm,
    *,
    uid: str | None = None,
    series: str | None = None,
) -> Dataset:
    """A Measurement Report (TID 1500) of one row, as an Enhanced SR.

    Args:
        row: the prediction.
        source: of `source_of`.
        card: of the network.
        algorithm: what made it.
        uid: of the report; by default a new one.
        series: of its series; by default a new one.
    """
    hd = highdicom()
    _check_source(source)
    made_by = hd.sr.AlgorithmIdentification(
        name=f"cxr-keras {algorithm.network}",
        version=__version__,
        parameters=[RESEARCH, f"model SHA-256 {algorithm.digest}", *_said(row)],
    )
    image = hd.sr.SourceImageForMeasurementGroup.from_source_image(source)
    limits = dict(zip(card.labels, card.thresholds, strict=True))
    groups = [
        _group(hd, label, value, limits[label], image, made_by)
        for label, value in row.probabilities.items()
    ]
    observer = hd.sr.ObserverContext(
        observer_type=_code(hd, "DCM", "121007", "Device"),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uid_of(algorithm.digest),
            name="cxr-keras",
            manufacturer_name="cxr-keras",
            model_name=f"cxr-keras {__version__} {algorithm.network}",
            serial_number=algorithm.digest[:16],
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_code(hd, SCHEME, "CHESTXRAY", "Chest radiography"),
        imaging_measurements=groups,
    )
    return hd.sr.EnhancedSR(
        evidence=[source],
        content=content[0],
        series_instance_uid=series or hd.UID(),
        series_number=_REPORTS,
        sop_instance_uid=uid or hd.UID(),
        instance_number=1,
        manufacturer="cxr-keras",
        manufacturer_model_name=algorithm.network,
        device_serial_number=algorithm.digest[:16],
        software_versions=__version__,
        series_description=SERIES,
        is_complete=True,
        is_final=False,
    )


def secondary_capture(
    picture: np.ndarray, label: str, source: Dataset, algorithm: Algorithm
) -> Dataset:
    """A picture as a Secondary Capture that refers to its source.

    Args:
        picture: uint8 (h, w, 3), with its words burned in.
        label: whose heat map it shows.
        source: of `source_of`.
        algorithm: what made it.
    """
    hd, dicom = highdicom(), pydicom()
    _check_source(source)
    capture = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # emptied below: nobody says how the film was shown
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=hd.UID(),
        series_number=_CAPTURES,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="cxr-keras",
        patient_id=source.PatientID,
        patient_name=source.PatientName,
        patient_birth_date=source.PatientBirthDate,
        patient_sex=source.PatientSex or None,
        accession_number=source.AccessionNumber,
        study_id=source.StudyID,
        study_date=source.StudyDate,
        study_time=source.StudyTime,
        referring_physician_name=source.ReferringPhysicianName,
    )
    capture.SeriesDescription, capture.BodyPartExamined = SERIES, "CHEST"
    capture.PatientOrientation = ""
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.DerivationDescription = f"Heat map of {label}. {RESEARCH}"
    capture.ManufacturerModelName = algorithm.network
    capture.DeviceSerialNumber = algorithm.digest[:16]
    capture.SoftwareVersions = __version__
    reference = dicom.Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    purpose = dicom.Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    reference.PurposeOfReferenceCodeSequence = [purpose]
    capture.SourceImageSequence = [reference]
    return capture


def _check_source(source: Dataset) -> None:
    """Refuse a source that nothing can refer to.

    Raises:
        DicomError: it lacks a UID.
    """
    for name in _NEEDED:
        if not source.get(name):
            raise DicomError(f"its header lacks {name}")


class DicomError(CxrError):
    """An image whose header a DICOM object cannot refer to."""


def encoded(make: Callable[[], Dataset]) -> bytes:
    """A DICOM object as the bytes of its file.

    Args:
        make: makes the object.

    Raises:
        DicomError: the source's header has something in it that the object cannot have. What it
            is stands in no message: it may be a name.
    """
    buffer = BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote names that have not today's form
            make().save_as(buffer, enforce_file_format=True)
    except DicomError:
        raise
    except Exception as error:  # a header can hold anything
        raise DicomError(
            f"its header has a value that no report can repeat ({type(error).__name__})"
        ) from None
    return buffer.getvalue()


def uid_of(*parts: str) -> str:
    """A UID that is the same for the same words (2.25 and a number of 128 bits)."""
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return f"2.25.{int(digest[:32], 16)}"


class Answers:
    """Writes DICOM objects beside each row, as `predict --dicom-sr` and `--dicom-heatmaps` do.

    Args:
        card: of the network.
        algorithm: what predicts.
        names: file → the beginning of its objects' names, see `prediction.picture_names`.
        reports: folder for Structured Reports; None for none.
        captures: folder for secondary captures; None for none.
    """

    def __init__(
        self,
        card: Card,
        algorithm: Algorithm,
        names: dict[Path, str],
        reports: PathLike | None,
        captures: PathLike | None,
    ):
        highdicom()
        self._card, self._algorithm, self._names = card, algorithm, names
        self._reports = None if reports is None else Path(reports)
        self._captures = None if captures is None else Path(captures)

    def report(self, row: Prediction) -> Prediction:
        """Write a row's report; the row, which says it where there can be none."""
        if self._reports is None:
            return row
        target = self._reports / f"{self._names[row.path]}.sr.dcm"
        return self._write(
            row, target, lambda source: structured_report(row, source, self._card, self._algorithm)
        )

    def capture(self, row: Prediction, label: str, picture: np.ndarray) -> Prediction:
        """Write a picture of a row's heat map, see `secondary_capture`."""
        if self._captures is None:
            return row
        target = self._captures / f"{self._names[row.path]}.{part_of_file_name(label)}.dcm"
        return self._write(
            row, target, lambda source: secondary_capture(picture, label, source, self._algorithm)
        )

    def _write(
        self, row: Prediction, target: Path, make: Callable[[Dataset], Dataset]
    ) -> Prediction:
        said = "no DICOM, so no DICOM object is written"
        source = source_of(row)
        if source is not None:
            try:
                content = encoded(partial(make, source))
            except DicomError as error:
                said = f"no DICOM object is written: {error}"
            else:
                make_parent(target)
                with atomic_file(target) as temporary:
                    temporary.write_bytes(content)
                return row
        return row if said in row.warnings else replace(row, warnings=(*row.warnings, said))


def _group(hd: Any, label: str, value: float, limit: float, image: Any, algorithm: Any) -> Any:
    """One label: its probability, the threshold, and whether it is reached."""
    finding = finding_code(hd, label)
    ratio = _code(hd, "UCUM", "1", "no units")
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=hd.UID(), identifier=f"{label} (research use only)"
        ),
        finding_type=finding,
        algorithm_id=algorithm,
        measurements=[
            hd.sr.Measurement(
                name=_code(hd, "DCM", "122157", "Probability"), value=round(value, 6), unit=ratio
            ),
            hd.sr.Measurement(
                name=_code(hd, SCHEME, "THRESHOLD", "Threshold"), value=round(limit, 6), unit=ratio
            ),
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(
                name=_code(hd, SCHEME, "REACHED", "At or above its threshold"),
                value=_code(hd, "SCT", "373066001", "Yes")
                if value >= limit
                else _code(hd, "SCT", "373067005", "No"),
            )
        ],
        source_images=[image],
    )


def finding_code(hd: Any, label: str) -> Any:
    """What a label is called in a report: SNOMED's code of it, else a code of this program."""
    known = next((code for name, code in _SNOMED.items() if same_finding(name, label)), None)
    if known:
        return _code(hd, "SCT", *known)
    value = "".join(letter for letter in label.upper() if letter.isalnum())
    if not 0 < len(value) <= _CODE_LETTERS:  # two labels must not become one
        end = hashlib.sha256(label.encode()).hexdigest()[:6].upper()
        value = value[: _CODE_LETTERS - len(end)] + end
    return _code(hd, SCHEME, value, label[:64])


def _code(hd: Any, scheme: str, value: str, meaning: str) -> Any:
    return hd.sr.CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def _said(row: Prediction) -> list[str]:
    """What the guard and the image say."""
    said = [] if row.familiarity is None else [f"familiarity of the image {row.familiarity:.4f}"]
    said += ["unlike the images of training: do not believe it"] if row.unlike_training else []
    return said + list(row.warnings)
