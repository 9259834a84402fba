"""Packages of npm for tests that run Node, kept outside the checkout like the Python environments."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest


def modules(folder: pathlib.Path) -> pathlib.Path:
    """node_modules as the lock file of a folder says."""
    if not shutil.which("npm"):
        pytest.fail("no npm here; these tests need Node 20 or newer with npm")
    lock = folder / "package-lock.json"
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    root = pathlib.Path(os.environ.get("SCONCE_CACHE") or pathlib.Path(home) / "sconce")
    place = root / f"{folder.name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (place / "ready").exists():
        place.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, place)
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=place, check=True, capture_output=True)
        (place / "ready").touch()
    return place / "node_modules"
