"""A job as an RO-Crate: what was made, from what, with what, in terms that archives and repositories read.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) by the profile Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5):
Soiland-Reyes et al. 2022, "Packaging research artefacts with RO-Crate"; Leo et al. 2024, "Recording provenance of
workflow runs with RO-Crate".
"""

import json
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

NAME = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
# RO-Crate 1.1 has no term for a hash; that of the profile's vocabulary is named here.
CONTEXT = [f"{SPECIFICATION}/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
DEEDS = {"segment": "Segmentation", "evaluate": "Evaluation"}  # by kinds of jobs
TREE = "zarr.json"  # what a folder of OME-Zarr has at its top
PLATFORM = "overtile-platform"  # among the versions of software

Entity = dict[str, Any]  # one node of the graph
Described = Mapping[str, Any]  # a part of the manifest


def describe_crate(manifest: Described) -> Entity:
    """The content of `ro-crate-metadata.json`, JSON-LD, from a job's manifest and nothing else.

    A file's `@id` is the path under which the SDK stores it. A folder of OME-Zarr is one Dataset, whatever is in it;
    the images that were worked on lie outside of the crate, and are known by the hash of their bytes.
    """
    job, spec = manifest["job"], manifest["spec"]
    parts = [*_describe_results(manifest["artifacts"])]
    images = [*_describe_images(manifest["images"])]
    dataset = _describe_dataset(spec["dataset_version"], images)
    masks = [*_describe_images(_list_masks(manifest["images"], {image["@id"] for image in images}))]
    parameters = [*_describe_parameters(spec["parameters"])]
    parameters += _describe_parameters(spec.get("compared", {}).get("parameters", {}), "compared.")
    instruments = [_describe_platform(manifest["software"]), *_describe_models(spec)]
    action = {
        **_describe_run(job, manifest["images"]),
        "instrument": _refer(instruments),
        "object": _refer([dataset, *images, *masks, *parameters]),
        "result": _refer(parts),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": action["name"],
        "description": _tell(manifest["images"]),
        "datePublished": _find_end(job),
        "conformsTo": {"@id": PROFILE},
        "hasPart": _refer(parts),
        "mentions": {"@id": action["@id"]},
    }
    about = [_describe_file(), root, {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate"}]
    things = [*instruments, dataset, *parts, *images, *masks, *parameters]
    return {"@context": CONTEXT, "@graph": [*about, action, *things]}


def _describe_file() -> Entity:
    """The metadata about the metadata, as the specification asks for it."""
    return {"@id": NAME, "@type": "CreativeWork", "conformsTo": {"@id": SPECIFICATION}, "about": {"@id": "./"}}


def _describe_run(job: Described, images: Sequence[Described]) -> Entity:
    """The run itself: failed if nothing came of it, completed if some images failed."""
    failed = [image for image in images if image["state"] == "failed"]
    run: Entity = {
        "@id": f"urn:uuid:{job['id']}",
        "@type": "CreateAction",
        "name": f"{DEEDS.get(job['kind'], job['kind'].capitalize())} of {_count(_count_images(images), 'image')}",
        "startTime": job.get("started_at") or job["created_at"],
        "endTime": _find_end(job),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    if failed and len(failed) == len(images):
        run["actionStatus"] = {"@id": "http://schema.org/FailedActionStatus"}
    if failed:
        run["error"] = [_name_cause(image) for image in failed]
    return run


def _name_cause(image: Described) -> str:
    """Why an image failed; causes that come from its file begin with its name already."""
    name, detail = image["name"], (image["error"] or {}).get("detail", "no reason was given")
    return detail if detail.startswith(name) else f"{name}: {detail}"


def _find_end(job: Described) -> str:
    """When the results were there; of a manifest of before that was told, when they were ordered."""
    end: str = job.get("finished_at") or job["created_at"]
    return end


def _tell(images: Sequence[Described]) -> str:
    failed = _count_images([image for image in images if image["state"] == "failed"])
    told = f"{_count(_count_images(images), 'image')} from microscopy, segmented into objects by Overtile"
    return f"{told}; {failed} of them failed, the run says why" if failed else told


def _count_images(images: Sequence[Described]) -> int:
    """Each once, though two models that are compared have worked on it."""
    return len({image.get("image", image["name"]) for image in images})


def _describe_platform(software: Described) -> Entity:
    """Overtile with the libraries that touch pixels."""
    libraries = [f"{name} {version}" for name, version in software.items() if name != PLATFORM]
    return {
        "@id": "#overtile",
        "@type": "SoftwareApplication",
        "name": "Overtile",
        "softwareVersion": software.get(PLATFORM, "unknown"),
        "softwareRequirements": libraries,
    }


def _describe_models(spec: Described) -> Iterator[Entity]:
    """The model version, and the one that it was compared with; their weights are known by the hash of the graph."""
    models = [spec.get("model"), spec.get("compared", {}).get("model")]
    for model in {model["digest"]: model for model in models if model}.values():
        yield {
            "@id": _name_bytes(model["digest"]),
            "@type": "SoftwareApplication",
            "name": f"{model['name']}, version {model['version']}",
            "softwareVersion": str(model["version"]),
            "identifier": f"urn:uuid:{model['version_id']}",
            "sha256": model["digest"],
        }


def _describe_dataset(version: Described, images: Sequence[Entity]) -> Entity:
    return {
        "@id": f"#dataset-version-{version['id']}",
        "@type": "Dataset",
        "name": f"dataset version {version['number']}",
        "identifier": version["digest"],
        "hasPart": _refer(images),
    }


def _describe_images(images: Iterable[Described]) -> Iterator[Entity]:
    """Images or masks, each once, whatever it is called and however often it was worked on."""
    names: defaultdict[str, dict[str, Described]] = defaultdict(dict)
    for image in images:
        names[image["sha256"]][image.get("image", image["name"])] = image
    for digest, called in names.items():
        first, *others = called
        entity = {"@id": _name_bytes(digest), "@type": "MediaObject", "name": first, "sha256": digest}
        entity["contentSize"] = str(called[first]["bytes"])
        yield {**entity, "alternateName": others} if others else entity


def _list_masks(images: Sequence[Described], known: set[str]) -> Iterator[Described]:
    """Of which the bytes are known, those aside that are images themselves."""
    for mask in (mask for image in images for mask in image.get("masks", ())):
        if mask["sha256"] and _name_bytes(mask["sha256"]) not in known:
            yield mask


def _describe_parameters(parameters: Described, within: str = "") -> Iterator[Entity]:
    """Those that have a value; of groups each by itself, `group.name`."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _describe_parameters(value, f"{within}{name}.")
        elif value is not None:
            told = json.dumps(value) if isinstance(value, (list, tuple)) else value
            yield {"@id": f"#{within}{name}", "@type": "PropertyValue", "name": f"{within}{name}", "value": told}


def _describe_results(artifacts: Sequence[Described]) -> Iterator[Entity]:
    trees: defaultdict[str, list[Described]] = defaultdict(list)
    tops = _find_tops(artifact["name"] for artifact in artifacts)
    for artifact in artifacts:
        top = _find_top(artifact["name"], tops)
        if top is None:
            yield _describe_result(artifact)
        else:
            trees[top].append(artifact)
    yield from (_describe_tree(top, content) for top, content in trees.items())


def _describe_result(artifact: Described) -> Entity:
    entity = {
        "@id": quote(artifact["name"]),
        "@type": "File",
        "name": PurePosixPath(artifact["name"]).name,
        "description": artifact["kind"],
        "contentSize": str(artifact["bytes"]),
        "sha256": artifact["sha256"],
    }
    media_type = artifact.get("media_type")
    return {**entity, "encodingFormat": media_type} if media_type else entity


def _describe_tree(top: str, content: Sequence[Described]) -> Entity:
    size = sum(artifact["bytes"] for artifact in content)
    told = f"OME-Zarr of {_count(len(content), 'object')}, {size} bytes; manifest.json has the hash of each"
    return {"@id": f"{quote(top)}/", "@type": "Dataset", "name": PurePosixPath(top).name, "description": told}


def _find_tops(names: Iterable[str]) -> set[str]:
    """The folders that have a `zarr.json`; those inside of others as well."""
    return {str(path.parent) for path in map(PurePosixPath, names) if path.name == TREE}


def _find_top(name: str, tops: set[str]) -> str | None:
    """The outermost of these folders that a file lies in."""
    above = [str(folder) for folder in PurePosixPath(name).parents if str(folder) in tops]
    return above[-1] if above else None


def _name_bytes(sha256: str) -> str:
    """The name of those very bytes, wherever they lie (RFC 6920)."""
    return f"ni:///sha-256;{urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip('=')}"


def _refer(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
