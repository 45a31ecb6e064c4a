"""Watching a folder that a recorder fills."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sklearn_asd._cli.models import Model
from sklearn_asd._cli.recordings import assign_machines
from sklearn_asd._cli.verdicts import BLOCK, UNUSABLE, judge
from sklearn_asd._cli.watching import Heard, Watch
from sklearn_asd._utils.files import replacing
from sklearn_asd.audio.folders import describe_recordings
from sklearn_asd.monitoring.events import LogEntry
from sklearn_asd.monitoring.folder import FolderSource, FoundFile, Stamp, read_stamp

__all__ = ["WatchedFolder"]


class WatchedFolder:
    """A folder whose recordings are judged with a model."""

    def __init__(
        self, watch: Watch, folder: FolderSource, model: Model, options: dict[str, Any]
    ) -> None:
        self.watch = watch
        self.folder = folder
        self.model = model
        self.options = options

    def run(self, once: bool) -> None:
        """Look at the folder until a signal comes, or once."""
        stop = self.watch.stop
        if once:
            self.folder.find(self.watch.log.files)  # to see what changes
            self.watch.wait(self.options["settle"])
        self.watch.look_after_others()  # also what came between two watches
        while not stop.came:
            self._judge(self._find(once))
            if stop.came:
                break
            self.watch.check_silence()
            if once:
                break
            self.watch.wait(self.options["every"])

    def _find(self, once: bool) -> list[FoundFile]:
        trouble = f"{self.folder.folder} cannot be listed"
        try:
            files = self.folder.find(self.watch.log.files)
        except OSError as error:
            if once:
                raise
            self.watch.report_trouble(trouble, error)
            return []
        self.watch.end_trouble(trouble)
        return files

    def _judge(self, files: Sequence[FoundFile]) -> None:
        for start in range(0, len(files), BLOCK):
            if self.watch.stop.came:
                return
            self._judge_block(files[start : start + BLOCK])
            self.watch.look_after_others()

    def _judge_block(self, files: Sequence[FoundFile]) -> None:
        stamps = {file.path: file.stamp for file in files}
        unusable = {file.path: file.reason for file in files if file.reason}
        pattern = self.model.machine_from
        clips = describe_recordings(stamps, pattern, self.folder.folder)
        clips = assign_machines(clips, self.model, self.options["machine_id"])
        has_machine = set(clips.loc[clips["reason"] == "", "path"])
        for path, reason in unusable.items():
            clips.loc[clips["path"] == path, "reason"] = reason
        judged, _ = judge(self.model.detector, clips, self.model.pieces)
        heard = []
        for row in judged.itertuples():
            stamp = stamps[row.path]
            # A file that is gone, perhaps with its drive, was not judged.
            if row.verdict == UNUSABLE and read_stamp(row.path) != stamp:
                continue
            more = {"size": stamp.size, "mtime_ns": stamp.mtime_ns}
            says_something = row.path in has_machine and row.path not in unusable
            heard.append(Heard(_make_entry(row, stamp), more, says_something))
        self.watch.take(heard, self._save_sound)

    def _save_sound(self, entry: LogEntry, folder: Path) -> None:
        """Copy the recording of an alarm and those before it."""
        recent = self.watch.recent(entry.machine or "")
        first = (entry.time or 0.0) - self.options["before"]
        paths = [path for time, path in recent if time >= first]
        for number, path in enumerate([*paths, str(entry.path)]):
            if os.path.exists(path):
                target = folder / f"{number:02d}_{os.path.basename(path)}"
                with replacing(target) as file:
                    file.write(Path(path).read_bytes())


def _make_entry(row: Any, stamp: Stamp) -> LogEntry:
    """Give a row of `judge` the form of the log; its time is that of the file."""
    known = {
        name: None if pd.isna(value) or value == "" else value
        for name, value in row._asdict().items()
        if name in LogEntry.__dataclass_fields__
    }
    return LogEntry(**known | {"time": stamp.mtime_ns / 1e9})
