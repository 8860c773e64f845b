"""The shell: the only part of codelm that imports Ray, one module for each stage."""
