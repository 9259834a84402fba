//! Files that people write, checked into a plan that the proxy can trust.
