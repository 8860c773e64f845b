"""What a run will take before it is made: tokens, FLOPs, hours, storage; and what it took in truth."""
