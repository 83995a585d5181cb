"""What is written: streams and bundles."""
