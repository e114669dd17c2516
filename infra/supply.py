"""What the images are made of: `python infra/supply.py licences|sbom|audit`.

licences  writes licences.csv from the metadata of what is installed in this checkout's environments
sbom      writes a CycloneDX bill of materials for each image into build/sbom
audit     asks the OSV service about every locked package; without the service it says so and passes
"""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "infra" / "locks"
LICENCES = ROOT / "infra" / "licences.csv"
UNREAD = "not read"
"""Of what is installed in no environment here: the image for GPUs alone may have such."""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_AUDITOR = ("api.osv.dev", 443)
_PERMISSIVE = {
    *("MIT", "MIT-0", "MIT-CMU", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "PSF-2.0"),
    *("Python-2.0", "Zlib", "CC0-1.0", "Unlicense", "BSL-1.0", "CNRI-Python", "Apache-2.0 WITH LLVM-exception"),
}
REVIEWED = {
    "async-timeout": "Apache-2.0; for Python before 3.11.3 only",
    "certifi": "MPL-2.0: a file of certificates, unchanged",
    "pathspec": "MPL-2.0: used unchanged",
    "psycopg": "LGPL-3.0: imported, unchanged, replaceable",
    "psycopg-binary": "LGPL-3.0: as psycopg, with libpq (PostgreSQL licence)",
    "pycountry": "LGPL-2.1: imported, unchanged, replaceable",
    "python-dateutil": "Apache-2.0 or BSD-3-Clause, as one likes",
    "supervisor": "BSD-derived, of the Repoze project",
    "tld": "of three licences MPL-1.1: used unchanged",
    "tqdm": "MPL-2.0 and MIT: used unchanged",
}
"""What asks for more than to be named, or does not say it in SPDX, and why it may be shipped."""
_SPDX = {
    "MIT License": "MIT",
    "ISC License": "ISC",
    "BSD License": "BSD",
    "New BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "The BSD 2-Clause License": "BSD-2-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What authors write, as SPDX spells it; plain BSD where they do not say which."""


@dataclass(slots=True)
class Package:
    """One package of the locks."""

    name: str
    version: str
    images: list[str] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    licence: str = UNREAD


def locked() -> dict[tuple[str, str], Package]:
    """Every package by name and version, with the images that hold it."""
    found: dict[tuple[str, str], Package] = {}
    for lock in sorted(LOCKS.glob("*.txt")):
        for package in _pins(lock):
            key = (package.name, package.version)
            found.setdefault(key, package).images.append(lock.stem)
    return dict(sorted(found.items()))


def _pins(lock: Path) -> Iterator[Package]:
    package = None
    for line in lock.read_text().splitlines():
        if pin := _PIN.match(line):
            if package is not None:
                yield package
            package = Package(normal(pin[1]), pin[2])
        elif package is not None and (one := _HASH.search(line)):
            package.sha256.append(one[1])
    if package is not None:
        yield package


def normal(name: str) -> str:
    """As PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(found: Distribution) -> str:
    """The SPDX expression its authors gave; else their short text, else the classifiers."""
    told = found.metadata
    kinds = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or () if one.startswith("License")]
    text = (told.get("License") or "").strip()
    said = told.get("License-Expression") or (text if 0 < len(text) < 80 else "") or " AND ".join(kinds) or UNREAD
    return _SPDX.get(said, said)


def is_permissive(licence: str) -> bool:
    """Of an SPDX expression: for each part that is needed, a choice that asks for no more than to be named."""
    needed = licence.replace("(", "").replace(")", "").split(" AND ")
    return all(any(choice in _PERMISSIVE for choice in part.split(" OR ")) for part in needed)


def listed() -> dict[tuple[str, str], Package]:
    """What licences.csv says."""
    with LICENCES.open(newline="") as file:
        return {
            (row["package"], row["version"]): Package(
                row["package"], row["version"], row["images"].split(), [], row["licence"]
            )
            for row in csv.DictReader(file)
        }


def write_licences() -> None:
    places = [str(path) for path in ROOT.glob(".venv*/lib/python3*/site-packages")]
    installed = {normal(one.metadata["Name"]): licence_of(one) for one in distributions(path=places)}
    with LICENCES.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["package", "version", "licence", "images"])
        for one in locked().values():
            rows.writerow([one.name, one.version, installed.get(one.name, UNREAD), " ".join(one.images)])


def bill(image: str) -> str:
    """The image's bill of materials, CycloneDX 1.6 in JSON."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    licences, make = listed(), LicenseFactory()
    bom = Bom()
    bom.metadata.component = Component(name=f"almanac-{image}", type=ComponentType.CONTAINER)
    for one in locked().values():
        if image in one.images:
            licence = licences[one.name, one.version].licence
            purl = PackageURL("pypi", None, one.name, one.version)
            bom.components.add(
                Component(
                    name=one.name,
                    version=one.version,
                    type=ComponentType.LIBRARY,
                    purl=purl,
                    bom_ref=str(purl),
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in one.sha256],
                    licenses=[] if licence == UNREAD else [make.make_from_string(licence)],
                )
            )
    bom.register_dependency(bom.metadata.component, list(bom.components))
    return JsonV1Dot6(bom).output_as_string(indent=1)


def images() -> list[str]:
    return sorted(lock.stem for lock in LOCKS.glob("*.txt"))


def write_bills() -> None:
    place = ROOT / "build" / "sbom"
    place.mkdir(parents=True, exist_ok=True)
    for image in images():
        (place / f"{image}.cdx.json").write_text(bill(image))
    print(f"{len(images())} bills of materials in {place.relative_to(ROOT)}")


def audit() -> int:
    """0: nothing is known against what is locked, or nobody could be asked; 1: something is."""
    try:
        socket.create_connection(_AUDITOR, timeout=5).close()
    except OSError as error:
        print(f"not audited: {_AUDITOR[0]} cannot be reached ({error})")
        return 0
    known = False
    for image in images():
        command = ["-m", "pip_audit", "-s", "osv", "-r", str(LOCKS / f"{image}.txt"), "--disable-pip", "-f", "json"]
        done = subprocess.run(
            [sys.executable, *command, "--progress-spinner", "off"], capture_output=True, text=True, check=False
        )
        if not done.stdout.strip():
            print(f"not audited: {image}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
            continue
        for package in json.loads(done.stdout)["dependencies"]:
            for one in package.get("vulns", ()):
                known = True
                print(f"{image}: {package['name']} {package['version']}: {one['id']}, fixed in {one['fix_versions']}")
    return int(known)


def main(what: str) -> int:
    if what == "audit":
        return audit()
    {"licences": write_licences, "sbom": write_bills}[what]()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("licences", "sbom", "audit"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
