"""The side-by-side rig: starts proxies, loads them, reads their clocks, writes the tables."""
