"""`ray job submit --working-dir . -- python -m ray_jobs.pipeline CONFIG`: every stage."""

from codelm.on_ray.job import main

if __name__ == "__main__":
    main(None)
