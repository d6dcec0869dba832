"""The report as JSON: all of it but the pictures."""

from collections.abc import Sequence
from typing import Any

from services.worker.reports.contents import DatasetReport, ReportImage, ReportPair


def describe_report(report: DatasetReport) -> dict[str, Any]:
    """What `dataset_report.json` holds; every finding is in it, however many there are."""
    return {
        "dataset": report.dataset,
        "version": report.version,
        "created": report.created,
        "headline": report.headline,
        "layout": report.layout,
        "detected": report.detected,
        "parent": report.parent,
        "steps": list(report.steps),
        "class_names": list(report.class_names),
        "masks": dict(report.masks),
        "ignored": [{"name": name, "reason": reason} for name, reason in report.ignored],
        "notes": list(report.notes),
        "summary": report.summary.model_dump(mode="json"),
        "rejected": _describe_images(report.rejected),
        "warned": _describe_images(report.warned),
        "leaks": [_describe_pair(pair) for pair in report.leaks],
        "duplicates": [_describe_pair(pair) for pair in report.duplicates],
    }


def _describe_images(images: Sequence[ReportImage]) -> list[dict[str, Any]]:
    return [
        {
            "name": image.name,
            "split": image.split,
            "height": image.height,
            "width": image.width,
            "problems": [problem.model_dump() for problem in image.problems],
        }
        for image in images
    ]


def _describe_pair(pair: ReportPair) -> dict[str, Any]:
    return {
        "kind": pair.kind,
        "text": pair.text,
        "first": pair.first.name,
        "second": pair.second.name,
        "splits": [pair.first.split, pair.second.split],
        "similarity": pair.similarity,
    }
