"""What an API process has computed beside it: merges of history and pages of events."""
