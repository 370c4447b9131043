"""Block files found by name, folder or pattern, never outside the folders that are allowed."""

import glob
import logging
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

from arraycal.config.errors import ConfigurationError

__all__ = [
    "CORRECTED_SUFFIX",
    "absolute",
    "find_blocks",
    "fixed_part",
    "from_here",
    "inside",
    "matches",
    "search",
]

log = logging.getLogger("arraycal.flows")

#: What is taken from a folder: the first pattern that finds anything.
FOLDER_PATTERNS = (("*.dl2.h5", "*.dl2.hdf5"), ("*.h5", "*.hdf5"))
#: End of the name of a file with the corrected values of a block.
CORRECTED_SUFFIX = ".corrected.h5"
#: Our own products, which may lie in the same folder.
PRODUCTS = ("monitoring.h5", "lookup.h5")
#: Part of a pattern that stands for any folders, also none; so many of them make sense.
ANY, MAX_ANY_FOLDERS = "**", 2
#: Characters of a list of files in a message.
MAX_LISTED = 200


def find_blocks(texts: Iterable[str], root: Path | None = None) -> tuple[Path, ...]:
    """Find the block files.

    Parameters
    ----------
    texts : iterable of str
        Files, folders and patterns. Of a folder, ``*.dl2.h5`` are taken, or all HDF5 files if
        there are none.
    root : Path, optional
        Folder that relative texts start from and that no file may lie outside of, wherever
        symbolic links lead. By default the current folder, and no limit.

    Returns
    -------
    tuple of Path
        Absolute, sorted within each text, without repetitions.

    Raises
    ------
    ConfigurationError
        If nothing is found or something lies outside.
    """
    texts = list(texts)
    found: dict[Path, Path] = {}
    for text in texts:
        paths, refused = search(text, root)
        for reason in refused.values():
            raise ConfigurationError(reason)
        if not paths:
            log.warning("no block file matches %s", text)
        for path in paths:
            found.setdefault(path.resolve(), path)
    if not any(path.exists() for path in found):
        raise ConfigurationError(
            f"no block file matches {', '.join(texts)}; "
            "expected DL2 files, folders with *.dl2.h5 or *.h5, or patterns such as 'night/*.h5'"
            + _passed_over(texts, root)
        )
    return tuple(found.values())


def _passed_over(texts: Iterable[str], root: Path | None) -> str:
    """Say that folders hold our own products only, if they do."""
    root = absolute(root)
    places = [inside(text, root, "data_root", pattern=glob.has_magic(text)) for text in texts]
    folders = [place for place in places if place.is_dir()]
    own = sorted(file.name for folder in folders for file in folder.iterdir() if _is_product(file))
    if not own:
        return ""
    return (
        f". Results of a calibration and corrected values (*{CORRECTED_SUFFIX}) are no blocks and "
        f"were left out: {shorten(', '.join(own), MAX_LISTED, placeholder=' ...')}"
    )


def search(text: str, root: Path | None = None) -> tuple[list[Path], dict[Path, str]]:
    """Find the files that a text stands for.

    Parameters
    ----------
    text : str
        A file, a folder or a pattern; a name that does not exist stands for itself.
    root : Path, optional
        As of `find_blocks`.

    Returns
    -------
    found : list of Path
        Files inside the root.
    refused : dict of Path to str
        Why others may not be read. A link that leads out of the root stands for all behind it.

    Raises
    ------
    ConfigurationError
        If the text itself names a place out of the root, or nobody can look for it.
    """
    root = absolute(root)
    link = _link_before_wildcards(text, root)
    if link is not None:
        return [], {link: _refusal(link, root)}
    found: list[Path] = []
    refused: dict[Path, str] = {}
    for file in _expand(text, root):
        outside = _way_out(file, root)
        if outside is None:
            found.append(file)
        elif outside not in refused:
            refused[outside] = _refusal(outside, root)
    return found, refused


def _expand(text: str, root: Path | None) -> list[Path]:
    """Files that a text stands for, wherever they lead."""
    path = inside(text, root, "data_root", pattern=glob.has_magic(text))
    try:
        is_pattern = glob.has_magic(text) and not path.exists()
        found = sorted(matches(path)) if is_pattern else [path]
        return [file for item in found for file in (_folder(item) if item.is_dir() else [item])]
    except OSError as error:  # a name that is too long, a folder that may not be searched
        raise ConfigurationError(f"cannot look for {text}: {error.strerror}") from None


def _link_before_wildcards(text: str, root: Path | None) -> Path | None:
    """Link out of the root among the folders that a text names; None if it names none."""
    if root is None or "\0" in text or ".." in Path(text).parts:
        return None
    path = fixed_part(root / text)
    return _way_out(path, root) if path.is_relative_to(root) else None


def _way_out(file: Path, root: Path | None) -> Path | None:
    """Where the way to a file first leads out of the root: a link, or the file; None if nowhere."""
    if not _refusal(file, root):
        return None
    above = [path for path in reversed(file.parents) if root and path.is_relative_to(root)]
    return next((path for path in above if _refusal(path, root)), file)


def _refusal(path: Path, root: Path | None) -> str:
    """Why a path may not be read; empty if it may."""
    try:
        inside(str(path), root, "data_root")
    except ConfigurationError as error:
        if not path.is_symlink():
            return str(error)
        place = "" if path.exists() else ", which is not there"
        return f"{error} ({path.name} is a link to {path.readlink()}{place})"
    return ""


def matches(pattern: Path) -> Iterator[Path]:
    """Files and folders that match a pattern, in no order; ``**`` stands for any folders.

    Raises
    ------
    ConfigurationError
        If it has more than `MAX_ANY_FOLDERS` of these that do not follow each other.
    """
    before = ("", *pattern.parts)
    parts = [part for last, part in pairwise(before) if not last == part == ANY]
    if parts.count(ANY) > MAX_ANY_FOLDERS:
        raise ConfigurationError(
            f"{pattern}: the pattern has more than {MAX_ANY_FOLDERS} parts ** and would be looked "
            "for in every way; write the folders between them"
        )
    yield from _below(Path(), parts)


def _below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    first = parts.index(ANY) if ANY in parts else len(parts)
    before, after = parts[:first], parts[first + 1 :]
    # Path.glob finds hidden files, and takes a relative pattern only.
    found = [folder]
    if before:
        names = glob.iglob(str(Path(*before)), root_dir=folder)  # noqa: PTH207
        found = [folder / name for name in names]
    if first == len(parts):
        yield from found
        return
    visited: set[tuple[int, int]] = set()
    for base in found:
        for below in _folders(base, visited):
            if after:
                yield from _below(below, after)
            else:
                yield from (below, *(path for path in _visible(below) if not path.is_dir()))


def _folders(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield a folder and all in it, also by links, each once: links may lead back."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            state = here.stat()
        except OSError:
            continue
        if not stat.S_ISDIR(state.st_mode) or (state.st_dev, state.st_ino) in visited:
            continue
        visited.add((state.st_dev, state.st_ino))
        yield here
        waiting += sorted(_visible(here), reverse=True)


def _visible(folder: Path) -> list[Path]:
    """What is in a folder and not hidden; nothing in one that may not be read."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _folder(folder: Path) -> list[Path]:
    for patterns in FOLDER_PATTERNS:
        files = [
            file
            for pattern in patterns
            for file in folder.glob(pattern)
            if not file.name.startswith(".") and not _is_product(file)
        ]
        if files:
            return sorted(files)
    return []


def _is_product(file: Path) -> bool:
    return file.name in PRODUCTS or file.name.endswith(CORRECTED_SUFFIX)


def absolute(root: Path | None) -> Path | None:
    """Follow the links of a root, if there is one."""
    return None if root is None else root.resolve()


def from_here(text: str, root: Path | None) -> str:
    """Make a path absolute that means something in the current folder: the shell's tab key did.

    Anything else is left to start from the data folder of the machine.
    """
    here = Path(text).expanduser()
    exists = here.exists() or (glob.has_magic(text) and any(matches(here)))
    return str(here.absolute()) if exists or root is None else text


def inside(text: str, root: Path | None, name: str, *, pattern: bool = False) -> Path:
    """Make a path absolute and, if there is a root, refuse one that leads out of it.

    Of a pattern, only the part before the first wildcard can be followed before the search.
    """
    if "\0" in text:
        raise ConfigurationError(f"{text!r} is no path, it contains a null character")
    if root is None:
        return Path.cwd() / Path(text).expanduser()
    path = root / text
    if pattern and ".." in path.parts:
        raise ConfigurationError(f"{text}: a pattern must not contain '..'")
    if not _followed(path, pattern=pattern).is_relative_to(root):
        raise ConfigurationError(
            f"{text} lies outside {root}, the only folder that this machine allows "
            f"(ARRAYCAL_{name.upper()}); move it there, or have the setting changed"
        )
    return path


def _followed(path: Path, *, pattern: bool) -> Path:
    """Where a path leads when all symbolic links are followed."""
    if pattern:
        path = fixed_part(path)
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise ConfigurationError(f"cannot follow {path}: {error}") from None


def fixed_part(path: Path) -> Path:
    """Part of a path before its first wildcard or date of a night."""
    magic = (n for n, part in enumerate(path.parts) if glob.has_magic(part) or "{night" in part)
    return Path(*path.parts[: next(magic, None)])
