//! What people type: one file a verb.
