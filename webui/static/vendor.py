"""Fetch the third-party files that the pages use, at pinned versions, into `vendor/`.

    python webui/static/vendor.py            fetch, check against vendor.lock.json, write vendor/
    python webui/static/vendor.py --update   the same, but write new hashes into vendor.lock.json
    python webui/static/vendor.py --check    only compare what is in vendor/ with the lock; no network

Needs `npm` (as the registry's client, nothing is built or run). The fetched files are committed, so that
neither running nor developing Slipway needs Node.js or a network. Icons become one SVG sprite that
holds only the ones listed here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VENDOR = HERE / "vendor"
LOCK = HERE / "vendor.lock.json"

# package -> (version, licence, {file in the package: file in vendor/})
PACKAGES: dict[str, tuple[str, str, dict[str, str]]] = {
    "htmx.org": (
        "2.0.11",
        "0BSD",
        {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "licences/htmx.txt"},
    ),
    "idiomorph": (
        "0.8.0",
        "0BSD",
        {"dist/idiomorph.min.js": "idiomorph.js", "LICENSE": "licences/idiomorph.txt"},
    ),
    "uplot": (
        "1.6.32",
        "MIT",
        {
            "dist/uPlot.iife.min.js": "uplot.js",
            "dist/uPlot.min.css": "uplot.css",
            "LICENSE": "licences/uplot.txt",
        },
    ),
    "@fontsource-variable/inter": (
        "5.3.0",
        "OFL-1.1",
        {
            "files/inter-latin-wght-normal.woff2": "inter-latin.woff2",
            "LICENSE": "licences/inter.txt",
        },
    ),
    "@fontsource-variable/jetbrains-mono": (
        "5.3.0",
        "OFL-1.1",
        {
            "files/jetbrains-mono-latin-wght-normal.woff2": "jetbrains-mono-latin.woff2",
            "LICENSE": "licences/jetbrains-mono.txt",
        },
    ),
    "@xterm/xterm": (
        "5.5.0",
        "MIT",
        {
            "lib/xterm.js": "xterm.js",
            "css/xterm.css": "xterm.css",
            "LICENSE": "licences/xterm.txt",
        },
    ),
    "@xterm/addon-fit": ("0.10.0", "MIT", {"lib/addon-fit.js": "xterm-fit.js"}),
    "lucide-static": ("1.62.0", "ISC", {"LICENSE": "licences/lucide.txt"}),
}

# name in our templates -> icon of lucide
ICONS = {
    "account": "circle-user",
    "add": "plus",
    "arrow-down": "arrow-down",
    "arrow-up": "arrow-up",
    "chevron-down": "chevron-down",
    "chevron-right": "chevron-right",
    "clear": "eraser",
    "close": "x",
    "container": "box",
    "copy": "copy",
    "check": "check",
    "cpu": "cpu",
    "danger": "octagon-alert",
    "disk": "hard-drive",
    "download": "download",
    "duplicate": "copy-plus",
    "edit": "pencil",
    "event": "history",
    "external": "external-link",
    "file": "file",
    "file-link": "file-symlink",
    "filter": "list-filter",
    "folder": "folder",
    "follow": "arrow-down-to-line",
    "host": "server",
    "image": "layers",
    "info": "info",
    "import": "upload",
    "key": "key-round",
    "kill": "zap",
    "logs": "scroll-text",
    "memory": "memory-stick",
    "menu": "menu",
    "moon": "moon",
    "more": "ellipsis",
    "network": "network",
    "operation": "list-checks",
    "overview": "layout-dashboard",
    "pause": "pause",
    "play": "play",
    "plug": "plug",
    "pull": "cloud-download",
    "remove": "trash-2",
    "restart": "rotate-cw",
    "search": "search",
    "settings": "settings",
    "shield": "shield-check",
    "sign-out": "log-out",
    "starter": "sparkles",
    "stop": "square",
    "sun": "sun",
    "system": "monitor",
    "tag": "tag",
    "terminal": "square-terminal",
    "time": "clock",
    "volume": "database",
    "warning": "triangle-alert",
    "wrap": "wrap-text",
}

# The minified builds of these set a global; one more line makes each a module. The type checker, which
# follows our imports, is to leave them alone.
EXPORTS = {
    "idiomorph.js": b"export { Idiomorph };\n",
    "uplot.js": b"export default uPlot;\n",
}
UNCHECKED = b"// @ts-nocheck\n"

SHAPES = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="accept new hashes into the lock")
    parser.add_argument("--check", action="store_true", help="compare files with the lock only")
    options = parser.parse_args()
    if options.check:
        return check()
    locked = json.loads(LOCK.read_text()) if LOCK.exists() else {"packages": {}}
    packages: dict[str, Any] = {}
    for name, (version, licence, files) in PACKAGES.items():
        archive, integrity = fetch(name, version)
        known = locked["packages"].get(name, {})
        if not options.update and known.get("integrity") != integrity:
            sys.stderr.write(f"{name}@{version}: hash differs from vendor.lock.json\n")
            return 1
        packages[name] = {"version": version, "licence": licence, "integrity": integrity}
        with tarfile.open(archive) as package:
            for source, target in files.items():
                content = member(package, source)
                if target in EXPORTS:
                    content = UNCHECKED + content + EXPORTS[target]
                write(VENDOR / target, content)
            if name == "lucide-static":
                write(VENDOR / "icons.svg", sprite(package))
    files_found = {
        str(path.relative_to(VENDOR)): digest(path)
        for path in sorted(VENDOR.rglob("*"))
        if path.is_file()
    }
    LOCK.write_text(json.dumps({"packages": packages, "files": files_found}, indent=2) + "\n")
    sys.stdout.write(f"{len(files_found)} files in {VENDOR.name}/\n")
    return 0


def fetch(name: str, version: str) -> tuple[Path, str]:
    """The package's archive, and its integrity string as npm reports it (and has checked)."""
    directory = tempfile.mkdtemp(prefix="slipway-vendor-")
    done = subprocess.run(
        ["npm", "pack", "--json", "--pack-destination", directory, f"{name}@{version}"],
        check=True,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)[0]
    archive = next(Path(directory).glob("*.tgz"))
    return archive, str(report["integrity"])


def member(package: tarfile.TarFile, path: str) -> bytes:
    """One file of an npm archive (everything in it lies below `package/`)."""
    content = package.extractfile(f"package/{path}")
    if content is None:
        raise FileNotFoundError(path)
    # Source maps are not shipped; the comment would make browsers ask for them.
    return re.sub(rb"\n?//# sourceMappingURL=\S+\s*$", b"\n", content.read())


def sprite(package: tarfile.TarFile) -> bytes:
    """One SVG with a `<symbol>` per icon of `ICONS`."""
    symbols = []
    for name, source in sorted(ICONS.items()):
        drawing = SHAPES.search(member(package, f"icons/{source}.svg").decode())
        if drawing is None:
            raise ValueError(f"icon {source} is not an SVG")
        shapes = " ".join(drawing[1].split())
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{shapes}</symbol>')
    body = "\n".join(symbols)
    return f'<svg xmlns="http://www.w3.org/2000/svg">\n{body}\n</svg>\n'.encode()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def check() -> int:
    """Do the committed files still have the hashes of the lock?"""
    locked: dict[str, str] = json.loads(LOCK.read_text())["files"]
    found = {
        str(path.relative_to(VENDOR)): digest(path) for path in VENDOR.rglob("*") if path.is_file()
    }
    wrong = sorted(
        path for path in locked.keys() | found.keys() if locked.get(path) != found.get(path)
    )
    for path in wrong:
        sys.stderr.write(f"differs from vendor.lock.json: {path}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
