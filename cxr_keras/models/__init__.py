"""The networks: a registry, shared blocks, one module a family."""
