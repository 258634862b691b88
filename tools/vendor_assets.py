"""Fetch the browser scripts that fxplain carries: ``python tools/vendor_assets.py`` (needs npm).

Each folder of vendored scripts has a ``packages.json`` that pins every package by version and by the
integrity hash of its tarball. A package's script and its licence are written beside it, as
``NAME.js`` and ``NAME.LICENSE``; a tarball with another hash is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    ROOT / "fxplain" / "html" / "assets" / "vendor",
    ROOT / "tests" / "assets",
    ROOT / "docs" / "assets",
)


def fetch(name: str, version: str, integrity: str, folder: Path) -> Path:
    """The tarball of a package, checked against its hash.

    Raises
    ------
    ValueError
        When it is not the tarball that was pinned.
    """
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--pack-destination", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tarball = folder / f"{name}-{version}.tgz"
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise ValueError(f"{name} {version} has the integrity sha512-{digest}, not {integrity}.")
    return tarball


def vendor(folder: Path) -> None:
    """Write the scripts and licences that a folder's ``packages.json`` names."""
    for package in json.loads((folder / "packages.json").read_text(encoding="utf-8")):
        name = package["name"]
        script = package.get("script", f"dist/{name}.min.js")
        with tempfile.TemporaryDirectory() as temporary:
            tarball = fetch(name, package["version"], package["integrity"], Path(temporary))
            with tarfile.open(tarball) as archive:
                for member, target in ((script, f"{name}.js"), ("LICENSE", f"{name}.LICENSE")):
                    file = archive.extractfile(f"package/{member}")
                    assert file is not None, f"{member} of {name} is no file"
                    (folder / target).write_bytes(file.read())
        print(f"{folder.relative_to(ROOT)}: {name} {package['version']}")


if __name__ == "__main__":
    for each in FOLDERS:
        vendor(each)
