"""The workers of a training whose controller is gone: they and their CPUs stay until somebody frees them.

Ray Train has a cleaner for that, an actor that asks the dashboard whether the training is still there. Where the
dashboard does not answer in time, as on a busy machine, the cleaner gives up. So the workers leave word of their
placement group, and who knows that the controller is gone removes it.
"""

import json

import pyarrow.fs as pafs
import ray
from ray._raylet import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from codelm.run_dir import read_json, write_whole

GROUP = "placement_group.json"
"""In a training's workspace: the id of what is reserved for its workers."""


def note_group(fs: pafs.FileSystem, workspace: str) -> None:
    """Leave word of the placement group of this training. All workers call it."""
    from ray.train import get_context

    group = ray.util.get_current_placement_group()
    if group is not None and get_context().get_world_rank() == 0:
        write_whole(fs, f"{workspace}/{GROUP}", json.dumps({"group": group.id.hex()}))


def free_group(fs: pafs.FileSystem, workspace: str) -> None:
    """Remove the workers that there is word of, and what is reserved for them; nothing where there is no word."""
    note = read_json(fs, f"{workspace}/{GROUP}")
    if note is not None:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(note["group"]))))
        fs.delete_file(f"{workspace}/{GROUP}")
