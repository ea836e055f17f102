"""Programs that measure runs, or break them on purpose, and print tables: python -m tools.NAME."""
