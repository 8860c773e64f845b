"""`ray job submit --working-dir . -- python -m ray_jobs.sweep CONFIG`."""

from codelm.on_ray.job import main

if __name__ == "__main__":
    main("sweep")
