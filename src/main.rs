//! The `sconce` binary: builds every layer from the bottom up, waits for a signal, decides nothing.

fn main() {}
