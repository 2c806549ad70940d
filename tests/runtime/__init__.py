"""Real launches, as root, each in namespaces and cgroups of its own."""
