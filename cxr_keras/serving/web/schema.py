"""What the API answers, as its OpenAPI document describes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

IMAGE_TYPES = "a PNG, JPEG or DICOM file"


class Box(BaseModel):
    """A box around a finding, as shares of the image's width and height."""

    label: str
    x: float
    y: float
    width: float
    height: float


class Boxes(BaseModel):
    """The boxes of an image."""

    boxes: list[Box]


class Truth(BaseModel):
    """What the data set named by --truth says of an image of this name."""

    findings: list[str]
    boxes: list[Box]


class Result(BaseModel):
    """What a network says of one file."""

    model_config = ConfigDict(extra="allow")  # of DICOM files: patient_id, sex, age, view …

    name: str = Field(description="of the file, as it was sent")
    findings: list[str] = Field(description="at or above their threshold, most probable first")
    label_set: list[str] | None = Field(description="of a guarantee, if the network has one")
    probabilities: dict[str, float]
    familiarity: float | None = Field(description="how usual the image is to the network, 0…1")
    unlike_training: bool | None
    warnings: list[str]
    error: str | None = Field(description="why the file could not be read")
    truth: Truth | None


class Predictions(BaseModel):
    """An answer a file, in the order in which they were sent."""

    run: str
    results: list[Result]


class Run(BaseModel):
    """A network that is served."""

    model_config = ConfigDict(extra="allow")

    name: str
    labels: list[str]
    normal: str | None
    thresholds: list[float]
    size: int
    fit: str
    notice: str
    limits: list[str]


class Model(BaseModel):
    """The networks, and what the server takes."""

    version: str
    notice: str
    methods: list[str]
    max_files: int
    max_bytes: int
    runs: list[Run]


class ProblemDetails(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def form_of(field: str, *, several: bool) -> dict[str, Any]:
    """The OpenAPI description of a form with files."""
    file = {"type": "string", "format": "binary", "description": IMAGE_TYPES}
    schema = {
        "type": "object",
        "required": [field],
        "properties": {field: {"type": "array", "items": file} if several else file},
    }
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
