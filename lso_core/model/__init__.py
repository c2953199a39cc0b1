"""The nouns of LSO and their own arithmetic. Imports nothing of the project but itself."""
