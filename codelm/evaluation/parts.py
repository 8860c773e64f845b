"""Files of one line an item, made batch by batch, so that an interrupted run goes on where it stopped.

A batch's lines are kept under `parts/` of the workspace until the stage is done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow.fs as pafs

Item = TypeVar("Item")
Todo = list[tuple[int, tuple[Item, ...]]]
"""Batches still to do, with their places."""
Work = Callable[[Todo[Item]], Iterator[tuple[int, str]]]
"""Makes the lines of batches, in any order, each with its batch's place."""


@dataclass(frozen=True)
class Parts:
    """A workspace in which files are made in batches.

    Attributes:
        fs: the file system of the workspace.
        workspace: its path.
    """

    fs: pafs.FileSystem
    workspace: str

    def make(self, name: str, items: Sequence[Item], size: int, work: Work[Item], report: Callable[[int], None]) -> str:
        """Make a file, asking `work` only for the batches that an interrupted run has not left.

        Args:
            name: the file's.
            items: in the order of their lines.
            size: items in a batch.
            work: makes the lines.
            report: told how many items are done, whenever there are more.

        Returns:
            The file's text.
        """
        batches = {start // size: tuple(items[start : start + size]) for start in range(0, len(items), size)}
        texts = {place: self._kept(name, place, len(batch)) for place, batch in batches.items()}
        done = {place: text for place, text in texts.items() if text is not None}
        report(sum(len(batches[place]) for place in done))
        todo = [(place, batch) for place, batch in batches.items() if place not in done]
        for place, text in work(todo) if todo else ():
            done[place] = text
            self.write(self._part(name, place), text)
            report(sum(len(batches[ready]) for ready in done))
        whole = "".join(done[place] for place in batches)
        self.write(name, whole)
        return whole

    def write(self, name: str, text: str) -> None:
        """Write a file of the workspace."""
        path = f"{self.workspace}/{name}"
        self.fs.create_dir(path.rpartition("/")[0], recursive=True)
        with self.fs.open_output_stream(path) as out:
            out.write(text.encode())

    def forget(self) -> None:
        """Remove the batches: the files are complete."""
        self.fs.delete_dir(f"{self.workspace}/parts")

    def _part(self, name: str, place: int) -> str:
        return f"parts/{name}-{place:06}"

    def _kept(self, name: str, place: int, lines: int) -> str | None:
        """A batch's lines from an interrupted run, unless they are missing or end in the middle."""
        path = f"{self.workspace}/{self._part(name, place)}"
        if self.fs.get_file_info(path).type == pafs.FileType.NotFound:
            return None
        with self.fs.open_input_stream(path) as source:
            text: str = source.read().decode()
        return text if text.count("\n") == lines else None
