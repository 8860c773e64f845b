"""Entry points for `ray job submit`: a few lines each."""
