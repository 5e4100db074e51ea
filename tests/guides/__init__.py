"""The programs in docs/guides, run against a real system."""
