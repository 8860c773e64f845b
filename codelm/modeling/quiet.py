"""Keeps Transformers' progress bars and notes out of the terminal; its errors stay."""

import logging
import os

import torch
from transformers.utils.logging import disable_progress_bar


def quiet_transformers() -> None:
    """For the rest of this process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    disable_progress_bar()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed, which Transformers imports, warns otherwise
