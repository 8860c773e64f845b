"""What `codelm submit` asks before it sends a job: the upload, the cluster, the demands. Without Ray, for speed."""
