"""Other libraries: trackers, and callbacks for what trains. Each module by its full path, and its library with an extra."""
