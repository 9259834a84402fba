//! Benches of sconce.
