"""The worker: folds what the streams hold into windows and snapshots. Stands on `lso_core`, never sees `api`."""
