"""The HTTP edge: decodes, validates and appends; answers from snapshots. Keeps no state that matters."""
