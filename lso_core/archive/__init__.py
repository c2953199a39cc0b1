"""The room that knows the warm tier: Parquet files, where they lie, and how they and the hot tier are read as one."""
