//! The live snapshot: which call goes where, right now.
