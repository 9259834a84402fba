//! Sockets, tasks and time: where bytes move.
