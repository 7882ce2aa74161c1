"""Read and write event files."""
