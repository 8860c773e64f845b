"""The workers of a training whose controller is gone: they and their CPUs stay until somebody frees them.

Ray Train has a cleaner for that, an actor that asks the dashboard whether the training is still there. Where the
dashboard does not answer in time, as on a busy machine, the cleaner gives up. So the workers leave word of their
placement group, and who knows that the controller is gone removes it.
"""

import pyarrow.fs as pafs
import ray
from ray._raylet import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from codelm.run_dir import write_whole


def note_group(fs: pafs.FileSystem, path: str) -> None:
    """Leave word of the placement group of this training. All workers call it."""
    from ray.train import get_context

    group = ray.util.get_current_placement_group()
    if group is not None and get_context().get_world_rank() == 0:
        write_whole(fs, path, group.id.hex())


def free_group(fs: pafs.FileSystem, path: str) -> None:
    """Remove the workers that there is word of, and what is reserved for them; nothing where there is no word."""
    group = read_note(fs, path)
    if group:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
        fs.delete_file(path)


def read_note(fs: pafs.FileSystem, path: str) -> str | None:
    """What a note says; None where there is none."""
    try:
        with fs.open_input_stream(path) as source:
            return bytes(source.read()).decode()
    except FileNotFoundError:
        return None
