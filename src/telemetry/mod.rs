//! Metric names, logs.
