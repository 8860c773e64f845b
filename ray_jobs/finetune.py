"""`ray job submit --working-dir . -- python -m ray_jobs.finetune CONFIG`."""

from codelm.on_ray.job import main

if __name__ == "__main__":
    main("finetune")
