//! Benches of sconce: what the stub driver, the load generator and the relay have in common.
//!
//! Nothing here is part of the product, and nothing of the product is used here: the rig must
//! find a fault of sconce's engine, so it speaks HTTP/2 with another engine (`h2`).

pub mod call;
pub mod caller;
pub mod clock;
pub mod envelope;
pub mod fault;
pub mod gate;
pub mod growth;
pub mod line;
pub mod message;
pub mod run;
pub mod soak;
pub mod socket;
pub mod storm;
pub mod tally;
pub mod target;
pub mod workload;
