"""What any program needs: atomic files, the cache folder, the console, threads. Nothing medical."""
