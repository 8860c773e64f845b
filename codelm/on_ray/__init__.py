"""The shell: the only part of codelm that imports Ray, one module for each stage."""

import os

# A raylet warns of every few processes that a sweep needs. Ray reads this when it is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker processes have been started on node")
