"""A zip archive to a folder that is whole, or not there."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm.auto import tqdm

__all__ = ["unpack"]


def unpack(archive: Path, folder: Path, verbose: int = 0) -> None:
    """Unpack a zip archive into a new folder, wholly or not at all.

    Parameters
    ----------
    archive : Path
        The archive.

    folder : Path
        A folder that does not exist yet. It appears when all is unpacked, so that one
        that is there is whole.

    verbose : int, default=0
        Above 0, show progress.

    Raises
    ------
    ValueError
        If the archive is damaged, or would write outside the folder. Nothing of it
        is left.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _refuse_outside(archive, members)
            progress = tqdm(
                members,
                desc=f"unpack {archive.name}",
                unit="file",
                disable=not verbose,
            )
            for member in progress:
                opened.extract(member, part)
        part.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"archive {str(archive)!r} cannot be unpacked ({error}), and nothing of it "
            "is kept: delete it, so that it is fetched again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_outside(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that zipfile would write elsewhere than it says."""
    for member in members:
        kinds = (PurePosixPath(member.filename), PureWindowsPath(member.filename))
        if any(path.anchor or ".." in path.parts for path in kinds):
            raise ValueError(
                f"archive {str(archive)!r} holds {member.filename!r}, which lies "
                "outside the folder to unpack into, and nothing of it is unpacked: "
                "delete it, it is not what was published"
            )
