"""Data sets from the network: fetched, checked, unpacked."""
