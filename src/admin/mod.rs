//! What operators ask of a running sconce: health, readiness, metrics.
