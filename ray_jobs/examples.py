"""`ray job submit --working-dir . -- python -m ray_jobs.examples CONFIG`."""

from codelm.on_ray.job import main

if __name__ == "__main__":
    main("examples")
