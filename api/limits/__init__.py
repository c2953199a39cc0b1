"""What a caller may cost: bytes, time and memory."""
